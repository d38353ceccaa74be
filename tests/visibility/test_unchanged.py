"""What happens to records hidden from X changes nothing that X can see: bytes, totals, cursors, validators (V3)."""

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.identity import networks
from app.kinds import KINDS
from app.records.kind import Kind
from tests.conftest import MakeOrganisation, Member
from tests.records.bodies import publishable

pytestmark = pytest.mark.anyio

LISTS = (
    "",
    "?limit=2",
    "?limit=2&count=true",
    "?limit=200&count=true&view=full",
    "?limit=3&sort=title",
    "?limit=3&sort=-updated_at&tlp=amber&count=true",
    "?limit=1&status=published&q=title",
    "?fields=id,title,version&limit=4",
)
IGNORED = {"date", "x-request-id"}


async def snapshot(
    client: httpx.AsyncClient, kind: Kind, headers: dict[str, str], records: list[dict[str, Any]], feed: str | None
) -> dict[str, Any]:
    """Every answer X can get about this kind and the records it may read; the feed's `next` is random and left out."""
    asked = [f"/v1/{kind.plural}{query}" for query in LISTS]
    for record in records:
        url = f"/v1/{kind.plural}/{record['id']}"
        asked += [url + path for path in ("", "/versions", "/versions/1", "/diff", "/backlinks", "?fields=title")]
    asked += ["/v1/organisations?limit=200&count=true", "/v1/networks?limit=200&count=true"]
    seen: dict[str, Any] = {}
    for url in asked:
        page: str | None = url
        number = 0
        while page:
            answer = await client.get(page, headers=headers)
            assert answer.status_code < 500
            kept = {name: value for name, value in answer.headers.items() if name not in IGNORED}
            body = answer.json()
            body.pop("request_id", None)
            seen[f"{url} {number}"] = (answer.status_code, kept, body)
            if "etag" in kept:
                again = await client.get(page, headers={**headers, "If-None-Match": kept["etag"]})
                assert again.status_code == 304, page
            page = body.get("next")
            number += 1
    if feed is not None:
        answer = (await client.get(feed, headers=headers)).json()
        seen["feed"] = (answer["items"], answer["more"], len(answer["next"]))
    return seen


async def settled(app: FastAPI) -> None:
    """Waits until the feed shows every change: transactions of other tests, on the same server, hold it back."""
    statement = "SELECT coalesce(max(xid) < pg_snapshot_xmin(pg_current_snapshot()), true) FROM revision"
    for _ in range(600):
        async with app.state.database.connection() as connection:
            row = await (await connection.execute(statement)).fetchone()
        if row is not None and row[0]:
            return
        await asyncio.sleep(0.05)
    raise TimeoutError("a transaction holds the feed back")


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
async def test_hidden_changes_change_nothing_for_others(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, kind: Kind
) -> None:
    owner, other, named = [await make_organisation(f"Example CSO {name}") for name in "ABC"]
    network = await make_organisation("Example network", network=True, kind="network")
    async with app.state.database.transaction() as connection:
        await networks.add_member_by_operator(connection, network.id, named.id)
    app.state.identity.forget()
    visible = []
    for tlp in ("clear", "green", "amber", "clear"):
        more = {"audience": [str(other.id)]} if tlp == "amber" else {}
        made = await client.post(f"/v1/{kind.plural}", json=publishable(kind, tlp=tlp, **more), headers=owner.headers)
        visible.append(made.json())

    async def act(record: dict[str, Any], method: str, path: str = "", body: Any = None, by: Member = owner) -> None:
        url = f"/v1/{kind.plural}/{record['id']}{path}"
        match = {**by.headers, "If-Match": f'"{record["version"]}"'}
        answer = await client.request(method, url, json=body, headers=match)
        assert answer.status_code == 200, answer.text
        record["version"] += 1

    readers: list[dict[str, str]] = [{}, other.headers]
    await settled(app)
    feeds: list[str | None] = [
        (await client.get("/v1/changes?limit=1000", headers=headers)).json()["next"] for headers in readers
    ]
    before = [
        await snapshot(client, kind, headers, visible, feed) for headers, feed in zip(readers, feeds, strict=True)
    ]
    hidden = []
    for changes in (
        {"tlp": "amber"},
        {"tlp": "amber+strict", "audience": [str(named.id)]},
        {"tlp": "amber", "audience": [str(network.id)]},
        {"tlp": "clear", "status": "draft"},
        {"tlp": "green", "status": "draft", "external_id": "x"},
    ):
        made = await client.post(
            f"/v1/{kind.plural}", json=publishable(kind, title="Title of the hidden", **changes), headers=owner.headers
        )
        assert made.status_code == 201, made.text
        hidden.append(made.json())
    for record in hidden:
        await act(record, "PATCH", body={"title": "Title changed"})
        await act(record, "DELETE")
        await act(record, "POST", "/restore")
    await act(hidden[0], "PATCH", body={"audience": [str(named.id)]})
    await act(hidden[1], "PATCH", body={"tlp": "amber", "audience": [str(network.id)]})
    await act(hidden[2], "POST", "/erase")
    await settled(app)
    after = [await snapshot(client, kind, headers, visible, feed) for headers, feed in zip(readers, feeds, strict=True)]
    for one, two in zip(before, after, strict=True):
        assert one.keys() == two.keys()
        for asked in one:
            assert one[asked] == two[asked], asked


async def test_a_referrer_hidden_from_the_reader_leaves_no_trace_on_its_target(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """A draft or amber record that refers to a public one changes neither the public one nor its backlinks."""
    owner, other = await make_organisation(), await make_organisation("Example CSO B")
    by_name = {kind.name: kind for kind in KINDS}
    made = await client.post("/v1/findings", json=publishable(by_name["finding"], tlp="clear"), headers=owner.headers)
    target = made.json()
    before = await snapshot(client, by_name["finding"], {}, [target], None)
    for changes in ({"tlp": "amber"}, {"tlp": "clear", "status": "draft"}, {"tlp": "amber+strict"}):
        body = publishable(by_name["issue"], findings=[target["id"]], **changes)
        assert (await client.post("/v1/issues", json=body, headers=other.headers)).status_code == 201
    assert await snapshot(client, by_name["finding"], {}, [target], None) == before
    own = await client.get(f"{target['url']}/backlinks", headers=owner.headers)
    assert own.json()["items"] == []
