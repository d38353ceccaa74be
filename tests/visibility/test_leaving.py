"""What others still read of an organisation that was suspended, or that left."""

import httpx
import pytest
from fastapi import FastAPI

from app.identity import organisations
from app.kinds import KINDS
from tests.conftest import MakeOrganisation
from tests.records.bodies import publishable

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("act", ["suspend", "leave"])
async def test_what_stays_of_an_organisation(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, act: str
) -> None:
    """Rule E4: suspended, its records stay as they were; having left, drafts and amber are withdrawn, the rest stays.

    Either way no token of it works any more, at once.
    """
    owner, named = await make_organisation(), await make_organisation("Example CSO B")
    issue = KINDS[0]
    urls = {}
    for name, changes in {
        "clear": {"tlp": "clear"},
        "green": {"tlp": "green"},
        "amber": {"tlp": "amber", "audience": [str(named.id)]},
        "strict": {"tlp": "amber+strict", "audience": [str(named.id)]},
        "draft": {"tlp": "clear", "status": "draft"},
    }.items():
        made = await client.post("/v1/issues", json=publishable(issue, **changes), headers=owner.headers)
        urls[name] = made.json()["url"]
    if act == "leave":
        left = await client.post("/v1/organisations/me/leave", json={"confirm": True}, headers=owner.headers)
        assert left.status_code == 200, left.text
    else:
        async with app.state.database.transaction() as connection:
            await organisations.suspend(connection, owner.id)
        app.state.identity.forget()
    for url in (*urls.values(), "/v1/issues", "/v1/me"):
        assert (await client.get(url, headers=owner.headers)).status_code == 401
    shared = 200 if act == "suspend" else 410
    for name, anonymous, member in (
        ("clear", 200, 200),
        ("green", 404, 200),
        ("amber", 404, shared),
        ("strict", 404, shared),
        ("draft", 404, 404),
    ):
        assert (await client.get(urls[name])).status_code == anonymous, name
        assert (await client.get(urls[name], headers=named.headers)).status_code == member, name
    listed = await client.get("/v1/issues?count=true", headers=named.headers)
    assert listed.json()["total"] == len(listed.json()["items"]) == (4 if act == "suspend" else 2)


async def test_a_revoked_credential_reads_nothing_at_once(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner = await make_organisation()
    made = await client.post("/v1/issues", json=publishable(KINDS[0], tlp="green"), headers=owner.headers)
    mine = await client.get("/v1/credentials", headers=owner.headers)
    credential = mine.json()["items"][0]["id"]
    revoked = await client.post(f"/v1/credentials/{credential}/revoke", headers=owner.headers)
    assert revoked.status_code in (200, 204), revoked.text
    for url in (made.json()["url"], "/v1/issues", "/v1/changes"):
        assert (await client.get(url, headers=owner.headers)).status_code == 401
