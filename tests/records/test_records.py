"""Machinery: what holds for every kind. Through HTTP, on a real PostgreSQL."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from app.kinds import KINDS
from app.records.kind import Kind
from tests.conftest import MakeOrganisation, Member
from tests.records.bodies import publishable

pytestmark = pytest.mark.anyio
every_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])


async def made(client: httpx.AsyncClient, owner: Member, kind: Kind, **changes: Any) -> dict[str, Any]:
    answer = await client.post(f"/v1/{kind.plural}", json=publishable(kind, **changes), headers=owner.headers)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


@every_kind
async def test_create_gives_201_location_etag_and_the_full_record(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, kind: Kind
) -> None:
    owner = await make_organisation()
    answer = await client.post(
        f"/v1/{kind.plural}", json=publishable(kind, status="draft", external_id="a/1"), headers=owner.headers
    )
    assert answer.status_code == 201, answer.text
    record = answer.json()
    assert answer.headers["location"] == record["url"] == f"http://minga.test/v1/{kind.plural}/{record['id']}"
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["tlp"] == f"TLP:{kind.default_tlp.upper()}"
    assert record["organisation"] == {"id": str(owner.id), "name": owner.name}
    assert record["kind"] == kind.name
    assert record["status"] == "draft"
    assert record["tlp"] == kind.default_tlp
    assert record["external_id"] == "a/1"
    assert record["version"] == 1
    again = await client.get(record["url"], headers=owner.headers)
    assert again.json() == record
    assert again.headers["etag"] == '"1"'
    assert (await client.get(record["url"])).status_code == 404


@every_kind
async def test_put_of_what_get_gave_changes_nothing(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, kind: Kind
) -> None:
    owner = await make_organisation()
    record = await made(client, owner, kind, tlp="green")
    answer = await client.put(record["url"], json=record, headers={**owner.headers, "If-Match": '"1"'})
    assert answer.status_code == 200, answer.text
    assert answer.json() == record
    changed = await client.put(
        record["url"], json={**record, "title": "Another title"}, headers={**owner.headers, "If-Match": '"1"'}
    )
    assert changed.status_code == 200
    assert changed.json()["version"] == 2
    assert changed.json()["created_at"] == record["created_at"]


@every_kind
async def test_withdraw_restore_publish_and_versions(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, kind: Kind
) -> None:
    owner, other = await make_organisation(), await make_organisation("Example CSO B")
    record = await made(client, owner, kind, tlp="green", status="draft")
    url = record["url"]
    assert (await client.get(url, headers=other.headers)).status_code == 404
    published = await client.post(f"{url}/publish", headers={**owner.headers, "If-Match": '"1"'})
    assert published.status_code == 200, published.text
    assert published.json()["status"] == "published"
    assert published.json()["published_at"]
    assert (await client.get(url, headers=other.headers)).json()["version"] == 2
    assert [v["version"] for v in (await client.get(f"{url}/versions", headers=other.headers)).json()["items"]] == [2]
    assert (await client.get(f"{url}/versions/1", headers=other.headers)).status_code == 404
    assert (await client.get(f"{url}/versions/1", headers=owner.headers)).status_code == 200
    gone = await client.delete(url, headers={**owner.headers, "If-Match": '"2"'})
    assert gone.status_code == 200
    for headers in (owner.headers, other.headers):
        answer = await client.get(url, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (410, "withdrawn")
    assert (await client.get(url)).status_code == 404
    assert (await client.get(f"{url}/versions", headers=other.headers)).status_code == 410
    listed = await client.get(f"/v1/{kind.plural}?status=withdrawn", headers=owner.headers)
    assert [item["id"] for item in listed.json()["items"]] == [record["id"]]
    assert (await client.get(f"/v1/{kind.plural}?status=withdrawn", headers=other.headers)).json()["items"] == []
    back = await client.post(f"{url}/restore", headers={**owner.headers, "If-Match": '"3"'})
    assert back.json()["status"] == "published"
    difference = await client.get(f"{url}/diff?from=2&to=4", headers=other.headers)
    assert difference.json() == {"from": 2, "to": 4, "changes": []}


@every_kind
async def test_an_old_version_of_a_relaxed_record_stays_closed(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, kind: Kind
) -> None:
    """Requirement V5."""
    owner, other = await make_organisation(), await make_organisation("Example CSO B")
    record = await made(client, owner, kind, tlp="amber", title="secret in v1")
    relaxed = await client.patch(
        record["url"], json={"tlp": "clear", "title": "public"}, headers={**owner.headers, "If-Match": '"1"'}
    )
    assert relaxed.status_code == 200, relaxed.text
    for headers in ({}, other.headers):
        assert (await client.get(record["url"], headers=headers)).json()["title"] == "public"
        assert (await client.get(f"{record['url']}/versions/1", headers=headers)).status_code == 404
        versions = await client.get(f"{record['url']}/versions", headers=headers)
        assert [version["version"] for version in versions.json()["items"]] == [2]
        assert (await client.get(f"{record['url']}/diff?from=1&to=2", headers=headers)).status_code == 404
        difference = await client.get(f"{record['url']}/diff", headers=headers)
        assert "secret" not in difference.text


@every_kind
async def test_preconditions(client: httpx.AsyncClient, make_organisation: MakeOrganisation, kind: Kind) -> None:
    owner, other = await make_organisation(), await make_organisation("Example CSO B")
    record = await made(client, owner, kind, tlp="green")
    url, body = record["url"], {"title": "New"}
    assert (await client.patch(url, json=body, headers=owner.headers)).json()["code"] == "precondition-required"
    stale = await client.patch(url, json=body, headers={**owner.headers, "If-Match": '"7"'})
    assert (stale.status_code, stale.json()["code"], stale.json()["current_version"]) == (412, "stale-version", 1)
    assert (await client.patch(url, json=body, headers={**other.headers, "If-Match": '"1"'})).status_code == 403
    assert (await client.patch(url, json=body, headers=other.headers)).status_code == 403
    hidden = await made(client, owner, kind, tlp="amber")
    for headers in (other.headers, {**other.headers, "If-Match": '"9"'}):
        for target in (hidden["url"], f"/v1/{kind.plural}/{uuid4()}"):
            assert (await client.patch(target, json=body, headers=headers)).status_code == 404
    assert (await client.get(url, headers={**other.headers, "If-None-Match": '"1"'})).status_code == 304
    assert (await client.get(url, headers={**other.headers, "If-None-Match": '"2"'})).status_code == 200


@every_kind
async def test_racing_patches_have_one_winner(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, kind: Kind
) -> None:
    """Requirement W2."""
    owner = await make_organisation()
    record = await made(client, owner, kind, tlp="green")
    answers = await asyncio.gather(
        *(
            client.patch(record["url"], json={"title": f"Try {n}"}, headers={**owner.headers, "If-Match": '"1"'})
            for n in range(50)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 49


@every_kind
async def test_pages_walk_everything_once_in_order(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, kind: Kind
) -> None:
    owner, other = await make_organisation(), await make_organisation("Example CSO B")
    made_ids = []
    for index in range(9):
        tlp = ("clear", "green", "amber")[index % 3]
        audience = {"audience": [str(other.id)]} if tlp == "amber" else {}
        record = await made(client, owner, kind, tlp=tlp, title=f"Title {index}", **audience)
        made_ids.append(record["id"])
    for sort in ("-created_at", "created_at", "-updated_at", "updated_at", "title", "-title"):
        for headers in (owner.headers, other.headers):
            url, seen = f"/v1/{kind.plural}?limit=2&sort={sort}&count=true", []
            while url:
                page = await client.get(url, headers=headers)
                assert page.status_code == 200, page.text
                assert page.json()["total"] == 9
                seen += [item["id"] for item in page.json()["items"]]
                url = page.json()["next"]
            assert seen == (made_ids[::-1] if sort.startswith("-") else made_ids), sort
    page = await client.get(f"/v1/{kind.plural}?limit=2&count=true")
    assert page.json()["total"] == 3
    cursor_url = page.json()["next"]
    assert (await client.get(cursor_url, headers=other.headers)).json()["code"] == "invalid-cursor"
    assert (await client.get(cursor_url[:-3] + "AAA")).json()["code"] == "invalid-cursor"
    assert f'<{cursor_url}>; rel="next"' == page.headers["link"]


@every_kind
async def test_erasing_leaves_no_content_anywhere(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, kind: Kind
) -> None:
    """Requirement O17: a marker is in no table any more."""
    owner = await make_organisation()
    body = publishable(kind, tlp="green", title="Markerword one", external_id="markerword-id")
    answer = await client.post(f"/v1/{kind.plural}", json=body, headers={**owner.headers, "Idempotency-Key": "key-1"})
    record = answer.json()
    erased = await client.post(f"{record['url']}/erase", headers={**owner.headers, "If-Match": '"1"'})
    assert erased.status_code == 200, erased.text
    assert (await client.get(record["url"], headers=owner.headers)).status_code == 410
    async with app.state.database.connection() as connection:
        tables = await (
            await connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ).fetchall()
        for (table,) in tables:
            rows = await (await connection.execute(f'SELECT t::text FROM "{table}" AS t')).fetchall()
            text = "\n".join(row[0] for row in rows).lower()
            assert "markerword" not in text, table
            assert b"markerword".hex() not in text, table
