"""Fixtures of the HTTP room: the small application and a look at its log."""

import logging
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from app.db.pool import Database
from app.http.log import JsonLines
from tests.http.small import Lines, small_client


@pytest.fixture
async def things(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with small_client(database) as client:
        yield client


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Every log line of the test, as JSON."""
    handler = Lines(JsonLines())
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler.lines
    root.removeHandler(handler)
    root.setLevel(before)
