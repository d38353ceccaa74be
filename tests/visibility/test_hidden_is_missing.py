"""Hidden = missing: no method, header or body tells a record one may not read from one that never was (V2, A13)."""

from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from app.db.ids import new_id
from app.identity.caller import SCOPES
from app.kinds import KINDS
from app.records.kind import Kind
from tests.conftest import MakeOrganisation, Member
from tests.records.bodies import publishable

pytestmark = pytest.mark.anyio
every_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])

PATHS = (
    "",
    "?fields=title",
    "?unknown=1",
    "/versions",
    "/versions/1",
    "/versions/9",
    "/versions/x",
    "/diff",
    "/diff?from=1&to=1",
    "/backlinks",
    "/readers",
    "/publish",
    "/restore",
    "/erase",
    "/quarantine",
    "/release",
    "/nothing",
)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
HEADERS: tuple[dict[str, str], ...] = (
    {},
    {"If-Match": '"1"'},
    {"If-Match": '"8"'},
    {"If-Match": "*"},
    {"If-None-Match": '"1"'},
    {"If-None-Match": "*"},
    {"Range": "bytes=0-1", "Accept": "text/html", "Accept-Language": "fr"},
    {"If-Modified-Since": "Mon, 01 Jan 2024 00:00:00 GMT", "Prefer": "return=minimal"},
)
OF_THE_REQUEST = {"date", "x-request-id"}


def told(answer: httpx.Response, record_id: str) -> tuple[int, dict[str, str], Any]:
    """All of an answer but what names the request."""
    assert answer.status_code < 500, answer.text
    headers = {name: value for name, value in answer.headers.items() if name not in OF_THE_REQUEST}
    body = answer.content
    if "json" in headers.get("content-type", "") and body:
        shown = answer.json()
        if isinstance(shown, dict):
            shown.pop("request_id", None)
        return answer.status_code, headers, shown
    assert record_id.encode() not in body
    return answer.status_code, headers, body


async def hidden_records(client: httpx.AsyncClient, owner: Member, kind: Kind) -> list[str]:
    """A draft, an amber record, an amber+strict one, a withdrawn draft, and one narrowed after it was public."""
    ids = []
    for changes in (
        {"status": "draft", "tlp": "clear"},
        {"tlp": "amber"},
        {"tlp": "amber+strict"},
        {"status": "draft", "tlp": "clear", "external_id": "mine"},
        {"tlp": "clear"},
    ):
        answer = await client.post(f"/v1/{kind.plural}", json=publishable(kind, **changes), headers=owner.headers)
        assert answer.status_code == 201, answer.text
        ids.append(answer.json()["id"])
    matched = {**owner.headers, "If-Match": '"1"'}
    assert (await client.delete(f"/v1/{kind.plural}/{ids[3]}", headers=matched)).status_code == 200
    narrowed = await client.patch(f"/v1/{kind.plural}/{ids[4]}", json={"tlp": "amber"}, headers=matched)
    assert narrowed.status_code == 200
    return ids


@every_kind
async def test_every_method_and_header_answers_as_for_a_missing_id(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, kind: Kind
) -> None:
    owner, other = await make_organisation(), await make_organisation("Example CSO B", scopes=SCOPES)
    hidden = await hidden_records(client, owner, kind)
    body = publishable(kind)
    for headers in ({}, other.headers):
        for method in METHODS:
            sent = {"json": body} if method in ("POST", "PUT", "PATCH") else {}
            for path in PATHS if kind is KINDS[0] else PATHS[::5]:
                for extra in HEADERS if path in ("", "/publish") else HEADERS[:2]:
                    answers = [
                        told(
                            await client.request(
                                method, f"/v1/{kind.plural}/{one}{path}", headers={**headers, **extra}, **sent
                            ),
                            one,
                        )
                        for one in (str(new_id()), *(hidden if method == "GET" else hidden[1::3]))
                    ]
                    assert all(one == answers[0] for one in answers), (method, path, extra, answers)
                    assert answers[0][0] >= 400, (method, path, extra)


async def test_a_record_of_another_kind_is_missing(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner = await make_organisation()
    issue = await client.post("/v1/issues", json=publishable(KINDS[0], tlp="clear"), headers=owner.headers)
    for path in PATHS:
        there = told(await client.get(f"/v1/cases/{issue.json()['id']}{path}", headers=owner.headers), "")
        missing = told(await client.get(f"/v1/cases/{uuid4()}{path}", headers=owner.headers), "")
        assert there == missing, path


async def test_ids_in_another_spelling_find_nothing_or_the_same(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """An id has one address; what is not an id at all is missing, not an error of its own."""
    owner = await make_organisation()
    made = await client.post("/v1/issues", json=publishable(KINDS[0], tlp="amber"), headers=owner.headers)
    found = made.json()["id"]
    braced = "{" + found + "}"
    for spelling in (found.upper(), found.replace("-", ""), braced, f"urn:uuid:{found}", f" {found}", "x", "%00"):
        for path in ("", "/versions", "/diff", "/backlinks", "/versions/1"):
            answer = await client.get(f"/v1/issues/{spelling}{path}")
            assert answer.status_code in (400, 404), (spelling, path)
            assert found not in answer.text


@every_kind
async def test_an_external_id_never_crosses_organisations(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, kind: Kind
) -> None:
    """The same external_id in use by another organisation and in use by nobody: the same answers (rule A13)."""
    owner, other = await make_organisation(), await make_organisation("Example CSO B")
    url = f"/v1/{kind.plural}/by-external-id"
    body = publishable(kind, tlp="clear", status="published")
    assert (await client.put(f"{url}/shared/1", json=body, headers=owner.headers)).status_code == 201
    for match in ({}, {"If-Match": '"1"'}):
        for given in (body, {"title": 3}):
            answers = []
            for name in ("shared/1", f"free{len(match)}{len(given)}"):
                answer = await client.put(
                    f"{url}/{name}", json={**given, "status": "draft"}, headers={**other.headers, **match}
                )
                answers.append((answer.status_code, answer.json().get("code"), answer.json().get("version")))
                if answer.status_code == 201:
                    await client.post(
                        f"/v1/{kind.plural}/{answer.json()['id']}/erase",
                        headers={**other.headers, "If-Match": '"1"'},
                    )
            assert answers[0] == answers[1], (match, given, answers)
    seen = await client.get(f"/v1/{kind.plural}", headers=other.headers)
    (public,) = seen.json()["items"]
    assert "external_id" not in public
    assert "audience" not in public


@every_kind
async def test_a_key_of_another_credential_replays_nothing(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, kind: Kind
) -> None:
    owner, other = await make_organisation(), await make_organisation("Example CSO B")
    body = publishable(kind, tlp="amber", title="Not for others")
    key = {"Idempotency-Key": "one-key"}
    first = await client.post(f"/v1/{kind.plural}", json=body, headers={**owner.headers, **key})
    again = await client.post(f"/v1/{kind.plural}", json=body, headers={**other.headers, **key})
    assert first.json()["id"] != again.json()["id"]
    assert "idempotency-replayed" not in again.headers


async def test_cache_headers_say_who_may_keep_what(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """Rule A12; also on 304, HEAD, lists, and versions of a record that is stricter now than then."""
    owner, other = await make_organisation(), await make_organisation("Example CSO B")
    urls = {}
    for tlp, more in (
        ("clear", {}),
        ("green", {}),
        ("amber", {"audience": [str(other.id)]}),
        ("amber+strict", {"audience": [str(other.id)]}),
    ):
        made = await client.post("/v1/issues", json=publishable(KINDS[0], tlp=tlp, **more), headers=owner.headers)
        urls[tlp] = made.json()["url"]
    shared, checked, never = "public, max-age=60", "private, no-cache", "private, no-store"

    async def control(url: str, headers: dict[str, str]) -> str:
        seen = set()
        for method, extra in (("GET", {}), ("HEAD", {}), ("GET", {"If-None-Match": "*"})):
            answer = await client.request(method, url, headers={**headers, **extra})
            assert {"authorization", "accept-language", "accept-encoding"} <= {
                part.strip().lower() for part in answer.headers["vary"].split(",")
            }
            seen.add(answer.headers["cache-control"])
        assert len(seen) == 1, (url, seen)
        return seen.pop()

    for tlp, anonymous, member in (
        ("clear", shared, checked),
        ("green", never, checked),
        ("amber", never, never),
        ("amber+strict", never, never),
    ):
        for path in ("", "/versions", "/versions/1", "/diff", "?fields=title"):
            assert await control(urls[tlp] + path, {}) == anonymous, (tlp, path)
            assert await control(urls[tlp] + path, other.headers) == member, (tlp, path)
    assert await control("/v1/issues", {}) == shared
    assert await control("/v1/issues", other.headers) == never
    assert await control("/v1/issues?tlp=green", other.headers) == checked
    narrowed = await client.patch(
        urls["clear"],
        json={"tlp": "amber", "audience": [str(other.id)]},
        headers={**owner.headers, "If-Match": '"1"'},
    )
    assert narrowed.status_code == 200
    for path in ("", "/versions/1", "/versions", "/diff?from=1&to=2"):
        assert await control(urls["clear"] + path, other.headers) == never, path
    old = await client.get(f"{urls['clear']}/versions/1", headers=other.headers)
    assert old.headers["tlp"] == "TLP:AMBER"
    for url in ("/v1/me", "/v1/credentials"):
        assert (await client.get(url, headers=owner.headers)).headers["cache-control"] == never
    bad = await client.get(urls["clear"], headers={"Authorization": "Bearer nothing"})
    assert (bad.status_code, bad.headers["cache-control"]) == (401, never)
