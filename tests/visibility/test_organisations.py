"""Organisations that one may not know of are missing everywhere: lists, totals, audiences, roles, filters (A5)."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.db.ids import new_id
from app.identity import networks, organisations
from app.identity.audit import OPERATOR
from app.identity.caller import SCOPES
from app.kinds import KINDS
from tests.conftest import MakeOrganisation, Member
from tests.records.bodies import publishable
from tests.visibility.model import Who, organisation_exists
from tests.visibility.test_hidden_is_missing import HEADERS, told
from tests.visibility.test_references import BY_NAME, NAMING, names, referring

pytestmark = pytest.mark.anyio

LISTINGS = ("public", "members", "unlisted")


async def test_who_may_know_of_whom(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """Principal × listing × surface, with the model; hidden answers as missing in every header."""
    seen = {listing: await make_organisation(f"Xname {listing}", listing=listing) for listing in LISTINGS}
    nets = {
        listing: await make_organisation(f"Xname net {listing}", network=True, kind="network", listing=listing)
        for listing in LISTINGS
    }
    reader = await make_organisation("Example CSO reader")
    async with app.state.database.transaction() as connection:
        entry = await organisations.add(
            connection, name="Xname not-claimed", kind="network", status="not-claimed", listing="unlisted"
        )
    principals: list[tuple[Who, dict[str, str]]] = [(Who(), {}), (Who(reader.id), reader.headers)]
    principals += [(Who(one.id), one.headers) for one in (*seen.values(), *nets.values())]
    everything: list[tuple[Any, str, bool, bool]] = [
        *((one.id, listing, False, True) for listing, one in seen.items()),
        *((one.id, listing, True, True) for listing, one in nets.items()),
        (entry.id, "unlisted", True, False),
    ]
    for who, headers in principals:
        for plural in ("organisations", "networks"):
            exist = {
                str(one)
                for one, listing, network, claimed in everything
                if (network or plural == "organisations") and organisation_exists(who, one, listing, claimed=claimed)
            }
            for query in ("limit=200&count=true&q=xname", "limit=200&q=XNAME", "limit=2&q=xname&count=true"):
                url: str | None = f"/v1/{plural}?{query}"
                found: list[str] = []
                while url:
                    page = (await client.get(url, headers=headers)).json()
                    found += [one["id"] for one in page["items"]]
                    url = page["next"]
                    if "count" in query:
                        assert page["total"] == len(exist)
                assert (set(found), len(found)) == (exist, len(exist))
            for one, listing, network, claimed in everything:
                known = (network or plural == "organisations") and organisation_exists(
                    who, one, listing, claimed=claimed
                )
                for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS") if not known else ("GET",):
                    for extra in HEADERS if method == "GET" and not known else HEADERS[:2]:
                        asked = {**headers, **extra}
                        answers = [
                            told(await client.request(method, f"/v1/{plural}/{wanted}", headers=asked), str(wanted))
                            for wanted in (one, new_id())
                        ]
                        assert (answers[0] == answers[1]) != known, (plural, method, listing, answers)


async def test_membership_addresses_tell_nothing_of_unlisted_networks(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    hidden = await make_organisation("Xname net", network=True, kind="network", listing="unlisted")
    secret = await make_organisation("Xname secret", listing="unlisted")
    network = await make_organisation("Example network", network=True, kind="network")
    other = await make_organisation()
    for asking in (other, network):
        for method, path, body in (
            ("GET", "members", None),
            ("POST", "members", {"organisation": str(asking.id)}),
            ("POST", "members", {"organisation": str(other.id)}),
            ("POST", "members/me/accept", None),
            ("DELETE", "members/me", None),
        ):
            answers = [
                told(await client.request(method, f"/v1/networks/{one}/{path}", json=body, headers=asking.headers), "")
                for one in (hidden.id, new_id())
            ]
            assert answers[0] == answers[1], (method, path, answers)
    url = f"/v1/networks/{network.id}/members"
    for method, tail in (("POST", None), ("DELETE", ""), ("POST", "/accept")):
        answers = []
        for one in (secret.id, new_id()):
            if tail is None:
                sent = client.post(url, json={"organisation": str(one)}, headers=network.headers)
            else:
                sent = client.request(method, f"{url}/{one}{tail}", headers=network.headers)
            answers.append(told(await sent, str(one)))
        assert answers[0] == answers[1], (method, tail, answers)


async def test_members_of_a_network_see_each_other_but_not_the_unlisted(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    network = await make_organisation("Example network", network=True, kind="network")
    inside, secret = await make_organisation(), await make_organisation("Xname", listing="unlisted")
    outside, invited = await make_organisation("Example CSO B"), await make_organisation("Example CSO C")
    async with app.state.database.transaction() as connection:
        for one in (inside, secret):
            await networks.add_member_by_operator(connection, network.id, one.id)
        await networks.agree(connection, "network", network.id, invited.id, OPERATOR)
    app.state.identity.forget()
    url = f"/v1/networks/{network.id}/members"

    async def members(asking: Member) -> set[str]:
        answer = await client.get(url, headers=asking.headers)
        assert answer.status_code == 200, answer.text
        return {one["organisation"]["id"] for one in answer.json()["items"]}

    assert await members(inside) == {str(inside.id)}
    assert await members(secret) == {str(inside.id), str(secret.id)}
    assert await members(network) == {str(inside.id), str(secret.id), str(invited.id)}
    for asking in (outside, invited):
        assert (await client.get(url, headers=asking.headers)).status_code == 403
    assert (await client.get(url)).status_code == 401
    await client.delete(f"{url}/{inside.id}", headers=network.headers)
    assert (await client.get(url, headers=inside.headers)).status_code == 403


@pytest.mark.parametrize("becomes", ["unlisted", "members", "claimed"])
@pytest.mark.parametrize(("kind", "path"), NAMING, ids=names(NAMING))
async def test_roles_of_organisations_that_draw_back_disappear(
    app: FastAPI,
    client: httpx.AsyncClient,
    make_organisation: MakeOrganisation,
    kind: Any,
    path: Any,
    becomes: str,
) -> None:
    """A role names an organisation by id; who may not know of it any more finds the id nowhere, and no filter does."""
    owner, reader = await make_organisation(listing="public"), await make_organisation("Example CSO B")
    steward = await make_organisation("Example steward", scopes=SCOPES)
    partner = await make_organisation("Example partner", listing="public")
    partner_id = str(partner.id)
    if becomes == "claimed":
        async with app.state.database.transaction() as connection:
            entry = await organisations.add(connection, name="Entry", kind="academia", status="not-claimed")
        partner_id = str(entry.id)
    made = await client.post(
        f"/v1/{kind.plural}", json=referring(kind, path, partner_id, tlp="clear"), headers=owner.headers
    )
    assert made.status_code == 201, made.text
    url = f"/v1/{kind.plural}/{made.json()['id']}"
    before = await client.get(url)
    assert partner_id in before.text
    if becomes == "claimed":
        invited = await client.post(f"/v1/organisations/{partner_id}/invite", headers=steward.headers)
        assert invited.status_code == 200, invited.text
    else:
        drawn = await client.patch("/v1/organisations/me", json={"listing": becomes}, headers=partner.headers)
        assert drawn.status_code == 200, drawn.text
    for headers in ({}, reader.headers) if becomes == "unlisted" else ({},):
        places = (url, f"{url}/versions/1", f"{url}/diff", f"/v1/{kind.plural}?view=full", "/v1/changes?include=record")
        for place in (*places, f'/v1/{kind.plural}?q="{partner_id}"'):
            assert partner_id not in (await client.get(place, headers=headers)).text, place
        for name, field in kind.filters.items():
            if field == path.relation:
                found = await client.get(f"/v1/{kind.plural}?{name}={partner_id}&count=true", headers=headers)
                assert (found.json()["items"], found.json()["total"]) == ([], 0)
        again = await client.get(url, headers={**headers, "If-None-Match": before.headers["etag"]})
        assert again.status_code == 200, "a cached copy must not be called fresh"


async def test_an_organisation_becomes_unlisted_only_when_its_records_do_not_show_it(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner, reader = await make_organisation(listing="public"), await make_organisation("Example CSO B")
    issue = BY_NAME["issue"]
    made = await client.post("/v1/issues", json=publishable(issue, tlp="green"), headers=owner.headers)
    refused = await client.patch("/v1/organisations/me", json={"listing": "unlisted"}, headers=owner.headers)
    assert (refused.status_code, refused.json()["code"]) == (409, "owner-unlisted")
    await client.patch(made.json()["url"], json={"tlp": "amber"}, headers={**owner.headers, "If-Match": '"1"'})
    done = await client.patch("/v1/organisations/me", json={"listing": "unlisted"}, headers=owner.headers)
    assert done.status_code == 200, done.text
    for tlp in ("clear", "green"):
        again = await client.post("/v1/issues", json=publishable(issue, tlp=tlp), headers=owner.headers)
        assert (again.status_code, again.json()["code"]) == (409, "owner-unlisted")
        draft = await client.post("/v1/issues", json=publishable(issue, tlp=tlp, status="draft"), headers=owner.headers)
        verb = await client.post(f"{draft.json()['url']}/publish", headers={**owner.headers, "If-Match": '"1"'})
        assert (verb.status_code, verb.json()["code"]) == (409, "owner-unlisted")
    for headers in ({}, reader.headers):
        for path in ("/v1/issues", "/v1/organisations?limit=200", f"/v1/issues?organisation={owner.id}&count=true"):
            assert str(owner.id) not in (await client.get(path, headers=headers)).text
        found = await client.get(f"/v1/organisations/{owner.id}", headers=headers)
        assert found.status_code == 404


def test_every_kind_that_names_organisations_is_tested() -> None:
    assert {kind.name for kind, _ in NAMING} == {kind.name for kind in KINDS if kind.organisation_refs}
