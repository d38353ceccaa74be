"""The table of surfaces: every operation of the OpenAPI document, with the probe that attacks it or the reason why it
can show no record and no organisation.

A new operation fails `test_every_operation_has_its_place` until it is placed here. To place one: write a probe that
says what a principal learns of an entry (`open`, `gone` or `hidden`) and put it in `RECORD_SURFACES`; or give the
reason in `NO_RECORD`. `{plural}` stands for every kind.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx

from tests.visibility.model import GONE, HIDDEN, OPEN, access
from tests.visibility.world import Entry, Principal, World, expected

Probe = Callable[[World, Principal, Entry], Awaitable[str | None]]
"""What the principal learns of the entry; None where asking would change the world (the owner's own writes)."""

LISTS = (
    "?limit=200&count=true",
    "?limit=7",
    "?limit=200&view=full",
    "?limit=200&fields=id,title",
    "?limit=200&q=title",
    "?limit=200&tlp=amber&tlp=amber%2Bstrict&tlp=green&tlp=clear",
    "?limit=200&status=draft&status=published",
    "?limit=200&updated_since=2001-01-01T00:00:00Z",
    "?limit=9&sort=title",
    "?limit=200&sort=updated_at&language=en",
)
REFUSED = {401: HIDDEN, 404: HIDDEN, 410: GONE}


def learnt(answer: httpx.Response, entry: Entry) -> str:
    """What an answer about one record says of it; nothing but an answer that shows it may hold a word of it."""
    assert answer.status_code < 500, answer.text
    found = REFUSED.get(answer.status_code, OPEN)
    if found != OPEN:
        assert entry.word not in answer.text
        assert entry.external_id not in answer.text
    return found


def reading(path: str = "", *, method: str = "GET", **headers: str) -> Probe:
    async def probe(world: World, principal: Principal, entry: Entry) -> str:
        url = f"{world.url}/{entry.id}{path}"
        return learnt(await world.client.request(method, url, headers={**principal.headers, **headers}), entry)

    return probe


async def item(world: World, principal: Principal, entry: Entry) -> str:
    """GET and HEAD agree, with a validator that matches, one that does not, a range, and a field asked for."""
    url = f"{world.url}/{entry.id}"
    answers = [
        await world.client.request(method, url + query, headers={**principal.headers, **extra})
        for method, query, extra in (
            ("GET", "", {}),
            ("HEAD", "", {}),
            ("GET", "", {"If-None-Match": f'"{entry.version}"'}),
            ("GET", "", {"If-None-Match": "*", "Range": "bytes=0-3", "Accept": "text/csv"}),
            ("GET", "?fields=title", {"If-Match": '"99"'}),
        )
    ]
    found = {learnt(answer, entry) for answer in answers}
    assert len(found) == 1, [answer.status_code for answer in answers]
    (outcome,) = found
    if outcome == OPEN:
        assert answers[0].status_code == 200
        assert answers[2].status_code == 304
        assert answers[0].json()["id"] == entry.id
        own = _own(principal, entry)
        assert ("audience" in answers[0].json(), "external_id" in answers[0].json()) == (own, own)
    return outcome


async def listed(world: World, principal: Principal, entry: Entry) -> str:
    """An entry is in every list or in none; its own word finds it or nothing does."""
    key = ("lists", principal.name)
    if key not in world.remembered:
        world.remembered[key] = [await _walk(world, principal, query) for query in LISTS]
    inside = {entry.id in ids for ids in world.remembered[key]}
    assert len(inside) == 1, [query for query, ids in zip(LISTS, world.remembered[key], strict=True) if entry.id in ids]
    searched = await world.client.get(f"{world.url}?q={entry.word}&count=true", headers=principal.headers)
    if searched.status_code == 401:
        assert entry.word not in searched.text
        assert inside == {False}
        return HIDDEN
    found = searched.json()
    assert found["total"] == len(found["items"]) == int(inside == {True})
    withdrawn = await _walk(world, principal, "?limit=200&status=withdrawn", remember=True)
    gone = entry.marked.status == "withdrawn" and _own(principal, entry)
    assert (entry.id in withdrawn) == gone
    return OPEN if inside == {True} else HIDDEN


async def _walk(world: World, principal: Principal, query: str, *, remember: bool = False) -> set[str]:
    if remember and (principal.name, query) in world.remembered:
        kept: set[str] = world.remembered[principal.name, query]
        return kept
    ids: list[str] = []
    url: str | None = world.url + query
    while url:
        page = await world.client.get(url, headers=principal.headers)
        if page.status_code == 401:
            break
        assert page.status_code == 200, page.text
        found = page.json()
        ids += [one["id"] for one in found["items"]]
        url = found["next"]
        if "count=true" in query:
            assert found["total"] == len(found["items"])
    assert len(ids) == len(set(ids)), "an item came twice"
    world.remembered[principal.name, query] = set(ids)
    return set(ids)


async def versions(world: World, principal: Principal, entry: Entry) -> str:
    """Of a withdrawn record the owner alone keeps the versions; of an erased one nobody."""
    answer = await world.client.get(f"{world.url}/{entry.id}/versions", headers=principal.headers)
    found = learnt(answer, entry)
    if found == OPEN:
        numbers = [one["version"] for one in answer.json()["items"]]
        if entry.marked.status == "erased":
            assert numbers == []
            return GONE
        own = _own(principal, entry)
        assert numbers == sorted(numbers, reverse=True)
        assert set(numbers) <= set(range(1, entry.version + 1))
        assert len(numbers) == entry.version if own else numbers
        return GONE if entry.marked.status == "withdrawn" and own else OPEN
    return found


async def every_version(world: World, principal: Principal, entry: Entry) -> str:
    """No version, and no difference between any two, tells more than the record itself does."""
    own = _own(principal, entry)
    seen = set()
    for number in range(1, entry.version + 1):
        answer = await world.client.get(f"{world.url}/{entry.id}/versions/{number}", headers=principal.headers)
        seen.add(learnt(answer, entry))
        again = f"{world.url}/{entry.id}/diff?from={number}&to={entry.version}"
        compared = learnt(await world.client.get(again, headers=principal.headers), entry)
        assert compared != OPEN or OPEN in seen
    if entry.marked.status == "erased" and own:
        assert seen == {HIDDEN}
        return GONE
    if entry.marked.status == "withdrawn":
        assert own == (OPEN in seen)
        return GONE if own else seen.pop()
    return OPEN if OPEN in seen else seen.pop()


async def difference(world: World, principal: Principal, entry: Entry) -> str:
    found = learnt(await world.client.get(f"{world.url}/{entry.id}/diff", headers=principal.headers), entry)
    own = _own(principal, entry)
    if own and entry.marked.status == "erased":
        assert found == HIDDEN
        return GONE
    return GONE if own and entry.marked.status == "withdrawn" and found == OPEN else found


async def around(world: World, principal: Principal, entry: Entry) -> str:
    """Backlinks: as the record, but the owner may still ask what refers to a withdrawn one."""
    found = learnt(await world.client.get(f"{world.url}/{entry.id}/backlinks", headers=principal.headers), entry)
    own = _own(principal, entry)
    return GONE if own and entry.marked.status in ("withdrawn", "erased") and found == OPEN else found


async def readers(world: World, principal: Principal, entry: Entry) -> str:
    """Only the owner reads the readers; to another who may read the record the answer is 403, without them."""
    answer = await world.client.get(f"{world.url}/{entry.id}/readers", headers=principal.headers)
    found = learnt(answer, entry)
    if _own(principal, entry):
        assert answer.status_code == 200
        named = {*answer.json()["organisations"], *answer.json()["networks"]}
        assert named == {str(one) for one in entry.marked.audience}
        return GONE if entry.marked.status in ("withdrawn", "erased") else OPEN
    if principal.name == "anonymous":
        assert answer.status_code == 401
        return _as_the_record(world, principal, entry)
    assert answer.status_code in (401, 403, 404, 410)
    return found


def _as_the_record(world: World, principal: Principal, entry: Entry) -> str:
    """For answers that depend on the request alone: whatever the record is, the principal learnt nothing."""
    return expected(principal, entry)


def writing(method: str, path: str = "", body: Any = None, *, steward: bool = False) -> Probe:
    """A write by somebody else: 403 where it can be read, 410 where it is known to be gone, else 404; with any
    If-Match. Without a token, without the scope, the answer is the same for every record.
    """

    async def probe(world: World, principal: Principal, entry: Entry) -> str | None:
        own = _own(principal, entry)
        outcome = _as_the_record(world, principal, entry)
        quarantined = path == "/release" and entry.marked.status == "quarantined"
        if own or principal.name not in WRITERS:
            return None
        if steward and principal.name == "steward" and (outcome == OPEN or quarantined):
            return None
        url = f"{world.url}/{entry.id}{path}"
        seen = set()
        for match in ({}, {"If-Match": f'"{entry.version}"'}, {"If-Match": '"77"'}):
            answer = await world.client.request(method, url, json=body, headers={**principal.headers, **match})
            assert entry.word not in answer.text
            seen.add(answer.status_code)
        assert len(seen) == 1, seen
        (status,) = seen
        if principal.name == "anonymous" or not principal.who.welcome:
            assert status == 401
            return outcome
        if steward and principal.name != "steward":
            assert status == 403
            return outcome
        return {403: OPEN, 410: GONE, 404: HIDDEN}.get(status, f"status {status}")

    return probe


async def feed(world: World, principal: Principal, entry: Entry) -> str:
    """From its beginning the feed tells of what may be read now; from before the records were made, also that some
    are gone, but nothing of what this principal never could read.
    """
    key = ("feed", principal.name)
    if key not in world.remembered:
        fresh = await _follow(world, principal, "/v1/changes?limit=40&include=record")
        since = await _follow(world, principal, world.feeds.get(principal.name))
        world.remembered[key] = fresh, since
    fresh, since = world.remembered[key]
    assert fresh.get(entry.id, "upsert") == "upsert"
    assert (since.get(entry.id) == "upsert") == (entry.id in fresh)
    once = replace(entry.marked, status="published")
    if access(principal.who, once) == HIDDEN or not (entry.marked.was_published or _own(principal, entry)):
        assert entry.id not in since
    return OPEN if entry.id in fresh else HIDDEN


def exported(form: str) -> Probe:
    """Every row of an export, as the lists show them; nothing of a record is in the answer of who may not read it."""

    async def probe(world: World, principal: Principal, entry: Entry) -> str:
        key = (f"export {form}", principal.name)
        if key not in world.remembered:
            url = f"/v1/exports/{world.kind.plural}.{form}"
            answer = await world.client.get(url, headers=principal.headers)
            assert answer.status_code == (200 if principal.who.welcome or not principal.headers else 401), answer.text
            world.remembered[key] = answer.text if answer.status_code == 200 else ""
        text = world.remembered[key]
        assert (entry.word in text) == (entry.id in text)
        assert entry.external_id not in text or _own(principal, entry)
        return OPEN if entry.id in text else HIDDEN

    return probe


def _own(principal: Principal, entry: Entry) -> bool:
    return principal.who.organisation == entry.marked.owner


async def _follow(world: World, principal: Principal, url: str | None) -> dict[str, str]:
    """The last word of the feed on each id, up to its end."""
    found: dict[str, str] = {}
    while url:
        page = await world.client.get(url, headers=principal.headers)
        if page.status_code == 401:
            return {}
        assert page.status_code == 200, page.text
        for one in page.json()["items"]:
            found[one["id"]] = one["type"]
            assert one["type"] == "upsert" or "record" not in one
        url = page.json()["next"] if page.json()["more"] else None
    return found


WRITERS = {"anonymous", "stranger", "named", "insider", "former", "suspended", "steward"}
"""Principals that try to write; the others differ from these in what they read only."""

CHANGE: dict[str, Any] = {"title": "Taken over", "language": "en"}

RECORD_SURFACES: dict[tuple[str, str], Probe] = {
    ("GET", "/v1/{plural}"): listed,
    ("GET", "/v1/{plural}/{id}"): item,
    ("GET", "/v1/{plural}/{id}/versions"): versions,
    ("GET", "/v1/{plural}/{id}/versions/{number}"): every_version,
    ("GET", "/v1/{plural}/{id}/diff"): difference,
    ("GET", "/v1/{plural}/{id}/backlinks"): around,
    ("GET", "/v1/{plural}/{id}/readers"): readers,
    ("PUT", "/v1/{plural}/{id}"): writing("PUT", body=CHANGE),
    ("PATCH", "/v1/{plural}/{id}"): writing("PATCH", body=CHANGE),
    ("DELETE", "/v1/{plural}/{id}"): writing("DELETE"),
    ("POST", "/v1/{plural}/{id}/publish"): writing("POST", "/publish"),
    ("POST", "/v1/{plural}/{id}/restore"): writing("POST", "/restore"),
    ("POST", "/v1/{plural}/{id}/erase"): writing("POST", "/erase"),
    ("POST", "/v1/{plural}/{id}/quarantine"): writing("POST", "/quarantine", steward=True),
    ("POST", "/v1/{plural}/{id}/release"): writing("POST", "/release", steward=True),
    ("GET", "/v1/changes"): feed,
    ("GET", "/v1/exports/{plural}.ndjson"): exported("ndjson"),
    ("GET", "/v1/exports/{plural}.csv"): exported("csv"),
}

TELLS_NOT_OF_GOING = {
    ("GET", "/v1/{plural}"),
    ("GET", "/v1/changes"),
    ("GET", "/v1/exports/{plural}.ndjson"),
    ("GET", "/v1/exports/{plural}.csv"),
}
"""Surfaces that show what is there and are silent on what is gone."""

ORGANISATION_SURFACES = {
    ("GET", "/v1/organisations"),
    ("GET", "/v1/organisations/{organisation_id}"),
    ("GET", "/v1/networks"),
    ("GET", "/v1/networks/{network_id}"),
    ("GET", "/v1/networks/{network_id}/members"),
    ("POST", "/v1/networks/{network_id}/members"),
    ("POST", "/v1/networks/{network_id}/members/{organisation_id}/accept"),
    ("DELETE", "/v1/networks/{network_id}/members/{organisation_id}"),
}
"""Attacked in test_organisations.py."""

DELIBERATION_SURFACES = {
    ("GET", "/v1/issues/{id}/trail"),
    ("GET", "/v1/issues/{id}/endorsements"),
    ("PUT", "/v1/issues/{id}/endorsements/me"),
    ("DELETE", "/v1/issues/{id}/endorsements/me"),
    ("POST", "/v1/issue-lists/{id}/stage"),
    ("POST", "/v1/issue-lists/{id}/adopt"),
    ("GET", "/v1/issue-lists/{id}/diff/{other}"),
    ("GET", "/v1/issue-lists/{id}/rounds"),
    ("POST", "/v1/issue-lists/{id}/rounds"),
    ("GET", "/v1/rounds/{id}"),
    ("GET", "/v1/rounds/{id}/result"),
    ("GET", "/v1/rounds/{id}/ballots"),
    ("GET", "/v1/rounds/{id}/ballots/me"),
    ("PUT", "/v1/rounds/{id}/ballots/me"),
    ("DELETE", "/v1/rounds/{id}/ballots/me"),
    ("POST", "/v1/rounds/{id}/close"),
    ("POST", "/v1/charters/{id}/adopt"),
    ("GET", "/v1/actions/{id}/partners"),
    ("PUT", "/v1/actions/{id}/partners/me"),
    ("DELETE", "/v1/actions/{id}/partners/me"),
    ("POST", "/v1/actions/{id}/stage"),
    ("GET", "/v1/analysis/trends"),
    ("GET", "/v1/analysis/similarity"),
    ("GET", "/v1/analysis/gaps"),
}
"""Attacked in tests/deliberation: test_hidden.py, and test_analysis.py for what is counted."""

OWN = "speaks of the caller's own organisation only"
STEWARDS = "needs the scope steward, which sees every organisation and changes no record"
REFERENCE = "reference data of the package, the same for everybody"
GOVERNING = "settings of a charter that is clear, the same for everybody"
SERVICE = "speaks of the service, not of what is in it"
MESSAGES = "own webhooks; what messages may say is the feed's, and is attacked in tests/exchange/test_webhooks.py"
TOKENS = "tokens and credentials of the caller's own organisation"

NO_RECORD: dict[tuple[str, str], str] = {
    ("POST", "/v1/{plural}"): "creates; what it may refer to is attacked in test_references.py",
    ("PUT", "/v1/{plural}/by-external-id/{external_id}"): "own records only; attacked in test_hidden_is_missing.py",
    **{("GET", path): SERVICE for path in ("/", "/v1", "/docs", "/healthz", "/readyz", "/metrics")},
    **{("GET", path): SERVICE for path in ("/v1/openapi.json", "/problems/{code}")},
    **{
        ("GET", f"/.well-known/{name}"): SERVICE
        for name in ("api-catalog", "jwks.json", "oauth-authorization-server", "security.txt")
    },
    **{("POST", f"/oauth/{name}"): TOKENS for name in ("token", "revoke", "introspect")},
    **{("GET", path): TOKENS for path in ("/v1/credentials", "/v1/credentials/{credential_id}")},
    ("POST", "/v1/credentials"): TOKENS,
    ("DELETE", "/v1/credentials/{credential_id}"): TOKENS,
    ("POST", "/v1/credentials/{credential_id}/revoke"): TOKENS,
    ("POST", "/v1/credentials/{credential_id}/rotate"): TOKENS,
    **{("GET", path): OWN for path in ("/v1/me", "/v1/organisations/me", "/v1/audit-events")},
    ("PATCH", "/v1/organisations/me"): OWN,
    ("POST", "/v1/organisations/me/leave"): OWN,
    ("POST", "/v1/organisations/claim"): OWN,
    ("POST", "/v1/organisations"): STEWARDS,
    **{
        ("POST", f"/v1/organisations/{{organisation_id}}/{act}"): STEWARDS for act in ("invite", "suspend", "reinstate")
    },
    ("GET", "/v1/charters/in-force/settings"): GOVERNING,
    ("POST", "/v1/imports"): "creates and replaces through the store; attacked in tests/exchange/test_bulk.py",
    **{("GET", f"/v1/imports/{{id}}{path}"): OWN for path in ("", "/report.ndjson")},
    **{("GET", f"/v1/webhooks{path}"): OWN for path in ("", "/{id}", "/{id}/deliveries")},
    **{("POST", f"/v1/webhooks{path}"): MESSAGES for path in ("", "/{id}/enable", "/{id}/test", "/{id}/rotate")},
    ("POST", "/v1/webhooks/{id}/redeliver"): MESSAGES,
    ("POST", "/v1/webhooks/{id}/deliveries/{delivery}/redeliver"): MESSAGES,
    ("PATCH", "/v1/webhooks/{id}"): OWN,
    ("DELETE", "/v1/webhooks/{id}"): OWN,
    **{("GET", path): REFERENCE for path in ("/v1/countries", "/v1/countries/{code}", "/v1/regions")},
    **{
        ("GET", path): REFERENCE
        for path in ("/v1/vocabularies", "/v1/vocabularies/topics", "/v1/vocabularies/topics/{topic_id}")
    },
}
