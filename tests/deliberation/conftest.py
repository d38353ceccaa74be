"""Fixtures of the deliberation tests: a community of nine organisations, and the worked example with seventeen."""

import httpx
import pytest

from tests.conftest import MakeOrganisation
from tests.deliberation.community import EXAMPLE_SIZES, Community, gather


@pytest.fixture
async def community(client: httpx.AsyncClient, make_organisation: MakeOrganisation) -> Community:
    """Two organisations in each of three regions, one in a fourth."""
    return await gather(client, make_organisation, {"AFR": 2, "LAC": 2, "EUR": 2, "MENA": 1})


@pytest.fixture
async def example(client: httpx.AsyncClient, make_organisation: MakeOrganisation) -> Community:
    """The seventeen organisations of the worked example."""
    return await gather(client, make_organisation, EXAMPLE_SIZES)
