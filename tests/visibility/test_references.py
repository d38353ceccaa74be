"""References: what may be referred to (rule A3, V4), and what becomes of references to what was narrowed later (A2)."""

from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from app.db.ids import new_id
from app.identity import networks
from app.identity.organisations import suspend
from app.kinds import KINDS
from app.records.kind import Kind, RefPath
from tests.conftest import MakeOrganisation, Member
from tests.records.bodies import publishable

pytestmark = pytest.mark.anyio

BY_NAME = {kind.name: kind for kind in KINDS}
REFERRING = [(kind, path) for kind in KINDS for path in kind.refs if path.kind in BY_NAME]
NAMING = [(kind, path) for kind in KINDS for path in kind.organisation_refs]


def names(pairs: list[tuple[Kind, RefPath]]) -> list[str]:
    return [f"{kind.name}-{'.'.join(path.steps)}" for kind, path in pairs]


def referring(kind: Kind, path: RefPath, target: str, **changes: Any) -> dict[str, Any]:
    """A publishable body of `kind` with a reference to `target` at `path`."""
    value: Any = target
    model: Any = None
    for step in reversed(path.steps[1:]):
        value = [value] if step == "*" else {step: value}
    schema = kind.body.model_json_schema()
    return {**publishable(kind, **changes), path.steps[0]: _completed(schema, path, value, model)}


def _completed(schema: dict[str, Any], path: RefPath, value: Any, _model: Any) -> Any:
    """`value` with the first allowed value of every other required field of its element."""
    field: Any = schema["properties"][path.steps[0]]

    def resolved(part: Any) -> Any:
        while "$ref" in part or "anyOf" in part:
            part = schema["$defs"][part["$ref"].split("/")[-1]] if "$ref" in part else part["anyOf"][0]
        return part

    def fill(part: Any, given: Any) -> Any:
        part = resolved(part)
        if isinstance(given, list):
            return [fill(part["items"], one) for one in given]
        if isinstance(given, dict):
            filled = {name: fill(part["properties"][name], one) for name, one in given.items()}
            for name in part.get("required", ()):
                if name not in filled:
                    inner = resolved(part["properties"][name])
                    filled[name] = inner["enum"][0] if "enum" in inner else "Plain words"
            return filled
        return given

    return fill(field, value)


async def make(client: httpx.AsyncClient, owner: Member, kind: Kind, **changes: Any) -> dict[str, Any]:
    answer = await client.post(f"/v1/{kind.plural}", json=publishable(kind, **changes), headers=owner.headers)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def do(
    client: httpx.AsyncClient, owner: Member, method: str, record: dict[str, Any], path: str = "", body: Any = None
) -> dict[str, Any]:
    """A change by the owner at the record's present version; the record is kept up to date."""
    match = {**owner.headers, "If-Match": f'"{record["version"]}"'}
    answer = await client.request(
        method, f"/v1/{BY_NAME[record['kind']].plural}/{record['id']}{path}", json=body, headers=match
    )
    assert answer.status_code == 200, answer.text
    record.update(answer.json())
    return record


def refusal(answer: httpx.Response) -> tuple[int, Any]:
    shown = answer.json()
    shown.pop("request_id", None)
    return answer.status_code, shown


@pytest.mark.parametrize(("kind", "path"), REFERRING, ids=names(REFERRING))
async def test_a_hidden_and_a_missing_target_are_refused_alike(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, kind: Kind, path: RefPath
) -> None:
    """On create, dry run, PUT and PATCH, in drafts and published records (V4)."""
    owner, other = await make_organisation(), await make_organisation("Example CSO B")
    target_kind = BY_NAME[path.kind]
    hidden = [
        (await make(client, other, target_kind, tlp="amber"))["id"],
        (await make(client, other, target_kind, tlp="amber+strict"))["id"],
        (await make(client, other, target_kind, status="draft", tlp="clear"))["id"],
    ]
    gone = await make(client, other, target_kind, tlp="amber")
    await do(client, other, "DELETE", gone)
    wrong_kind = await make(client, owner, next(one for one in KINDS if one.name != path.kind), tlp="clear")
    own = await make(client, owner, kind, tlp="amber", status="draft")
    url = f"/v1/{kind.plural}"
    for status in ("draft", "published"):
        for method, address in (
            ("POST", url),
            ("POST", url + "?dry_run=true"),
            ("PUT", own["id"]),
            ("PATCH", own["id"]),
        ):
            answers = []
            for target in (str(new_id()), gone["id"], wrong_kind["id"], *hidden):
                body = referring(kind, path, target, tlp="amber", status=status)
                if method != "POST":
                    body.pop("status")
                    answer = await client.request(
                        method, f"{url}/{address}", json=body, headers={**owner.headers, "If-Match": '"1"'}
                    )
                else:
                    answer = await client.post(address, json=body, headers=owner.headers)
                answers.append(refusal(answer))
                assert target not in answer.text
            assert all(one == answers[0] for one in answers), (method, status, answers)
            assert (answers[0][0], answers[0][1]["code"]) == (422, "reference-not-readable"), answers[0]


@pytest.mark.parametrize(("kind", "path"), NAMING, ids=names(NAMING))
async def test_an_unlisted_and_a_missing_organisation_are_refused_alike(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, kind: Kind, path: RefPath
) -> None:
    owner = await make_organisation()
    unlisted = await make_organisation("Example CSO Hidden", listing="unlisted")
    answers = []
    for target in (str(unlisted.id), str(new_id())):
        body = referring(kind, path, target, tlp="green")
        answers.append(refusal(await client.post(f"/v1/{kind.plural}", json=body, headers=owner.headers)))
    assert answers[0] == answers[1]
    assert (answers[0][0], answers[0][1]["code"]) == (422, "reference-not-readable")


WIDTHS = ("amber+strict", "amber", "green", "clear")


async def test_the_table_of_what_may_be_referred_to(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """Rule A3 over every pair of markings, with audiences: in publishing, in relaxing, in widening the audience."""
    owner, other, third = [await make_organisation(f"Example CSO {name}") for name in "ABC"]
    network = await make_organisation("Example network", network=True, kind="network")
    async with app.state.database.transaction() as connection:
        for member in (owner, third):
            await networks.add_member_by_operator(connection, network.id, member.id)
    app.state.identity.forget()
    finding, issue = BY_NAME["finding"], BY_NAME["issue"]
    audiences: dict[str, list[list[Member]]] = {
        "clear": [[]],
        "green": [[]],
        "amber": [[], [owner], [third], [owner, third], [network], [owner, network]],
        "amber+strict": [[], [owner], [owner, third]],
    }
    wrong = []
    for target_tlp, target_audiences in audiences.items():
        for target_audience in target_audiences:
            marked = {"audience": [str(one.id) for one in target_audience]} if target_audience else {}
            target = await make(client, other, finding, tlp=target_tlp, **marked)
            readable = (
                target_tlp in ("clear", "green")
                or owner in target_audience
                or (target_tlp == "amber" and network in target_audience)
            )
            for tlp, own_audiences in audiences.items():
                for audience in own_audiences:
                    literal = {owner.id, *(one.id for one in audience)} <= {
                        other.id,
                        *(one.id for one in target_audience),
                    }
                    allowed = (
                        readable
                        and WIDTHS.index(tlp) <= WIDTHS.index(target_tlp)
                        and (target_tlp in ("clear", "green") or literal)
                    )
                    named = {"audience": [str(one.id) for one in audience]} if audience else {}
                    body = publishable(issue, tlp=tlp, findings=[target["id"]], **named)
                    answer = await client.post("/v1/issues", json=body, headers=owner.headers)
                    draft = await client.post("/v1/issues", json={**body, "status": "draft"}, headers=owner.headers)
                    asked = (target_tlp, [one.name for one in target_audience], tlp, [one.name for one in audience])
                    if (answer.status_code == 201) != allowed or (draft.status_code == 201) != readable:
                        wrong.append((asked, allowed, answer.status_code, draft.status_code))
                    if draft.status_code == 201:
                        match = {**owner.headers, "If-Match": '"1"'}
                        url = draft.json()["url"]
                        verb = await client.post(f"{url}/publish", headers=match)
                        if (verb.status_code == 200) != allowed:
                            wrong.append((asked, "publish", verb.status_code))
    assert not wrong, "\n".join(map(str, wrong))


async def test_relaxing_and_restoring_are_checked_again(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner, other = await make_organisation(), await make_organisation("Example CSO B")
    target = await make(client, other, BY_NAME["finding"], tlp="green")
    referrer = await make(client, owner, BY_NAME["issue"], tlp="green", findings=[target["id"]])
    match = {**owner.headers, "If-Match": '"1"'}
    wider = await client.patch(referrer["url"], json={"tlp": "clear"}, headers=match)
    assert (wider.status_code, wider.json()["code"]) == (422, "reference-not-readable")
    await do(client, owner, "DELETE", referrer)
    await do(client, other, "PATCH", target, body={"tlp": "amber"})
    back = await client.post(f"{referrer['url']}/restore", headers={**owner.headers, "If-Match": '"2"'})
    assert (back.status_code, back.json()["code"]) == (422, "reference-not-readable")


async def everywhere(client: httpx.AsyncClient, record: dict[str, Any], headers: dict[str, str]) -> dict[str, str]:
    """Every answer in which a reference of this record could be seen."""
    plural = BY_NAME[record["kind"]].plural
    url = f"/v1/{plural}/{record['id']}"
    found = {}
    for path in ("", "/versions", "/backlinks", "/diff", *(f"/versions/{n}" for n in range(1, record["version"] + 1))):
        found[path] = (await client.get(url + path, headers=headers)).text
    for earlier in range(1, record["version"]):
        asked = f"{url}/diff?from={earlier}&to={record['version']}"
        found[asked] = (await client.get(asked, headers=headers)).text
    for query in ("view=full", "fields=id,findings,issues,events,items,related,roles,creators,partners", "view=brief"):
        if "fields" in query:
            known = set(BY_NAME[record["kind"]].body.model_fields)
            query = "fields=id," + ",".join(name for name in query.split("=")[1].split(",") if name in known)
        found[query] = (await client.get(f"/v1/{plural}?{query}&limit=200", headers=headers)).text
    found["feed"] = (await client.get("/v1/changes?include=record&limit=1000", headers=headers)).text
    return found


NARROWINGS = ("amber", "amber+strict", "withdraw", "erase", "quarantine")


@pytest.mark.parametrize("narrowing", NARROWINGS)
@pytest.mark.parametrize(("kind", "path"), REFERRING, ids=names(REFERRING))
async def test_references_to_what_was_narrowed_disappear_everywhere(
    app: FastAPI,
    client: httpx.AsyncClient,
    make_organisation: MakeOrganisation,
    kind: Kind,
    path: RefPath,
    narrowing: str,
) -> None:
    """Item, versions, differences, full list, fields, feed, filter and search lose the id; also for its own owner."""
    owner, other = await make_organisation(), await make_organisation("Example CSO B")
    steward = await make_organisation("Example steward", scopes=("records:read", "steward"))
    target = await make(client, other, BY_NAME[path.kind], tlp="clear")
    created = await client.post(
        f"/v1/{kind.plural}", json=referring(kind, path, target["id"], tlp="clear"), headers=owner.headers
    )
    assert created.status_code == 201, created.text
    record = created.json()
    await do(client, owner, "PATCH", record, body={"title": "Second title"})
    before = await client.get(record["url"])
    assert target["id"] in before.text
    listed = await client.get(f"/v1/{kind.plural}?view=full")
    if narrowing == "withdraw":
        await do(client, other, "DELETE", target)
    elif narrowing == "erase":
        await do(client, other, "POST", target, "/erase")
    elif narrowing == "quarantine":
        done = await client.post(f"{target['url']}/quarantine", headers={**steward.headers, "If-Match": '"1"'})
        assert done.status_code in (200, 204)
    else:
        await do(client, other, "PATCH", target, body={"tlp": narrowing})
    stays_for_its_owner = narrowing in ("amber", "amber+strict", "quarantine")
    for who, headers in (("anonymous", {}), ("owner", owner.headers), ("other", other.headers)):
        for place, text in (await everywhere(client, record, headers)).items():
            tombstone = place == "feed" and f'"removed","kind":"{path.kind}","id":"{target["id"]}"' in text
            if (who == "other" and stays_for_its_owner) or tombstone:
                continue
            mentions = text.count(target["id"])
            if place == "feed" and who == "other":
                continue
            assert mentions == 0, (who, place)
        for name, field in kind.filters.items():
            if field == path.relation and not (who == "other" and stays_for_its_owner):
                found = await client.get(f"/v1/{kind.plural}?{name}={target['id']}&count=true", headers=headers)
                assert found.json()["items"] == [], (who, name)
                assert found.json()["total"] == 0
        found = await client.get(f'/v1/{kind.plural}?q="{target["id"]}"&count=true', headers=headers)
        assert found.json()["total"] == 0, who
    stale = await client.get(record["url"], headers={"If-None-Match": before.headers["etag"]})
    assert stale.status_code == 200, "a cached copy must not be called fresh"
    stale = await client.get(f"/v1/{kind.plural}?view=full", headers={"If-None-Match": listed.headers["etag"]})
    assert stale.status_code == 200
    backlinks = await client.get(f"{target['url']}/backlinks", headers=owner.headers)
    assert backlinks.status_code in (404, 410)


async def test_the_words_around_a_hidden_reference_are_not_searchable(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """The note on a list's item goes with the item, so it must not be found either."""
    owner, other = await make_organisation(), await make_organisation("Example CSO B")
    issue = await make(client, owner, BY_NAME["issue"], tlp="clear")
    await make(
        client, owner, BY_NAME["issue-list"], tlp="clear", items=[{"issue": issue["id"], "note": "Zanzibarword"}]
    )
    await do(client, owner, "PATCH", issue, body={"tlp": "amber+strict"})
    for headers in ({}, other.headers):
        found = await client.get("/v1/issue-lists?q=zanzibarword&count=true", headers=headers)
        assert (found.json()["items"], found.json()["total"]) == ([], 0)


async def test_a_reference_through_a_network_ends_with_the_membership(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """What a reader has through a network only is gone when the network is, and is not counted either."""
    owner, reader = await make_organisation(), await make_organisation("Example CSO B")
    network = await make_organisation("Example network", network=True, kind="network")
    async with app.state.database.transaction() as connection:
        await networks.add_member_by_operator(connection, network.id, reader.id)
    app.state.identity.forget()
    named = [str(network.id)]
    finding = await make(client, owner, BY_NAME["finding"], tlp="amber", audience=named)
    issue = await make(client, owner, BY_NAME["issue"], tlp="amber", audience=named, findings=[finding["id"]])
    both = await make(
        client, owner, BY_NAME["issue"], tlp="amber", audience=[str(network.id), str(reader.id)], findings=[]
    )
    assert finding["id"] in (await client.get(issue["url"], headers=reader.headers)).text
    async with app.state.database.transaction() as connection:
        await suspend(connection, network.id)
    app.state.identity.forget()
    for one in (issue, finding):
        assert (await client.get(one["url"], headers=reader.headers)).status_code == 404
    assert (await client.get(both["url"], headers=reader.headers)).status_code == 200
    listed = await client.get("/v1/issues?count=true", headers=reader.headers)
    assert ([one["id"] for one in listed.json()["items"]], listed.json()["total"]) == ([both["id"]], 1)


async def test_marking_and_audience_in_bodies(client: httpx.AsyncClient, make_organisation: MakeOrganisation) -> None:
    """Rules A7 and A9: left out is unchanged, null is refused, wider is said, an audience needs amber."""
    owner, other = await make_organisation(), await make_organisation("Example CSO B")
    unlisted = await make_organisation("Example CSO Hidden", listing="unlisted")
    issue = BY_NAME["issue"]
    record = await make(client, owner, issue, tlp="amber", audience=[str(other.id)])
    body = {name: value for name, value in publishable(issue, title="Put").items() if name != "status"}
    replaced = await do(client, owner, "PUT", record, body=body)
    assert (replaced["tlp"], replaced["audience"]) == ("amber", [str(other.id)])
    for change, code in (
        ({"tlp": None}, "invalid-body"),
        ({"audience": None}, "invalid-body"),
        ({"tlp": "red"}, "marking-not-supported"),
        ({"tlp": "TLP:RED"}, "marking-not-supported"),
        ({"tlp": "Amber"}, "invalid-body"),
        ({"tlp": "green", "audience": [str(other.id)]}, "audience-not-applicable"),
        ({"audience": [str(new_id())]}, "audience-not-found"),
        ({"audience": [str(unlisted.id)]}, "audience-not-found"),
        ({"audience": ["x"]}, "invalid-body"),
        ({"audience": str(other.id)}, "invalid-body"),
        ({"status": "published"}, "use-verb"),
        ({"status": None}, "use-verb"),
    ):
        match = {**owner.headers, "If-Match": f'"{record["version"]}"'}
        answer = await client.patch(record["url"], json=change, headers=match)
        assert (answer.status_code, answer.json()["code"]) == (422, code), (change, answer.text)
    opened = await do(client, owner, "PATCH", record, body={"tlp": "green"})
    assert (opened["tlp"], opened["audience"]) == ("green", [])
    closed = await do(client, owner, "PATCH", record, body={"tlp": "amber"})
    assert closed["audience"] == [], "an audience given up does not come back by itself"


async def test_nothing_the_service_decides_is_assigned_by_a_body(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """V9: owner, ids, versions, times and internal columns cannot be set, by any write."""
    owner, other = await make_organisation(), await make_organisation("Example CSO B")
    issue = BY_NAME["issue"]
    record = await make(client, owner, issue, tlp="green")
    intruding: dict[str, Any] = {
        "organisation": {"id": str(other.id), "name": other.name},
        "organisation_id": str(other.id),
        "owner": str(other.id),
        "id": str(new_id()),
        "kind": "case",
        "version": 7,
        "stage": "adopted",
        "created_at": "2001-01-01T00:00:00Z",
        "updated_at": "2001-01-01T00:00:00Z",
        "published_at": "2001-01-01T00:00:00Z",
        "quarantined_at": "2001-01-01T00:00:00Z",
        "erased_at": "2001-01-01T00:00:00Z",
        "refs_guarded": False,
        "content": {},
        "url": "http://elsewhere.test/",
        "starts": "2001",
    }
    for name, value in intruding.items():
        match = {**owner.headers, "If-Match": '"1"'}
        body = {**publishable(issue), name: value}
        for answer in (
            await client.post("/v1/issues", json=body, headers=owner.headers),
            await client.patch(record["url"], json={name: value}, headers=match),
        ):
            assert answer.status_code == 422, (name, answer.text)
            assert answer.json()["code"] in ("read-only-field", "invalid-body")
        body.pop("status")
        await client.put(record["url"], json={**body, "title": record["title"]}, headers=match)
        await client.put(f"/v1/issues/by-external-id/{name}", json=body, headers=owner.headers)
    now = (await client.get(record["url"], headers=owner.headers)).json()
    for name in ("id", "kind", "organisation", "stage", "created_at", "published_at", "url"):
        assert now[name] == record[name], name
    for one in (await client.get("/v1/issues?limit=200", headers=owner.headers)).json()["items"]:
        assert one["organisation"]["id"] == str(owner.id)
        assert UUID(one["id"]).version == 7
        assert one["created_at"] > "2020"
