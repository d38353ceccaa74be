"""Organisations: who sees whom, how one joins, changes and leaves (rules A5, E)."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from app.identity import audit, credentials, organisations
from tests.conftest import PUBLIC_URL, SECRET, MakeOrganisation, Member

FORM = {"grant_type": "client_credentials"}


@pytest.fixture
async def steward(app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation) -> dict[str, str]:
    """Headers of a steward; the scope comes from the operator only."""
    member = await make_organisation("Example node", kind="node")
    async with app.state.database.transaction() as connection:
        made = await credentials.add(
            connection, SECRET, member.id, "steward", ["records:read", "organisation:manage", "steward"]
        )
    answer = await client.post("/oauth/token", data=FORM, auth=(made["client_id"], made["client_secret"]))
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def ids(
    client: httpx.AsyncClient, headers: dict[str, str] | None = None, path: str = "organisations"
) -> set[str]:
    answer = await client.get(f"/v1/{path}?limit=200", headers=headers)
    assert answer.status_code == 200
    return {one["id"] for one in answer.json()["items"]}


def without_request(answer: httpx.Response) -> tuple[int, dict[str, Any], dict[str, str]]:
    headers = {name: value for name, value in answer.headers.items() if name not in ("x-request-id", "date")}
    return answer.status_code, {**answer.json(), "request_id": ""}, headers


async def test_listing_decides_who_knows(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, steward: dict[str, str]
) -> None:
    """A5: public and not-claimed for everybody, members for members, unlisted for itself and stewards."""
    public = await make_organisation("Example CSO A", listing="public")
    listed = await make_organisation("Example CSO B")
    unlisted = await make_organisation("Example CSO C", listing="unlisted")
    async with app.state.database.transaction() as connection:
        entry = await organisations.add(connection, name="Example CSO D", kind="cso", status="not-claimed")
    named = {name: str(one) for name, one in zip("abcd", (public.id, listed.id, unlisted.id, entry.id), strict=True)}
    seen = {
        "nobody": await ids(client),
        "member": await ids(client, listed.headers),
        "itself": await ids(client, unlisted.headers),
        "steward": await ids(client, steward),
    }
    known = set(named.values())
    assert seen["nobody"] & known == {named["a"], named["d"]}
    assert seen["member"] & known == known - {named["c"]}
    assert seen["itself"] & known == known
    assert seen["steward"] & known == known


async def test_an_unlisted_organisation_is_missing_everywhere(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """A5, A11, V2: the same answers for it and for an id that never was."""
    member = await make_organisation("Example CSO A")
    hidden = await make_organisation("Example CSO C", listing="unlisted", kind="network")
    network = await make_organisation("Example network", kind="network")
    missing = str(uuid4())
    for headers in (member.headers, None):
        for method, path in (
            ("GET", "/v1/organisations/{}"),
            ("GET", "/v1/networks/{}"),
            ("HEAD", "/v1/organisations/{}"),
            ("GET", "/v1/networks/{}/members"),
            ("POST", "/v1/networks/{}/members/me/accept"),
            ("DELETE", "/v1/networks/{}/members/me"),
        ):
            answers = [await client.request(method, path.format(one), headers=headers) for one in (hidden.id, missing)]
            if method == "HEAD":
                assert [one.status_code for one in answers] == [404, 404]
            else:
                assert without_request(answers[0]) == without_request(answers[1]), path
    members = f"/v1/networks/{network.id}/members"
    invited = [
        await client.post(members, json={"organisation": str(one)}, headers=network.headers)
        for one in (hidden.id, missing)
    ]
    assert without_request(invited[0]) == without_request(invited[1])
    assert invited[0].status_code == 422
    for query in ("q=CSO C", "kind=network", "count=true"):
        answer = await client.get(f"/v1/organisations?{query}&limit=200", headers=member.headers)
        assert "Example CSO C" not in answer.text
    assert str(hidden.id) not in await ids(client, member.headers, "networks")
    total = (await client.get("/v1/organisations?count=true", headers=member.headers)).json()["total"]
    assert total == len(await ids(client, member.headers))


async def test_pages_are_stable_and_cursors_sealed(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """I15: newest first, no repetition, `next` absolute, tampered or foreign cursors 400."""
    made = [await make_organisation(f"Example CSO {letter}", listing="public") for letter in "ABCDE"]
    seen: list[str] = []
    following: str | None = "/v1/organisations?limit=2"
    cursor = ""
    while following:
        answer = await client.get(following)
        assert answer.status_code == 200
        seen += [one["id"] for one in answer.json()["items"]]
        following = answer.json()["next"]
        if following:
            assert following.startswith(f"{PUBLIC_URL}/v1/organisations?")
            assert answer.headers["link"] == f'<{following}>; rel="next"'
            cursor = following.partition("cursor=")[2]
    assert seen == [str(one.id) for one in reversed(made)]
    for broken in (cursor[:-2] + ("AA" if not cursor.endswith("AA") else "BB"), "x", "%00"):
        assert (await client.get(f"/v1/organisations?limit=2&cursor={broken}")).status_code == 400
    foreign = await client.get(f"/v1/organisations?limit=2&cursor={cursor}", headers=made[0].headers)
    assert foreign.json()["code"] == "invalid-cursor"
    unknown = await client.get("/v1/organisations?colour=red")
    assert unknown.status_code == 400
    assert "known" in unknown.json()["detail"].lower()
    first = await client.get("/v1/organisations")
    again = await client.get("/v1/organisations", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304


async def test_profile_is_patched_whole(client: httpx.AsyncClient, make_organisation: MakeOrganisation) -> None:
    """RFC 7396, If-Match, bidi controls refused, region follows the country; the new name shows at once."""
    member = await make_organisation()
    path = "/v1/organisations/me"
    before = await client.get(path, headers=member.headers)
    assert before.headers["etag"] == '"1"'
    headers = {**member.headers, "If-Match": '"1"'}
    answer = await client.patch(
        path, json={"name": "Example CSO Z", "country": "RS", "names": {"sr": "Primer"}}, headers=headers
    )
    assert answer.status_code == 200
    assert (answer.json()["name"], answer.json()["region"], answer.headers["etag"]) == ("Example CSO Z", "EUR", '"2"')
    stale = await client.patch(path, json={"name": "Example"}, headers=headers)
    assert stale.status_code == 412
    assert stale.json()["version"] == 2
    for wrong in (
        {"name": None},
        {"name": "Example \u202e OSC"},
        {"name": "\u200b"},
        {"kind": "donor"},
        {"status": "active"},
        {"country": "ZZ"},
        {"region": "XXX"},
        {"website": "javascript:alert(1)"},
        {"languages": ["qqq"]},
        {"listing": "secret"},
        {"names": {"english": "x"}},
    ):
        answer = await client.patch(path, json=wrong, headers=member.headers)
        assert answer.status_code == 422, wrong
    merged = await client.patch(path, json={"names": {"sr": None, "en": "Example"}}, headers=member.headers)
    assert merged.json()["names"] == {"en": "Example"}


async def test_admit_and_claim(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, steward: dict[str, str]
) -> None:
    """E1: the steward gets a code, the organisation turns it into its first credential, once."""
    member = await make_organisation()
    new = {"name": "Example CSO N", "kind": "cso", "country": "UY"}
    assert (await client.post("/v1/organisations", json=new, headers=member.headers)).status_code == 403
    key = {"Idempotency-Key": "admit-1"}
    admitted = await client.post("/v1/organisations", json=new, headers={**steward, **key})
    assert admitted.status_code == 201
    body = admitted.json()
    assert admitted.headers["location"] == body["url"]
    assert (body["status"], body["kind"], body["region"]) == ("invited", "civil-society-organisation", "LAC")
    replay = await client.post("/v1/organisations", json=new, headers={**steward, **key})
    assert replay.json()["code"] == "secret-already-shown"
    wrong = await client.post("/v1/organisations/claim", json={"claim_code": body["claim_code"][:-1] + "!"})
    assert wrong.status_code == 422
    claimed = await client.post("/v1/organisations/claim", json={"claim_code": body["claim_code"]})
    assert claimed.status_code == 201
    credential = claimed.json()
    assert credential["organisation"] == {"id": body["id"], "name": "Example CSO N"}
    assert "steward" not in credential["scopes"]
    again = await client.post("/v1/organisations/claim", json={"claim_code": body["claim_code"]})
    assert again.status_code == 422
    token = await client.post("/oauth/token", data=FORM, auth=(credential["client_id"], credential["client_secret"]))
    assert token.status_code == 200
    for path in ("invite", "reinstate"):
        answer = await client.post(f"/v1/organisations/{body['id']}/{path}", headers=steward)
        assert answer.json()["code"] == "illegal-transition"


async def test_invite_of_a_founding_entry_and_late_codes(
    app: FastAPI, client: httpx.AsyncClient, steward: dict[str, str]
) -> None:
    """E1: a newer code voids the older one; after 72 hours none works."""
    async with app.state.database.transaction() as connection:
        entry = await organisations.add(
            connection, name="Example CSO D", kind="cso", status="not-claimed", listing="public"
        )
    first = (await client.post(f"/v1/organisations/{entry.id}/invite", headers=steward)).json()["claim_code"]
    second = (await client.post(f"/v1/organisations/{entry.id}/invite", headers=steward)).json()["claim_code"]
    assert (await client.post("/v1/organisations/claim", json={"claim_code": first})).status_code == 422
    async with app.state.database.transaction() as connection:
        await connection.execute("UPDATE claim_code SET expires_at = expires_at - %s", [timedelta(hours=72)])
    assert (await client.post("/v1/organisations/claim", json={"claim_code": second})).status_code == 422


async def test_leaving_ends_everything(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """E4: exports are offered first; then credentials and memberships end, and the hook of the records room runs."""
    member = await make_organisation()
    network = await make_organisation("Example network", kind="network")
    called: list[UUID | None] = []

    async def hook(request: object, connection: object, caller: Any) -> None:
        called.append(caller.organisation_id)

    app.state.on_leave = hook
    await join(client, network, member)
    offered = await client.post("/v1/organisations/me/leave", json={}, headers=member.headers)
    assert offered.status_code == 409
    assert offered.json()["code"] == "leave-unconfirmed"
    assert offered.json()["exports"]
    left = await client.post("/v1/organisations/me/leave", json={"confirm": True}, headers=member.headers)
    assert left.json()["status"] == "left"
    assert called == [member.id]
    assert (await client.get("/v1/me", headers=member.headers)).status_code == 401
    members = await client.get(f"/v1/networks/{network.id}/members", headers=network.headers)
    assert members.json()["items"] == []


async def join(client: httpx.AsyncClient, network: Member, member: Member) -> None:
    path = f"/v1/networks/{network.id}/members"
    invited = await client.post(path, json={"organisation": str(member.id)}, headers=network.headers)
    assert (invited.status_code, invited.json()["status"]) == (201, "invited")
    accepted = await client.post(f"{path}/me/accept", headers=member.headers)
    assert (accepted.status_code, accepted.json()["status"]) == (200, "active")


async def test_a_membership_needs_both_sides(client: httpx.AsyncClient, make_organisation: MakeOrganisation) -> None:
    """No one enrols another: invitation and request wait, accepting one's own is refused, either side ends it."""
    network = await make_organisation("Example network", kind="network")
    a, b = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    path = f"/v1/networks/{network.id}/members"
    assert (await client.post(path, json={"organisation": str(a.id)}, headers=b.headers)).status_code == 403
    await client.post(path, json={"organisation": str(a.id)}, headers=network.headers)
    me = (await client.get("/v1/me", headers=a.headers)).json()
    assert (me["networks"], me["memberships"][0]["status"]) == ([], "invited")
    assert (await client.get(path, headers=a.headers)).status_code == 403
    assert (await client.post(f"{path}/{a.id}/accept", headers=network.headers)).status_code == 409
    assert (await client.post(f"{path}/{a.id}/accept", headers=b.headers)).status_code == 403
    assert (await client.post(path, json={"organisation": str(a.id)}, headers=network.headers)).status_code == 409
    assert (await client.post(f"{path}/{a.id}/accept", headers=a.headers)).status_code == 200
    asked = await client.post(path, json={"organisation": str(b.id)}, headers=b.headers)
    assert asked.json()["status"] == "requested"
    both = await client.get(path, headers=network.headers)
    assert [one["status"] for one in both.json()["items"]] == ["requested", "active"]
    fellow = await client.get(path, headers=a.headers)
    assert [one["organisation"]["id"] for one in fellow.json()["items"]] == [str(a.id)]
    assert (await client.post(f"{path}/{b.id}/accept", headers=network.headers)).status_code == 200
    assert (await client.delete(f"{path}/me", headers=b.headers)).status_code == 204
    assert (await client.delete(f"{path}/me", headers=b.headers)).status_code == 404
    assert (await client.get(path)).status_code == 401
    actions = (await client.get("/v1/audit-events?action=membership.end", headers=network.headers)).json()["items"]
    assert actions[0]["details"]["by"] == "organisation"


async def test_an_unlisted_member_is_known_to_its_network_only(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """A5: it has agreed to the network, not to being known by the other members."""
    network = await make_organisation("Example network", kind="network")
    hidden = await make_organisation("Example CSO C", listing="unlisted")
    fellow = await make_organisation("Example CSO A")
    await join(client, network, fellow)
    path = f"/v1/networks/{network.id}/members"
    assert (await client.get(f"/v1/organisations/{hidden.id}", headers=network.headers)).status_code == 404
    await client.post(path, json={"organisation": str(hidden.id)}, headers=hidden.headers)
    assert (await client.post(f"{path}/{hidden.id}/accept", headers=network.headers)).status_code == 200
    assert str(hidden.id) in (await client.get(path, headers=network.headers)).text
    assert str(hidden.id) not in (await client.get(path, headers=fellow.headers)).text
    assert (await client.get(f"/v1/organisations/{hidden.id}", headers=fellow.headers)).status_code == 404


async def test_the_audit_cannot_be_changed(app: FastAPI, make_organisation: MakeOrganisation) -> None:
    """O2: the table refuses UPDATE, DELETE and TRUNCATE."""
    member = await make_organisation()
    for statement in ("UPDATE audit_event SET action = 'x'", "DELETE FROM audit_event", "TRUNCATE audit_event"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with app.state.database.transaction() as connection:
                await connection.execute(statement)
    async with app.state.database.transaction() as connection:
        await audit.record(connection, "key.rotate", audit.OPERATOR, organisation_id=member.id)


async def test_leaving_and_hiding_mind_the_records(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """A5, E4: an owner of clear or green records cannot become unlisted; on leaving, amber and drafts are withdrawn."""
    member, reader = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    made = {}
    for tlp, audience in (("green", None), ("amber", [str(reader.id)])):
        body: dict[str, Any] = {"title": f"Example {tlp}", "language": "en", "tlp": tlp, "summary": "Example."}
        if audience:
            body["audience"] = audience
        answer = await client.post("/v1/issues", json={**body, "status": "published"}, headers=member.headers)
        assert answer.status_code == 201, answer.text
        made[tlp] = f"/v1/issues/{answer.json()['id']}"
        assert (await client.get(made[tlp], headers=reader.headers)).status_code == 200
    hiding = await client.patch("/v1/organisations/me", json={"listing": "unlisted"}, headers=member.headers)
    assert hiding.json()["code"] == "owner-unlisted"
    left = await client.post("/v1/organisations/me/leave", json={"confirm": True}, headers=member.headers)
    assert left.status_code == 200
    assert (await client.get(made["green"], headers=reader.headers)).status_code == 200
    assert (await client.get(made["amber"], headers=reader.headers)).status_code in (404, 410)
