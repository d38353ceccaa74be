"""Rights are those of now: revocation, suspension, ended membership, rotated keys (safety A7, A8, A14; rules B12)."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from fastapi import FastAPI

from app.identity import credentials, networks, organisations, tokens
from app.settings import Settings
from tests.conftest import SECRET, MakeOrganisation, Member, client_of, running_app

FORM = {"grant_type": "client_credentials"}


@pytest.fixture
async def elsewhere(app: FastAPI, settings: Settings, database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Another worker over the same database."""
    async with running_app(settings, database_url) as other, client_of(other) as client:
        yield client


async def status_of(client: httpx.AsyncClient, member: Member) -> int:
    return (await client.get("/v1/me", headers=member.headers)).status_code


async def refused_within_a_second(client: httpx.AsyncClient, member: Member) -> bool:
    """Asks all the time, so that the other worker's cache is as warm as can be; what is asked after a second counts."""
    begun = time.monotonic()
    while True:
        late = time.monotonic() - begun > 1.0
        if await status_of(client, member) == 401:
            return True
        if late:
            return False
        await asyncio.sleep(0.02)


async def until(ask: Callable[[], Awaitable[object]], expected: object) -> None:
    """Asks until the answer is the expected one. Errors: TimeoutError."""
    async with asyncio.timeout(120):
        while True:
            if await ask() == expected:
                return
            await asyncio.sleep(0.02)


async def fresh_token(client: httpx.AsyncClient, member: Member, **more: str) -> httpx.Response:
    return await client.post("/oauth/token", data={**FORM, **more}, auth=(member.client_id, member.client_secret))


async def test_a_revoked_token_is_refused_here_at_once_and_elsewhere_within_a_second(
    client: httpx.AsyncClient, elsewhere: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """A8: by jti; other tokens of the credential go on working; unknown tokens are 200."""
    member = await make_organisation()
    second = (await fresh_token(client, member)).json()["access_token"]
    assert await status_of(elsewhere, member) == 200
    auth = (member.client_id, member.client_secret)
    assert (await client.post("/oauth/revoke", data={"token": member.token}, auth=auth)).status_code == 200
    assert await status_of(client, member) == 401
    assert await refused_within_a_second(elsewhere, member)
    answer = await client.get("/v1/me", headers={"Authorization": f"Bearer {second}"})
    assert answer.status_code == 200
    assert (await client.post("/oauth/revoke", data={"token": "nonsense"}, auth=auth)).status_code == 200
    assert (await client.post("/oauth/revoke", data={"token": second})).status_code == 401


async def test_a_foreign_token_cannot_be_revoked_or_looked_into(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """A8, A9."""
    a, b = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    auth = (b.client_id, b.client_secret)
    assert (await client.post("/oauth/revoke", data={"token": a.token}, auth=auth)).status_code == 200
    assert await status_of(client, a) == 200
    assert (await client.post("/oauth/introspect", data={"token": a.token}, auth=auth)).json() == {"active": False}
    assert (await client.post("/oauth/introspect", data={"token": a.token})).status_code == 401
    own = await client.post("/oauth/introspect", data={"token": b.token}, auth=auth)
    assert own.json()["active"] is True
    assert own.json()["sub"] == str(b.id)


@pytest.mark.parametrize("act", ["revoke credential", "suspend organisation", "expire credential"])
async def test_what_is_not_welcome_is_refused_within_a_second(
    app: FastAPI,
    client: httpx.AsyncClient,
    elsewhere: httpx.AsyncClient,
    make_organisation: MakeOrganisation,
    act: str,
) -> None:
    """A8, A14: also when the act comes from outside the process; no new token either."""
    member = await make_organisation()
    assert await status_of(elsewhere, member) == 200
    async with app.state.database.transaction() as connection:
        if act == "revoke credential":
            await credentials.revoke(connection, member.client_id)
        elif act == "suspend organisation":
            await organisations.suspend(connection, member.id)
        else:
            await connection.execute("UPDATE credential SET expires_at = now()")
    assert await refused_within_a_second(elsewhere, member)
    assert await refused_within_a_second(client, member)
    answer = await fresh_token(client, member)
    assert answer.status_code == 401
    assert answer.json()["error"] == "invalid_client"


async def test_revoking_a_credential_over_http_works_at_once(
    client: httpx.AsyncClient, elsewhere: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """A8: the worker that did it refuses the very next request."""
    member = await make_organisation()
    me = (await client.get("/v1/me", headers=member.headers)).json()
    assert await status_of(elsewhere, member) == 200
    path = f"/v1/credentials/{me['credential']['id']}"
    assert (await client.delete(path, headers=member.headers)).status_code == 204
    assert await status_of(client, member) == 401
    assert await refused_within_a_second(elsewhere, member)


async def test_steward_suspends_and_reinstates(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """E4: no token works while suspended; afterwards the same one does; stewards' acts are audited."""
    member = await make_organisation("Example CSO A")
    steward = await make_organisation("Example node")
    async with app.state.database.transaction() as connection:
        made = await credentials.add(connection, SECRET, steward.id, "steward", ["steward", "organisation:manage"])
    answer = await client.post("/oauth/token", data=FORM, auth=(made["client_id"], made["client_secret"]))
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    path = f"/v1/organisations/{member.id}"
    assert (await client.post(f"{path}/suspend", headers=member.headers)).status_code == 403
    assert (await client.post(f"{path}/suspend", headers=headers)).status_code == 200
    assert await status_of(client, member) == 401
    assert (await client.post(f"{path}/suspend", headers=headers)).json()["code"] == "illegal-transition"
    assert (await client.post(f"{path}/reinstate", headers=headers)).status_code == 200
    assert await status_of(client, member) == 200
    events = (await client.get("/v1/audit-events?acts_of=stewards", headers=headers)).json()["items"]
    assert [one["action"] for one in events] == ["organisation.reinstate", "organisation.suspend"]
    own = (await client.get("/v1/audit-events", headers=member.headers)).json()["items"]
    assert own[0]["actor"] == {"kind": "steward", "organisation": None, "credential": None}
    assert (await client.get("/v1/audit-events?acts_of=stewards", headers=member.headers)).status_code == 403


async def test_an_ended_membership_counts_no_more(
    app: FastAPI, client: httpx.AsyncClient, elsewhere: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """Rules B5, B12: networks are read live, and joining and leaving raise the epoch."""
    member = await make_organisation("Example CSO A")
    network = await make_organisation("Example network", kind="network")

    async def listed(over: httpx.AsyncClient) -> list[str]:
        return [one["id"] for one in (await over.get("/v1/me", headers=member.headers)).json()["networks"]]

    async def epoch() -> int:
        async with app.state.database.connection() as connection:
            cursor = await connection.execute("SELECT access_epoch FROM organisation WHERE id = %s", [member.id])
            return int((await cursor.fetchone())[0])

    before = await epoch()
    async with app.state.database.transaction() as connection:
        await networks.add_member_by_operator(connection, network.id, member.id)
    app.state.identity.forget()
    assert await listed(client) == [str(network.id)]
    joined = await epoch()
    assert joined > before
    path = f"/v1/networks/{network.id}/members/{member.id}"
    assert (await client.delete(path, headers=network.headers)).status_code == 204
    assert await listed(client) == []
    await until(lambda: listed(elsewhere), [])
    assert await epoch() > joined


async def test_rotation_under_traffic_refuses_nobody(
    app: FastAPI, client: httpx.AsyncClient, elsewhere: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """A7: the next key is published before it signs; when it does, tokens of the last one still work."""
    member = await make_organisation()
    statuses: list[int] = []
    kids: set[str] = set()
    stop = asyncio.Event()

    async def traffic(over: httpx.AsyncClient) -> None:
        while not stop.is_set():
            statuses.append(await status_of(over, member))
            token = (await fresh_token(over, member)).json()["access_token"]
            kids.add(tokens.key_id(token))
            answer = await client.get("/v1/me", headers={"Authorization": f"Bearer {token}"})
            statuses.append(answer.status_code)
            await asyncio.sleep(0.01)

    async def sql(text: str) -> None:
        async with app.state.database.transaction() as connection:
            await connection.execute(text)

    running = [asyncio.create_task(traffic(over)) for over in (client, elsewhere)]

    async def keys() -> set[str]:
        return {key["kid"] for key in (await elsewhere.get("/.well-known/jwks.json")).json()["keys"]}

    async def signing() -> int:
        return len(kids)

    await until(signing, 1)
    async with app.state.database.transaction() as connection:
        made = await tokens.rotate_keys(connection, SECRET)
    published = {made["kid"], *made["removed"]}
    await until(keys, published)
    assert kids == set(made["removed"])
    await sql("UPDATE signing_key SET active_from = now() WHERE active_from > now()")  # ten minutes pass
    await until(signing, 2)
    assert kids == published
    stop.set()
    await asyncio.gather(*running)
    assert set(statuses) == {200}
    await sql("UPDATE signing_key SET removed_at = now() WHERE removed_at IS NOT NULL")  # twenty minutes pass
    assert await refused_within_a_second(elsewhere, member)


async def test_an_emergency_rotation_kills_the_old_tokens(
    app: FastAPI, client: httpx.AsyncClient, elsewhere: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """A7: `key rotate --now`."""
    member = await make_organisation()
    assert await status_of(elsewhere, member) == 200
    async with app.state.database.transaction() as connection:
        await tokens.rotate_keys(connection, SECRET, now=True)
    assert await refused_within_a_second(elsewhere, member)
    assert await refused_within_a_second(client, member)
    assert (await fresh_token(elsewhere, member)).status_code == 200


async def exchanged(client: httpx.AsyncClient, token: str, **more: str) -> httpx.Response:
    return await client.post(
        "/oauth/token",
        data={
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": token,
            "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
            **more,
        },
    )


async def test_exchange_narrows_and_never_widens(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """RFC 8693, rules E2: fewer scopes, shorter life, never organisation:manage, revoked with its parent."""
    member, other = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    answer = await exchanged(client, member.token, scope="records:read")
    assert answer.status_code == 200
    narrow = answer.json()
    assert narrow["scope"] == "records:read"
    assert narrow["expires_in"] <= 300
    assert narrow["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
    headers = {"Authorization": f"Bearer {narrow['access_token']}"}
    assert (await client.get("/v1/me", headers=headers)).json()["scopes"] == ["records:read"]
    assert (await client.get("/v1/credentials", headers=headers)).status_code == 403
    wider = await exchanged(client, narrow["access_token"], scope="records:write")
    assert wider.json()["error"] == "invalid_scope"
    everything = (await exchanged(client, member.token)).json()
    assert "organisation:manage" not in everything["scope"]
    assert (await exchanged(client, member.token, scope="organisation:manage")).json()["error"] == "invalid_scope"
    assert (await exchanged(client, "x.y.z")).json()["error"] == "invalid_request"
    assert (await exchanged(client, member.token, audience="https://elsewhere.example")).json()[
        "error"
    ] == "invalid_target"
    stolen = await client.post(
        "/oauth/token",
        data={
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": member.token,
            "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        },
        auth=(other.client_id, other.client_secret),
    )
    assert stolen.json()["error"] == "invalid_request"
    grandchild = (await exchanged(client, narrow["access_token"])).json()["access_token"]
    auth = (member.client_id, member.client_secret)
    await client.post("/oauth/revoke", data={"token": member.token}, auth=auth)
    for token in (narrow["access_token"], grandchild):
        assert (await client.get("/v1/me", headers={"Authorization": f"Bearer {token}"})).status_code == 401


async def test_without_the_database_nobody_gets_old_rights(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """Rules B12, W6: 503, and by itself back."""
    member = await make_organisation()
    assert await status_of(client, member) == 200
    pool = app.state.database.pool
    borrow: Callable[..., Awaitable[object]] = pool.getconn
    pool.getconn = _no_connection
    app.state.identity.forget()
    answer = await client.get("/v1/me", headers=member.headers)
    pool.getconn = borrow
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) < 5
    assert await status_of(client, member) == 200


async def _no_connection(*_: object, **__: object) -> object:
    from psycopg_pool import PoolTimeout

    raise PoolTimeout


async def test_many_waiting_requests_read_the_rights_once(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """One statement serves all requests that arrive while it runs; one that goes away takes nothing from the others."""
    member = await make_organisation()
    identity = app.state.identity
    reads = 0
    reached = identity._reached

    async def counted(work: Callable[..., Awaitable[object]]) -> object:
        nonlocal reads
        reads += 1
        await asyncio.sleep(0.05)
        return await reached(work)

    identity.forget()
    await identity.keys()
    identity._reached = counted
    asked = [asyncio.create_task(identity.caller(member.token.encode())) for _ in range(50)]
    await asyncio.sleep(0.01)
    asked[0].cancel()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(one.organisation_id == member.id for one in found[1:])  # type: ignore[union-attr]
    assert reads == 1
