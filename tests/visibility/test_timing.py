"""The time an answer takes does not tell a hidden record from a missing one (requirement V10). Run by hand, on a quiet
machine: `./minga test --slow`.
"""

from statistics import median
from time import perf_counter

import httpx
import pytest

from app.db.ids import new_id
from app.kinds import KINDS
from tests.conftest import MakeOrganisation
from tests.records.bodies import publishable

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ROUNDS = 300
MOST = 1.6


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["", "/versions"])
async def test_hidden_takes_as_long_as_missing(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, method: str, path: str
) -> None:
    owner, other = await make_organisation(), await make_organisation("Example CSO B")
    url = f"/v1/{KINDS[0].plural}"
    made = await client.post(url, json=publishable(KINDS[0], tlp="amber"), headers=owner.headers)
    times: dict[bool, list[float]] = {True: [], False: []}
    sent = {"json": {"title": "Other"}} if method == "PATCH" else {}
    for number in range(2 * ROUNDS):
        hidden = number % 2 == 0
        address = f"{url}/{made.json()['id'] if hidden else new_id()}{path}"
        begun = perf_counter()
        answer = await client.request(method, address, headers={**other.headers, "If-Match": '"1"'}, **sent)
        times[hidden].append(perf_counter() - begun)
        assert answer.status_code in (404, 405)
    ratio = median(times[True]) / median(times[False])
    assert 1 / MOST < ratio < MOST
