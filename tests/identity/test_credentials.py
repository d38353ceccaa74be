"""Credentials: scopes never grow, secrets are shown once and found nowhere (rules E2, B10; safety A10–A12)."""

import asyncio
import re
from pathlib import Path

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from app.db.pool import driver_url
from app.http.problem import Problem
from app.identity import credentials
from app.identity.caller import SCOPES
from tests.conftest import SECRET, MakeOrganisation, Member

FORM = {"grant_type": "client_credentials"}
PATH = "/v1/credentials"


async def token(client: httpx.AsyncClient, client_id: str, client_secret: str, **more: str) -> httpx.Response:
    return await client.post("/oauth/token", data={**FORM, **more}, auth=(client_id, client_secret))


async def with_scopes(client: httpx.AsyncClient, member: Member, scope: str) -> dict[str, str]:
    answer = await token(client, member.client_id, member.client_secret, scope=scope)
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def test_a_new_credential_works_and_its_secret_is_shown_once(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """A11, B10."""
    member = await make_organisation()
    headers = {**member.headers, "Idempotency-Key": "first"}
    sent = {"label": "Nightly export", "scopes": ["records:read"]}
    made = await client.post(PATH, json=sent, headers=headers)
    assert made.status_code == 201
    assert made.headers["cache-control"] == "private, no-store"
    body = made.json()
    assert re.fullmatch("mng_[0-9A-Za-z]{49}", body["client_secret"])
    assert body["scopes"] == ["records:read"]
    assert (await client.post(PATH, json=sent, headers=headers)).json()["code"] == "secret-already-shown"
    assert (await client.post(PATH, json={"label": "Other"}, headers=headers)).json()["code"] == "idempotency-mismatch"
    assert (await token(client, body["client_id"], body["client_secret"])).json()["scope"] == "records:read"
    listed = await client.get(PATH, headers=member.headers)
    assert len(listed.json()["items"]) == 2
    assert "client_secret" not in listed.text
    assert "hash" not in listed.text
    one = await client.get(made.headers["location"], headers=member.headers)
    assert one.json()["last_used_at"].endswith(":00:00Z")


async def test_scopes_never_grow(app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation) -> None:
    """E2: a credential made or rotated over HTTP has at most the scopes of the token used, and never steward."""
    member = await make_organisation()
    narrow = await with_scopes(client, member, "organisation:manage records:read")
    for scopes in (["records:write"], ["steward"], ["nonsense"], []):
        answer = await client.post(PATH, json={"label": "x", "scopes": scopes}, headers=narrow)
        assert answer.status_code == 422, scopes
    default = await client.post(PATH, json={"label": "x"}, headers=narrow)
    assert set(default.json()["scopes"]) == {"organisation:manage", "records:read"}
    wide = (await client.get("/v1/me", headers=member.headers)).json()["credential"]["id"]
    assert (await client.post(f"{PATH}/{wide}/rotate", headers=narrow)).status_code == 403
    async with app.state.database.transaction() as connection:
        steward = await credentials.add(connection, SECRET, member.id, "steward", SCOPES)
    headers = await with_scopes(client, member, "organisation:manage records:read")
    assert (await client.post(f"{PATH}/{steward['id']}/rotate", headers=headers)).status_code == 403
    all_of_it = (await token(client, steward["client_id"], steward["client_secret"])).json()
    assert "steward" in all_of_it["scope"]
    headers = {"Authorization": f"Bearer {all_of_it['access_token']}"}
    made = await client.post(PATH, json={"label": "x"}, headers=headers)
    assert "steward" not in made.json()["scopes"]
    refused = await client.post(PATH, json={"label": "x", "scopes": ["steward"]}, headers=headers)
    assert refused.json()["errors"] == [{"pointer": "/scopes/0", "code": "scope-not-granted"}]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"label": ""},
        {"label": "a\u202eb"},
        {"label": 5},
        {"label": "x", "expires_at": "2001-01-01T00:00:00Z"},
        {"label": "x", "expires_at": "tomorrow"},
        {"label": "x", "expires_at": "2999-01-01T00:00:00"},
        {"label": "x", "client_secret": "marker-of-mine"},
    ],
)
async def test_bodies_that_are_refused(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, body: dict[str, object]
) -> None:
    """V9, I4."""
    member = await make_organisation()
    answer = await client.post(PATH, json=body, headers=member.headers)
    assert answer.status_code == 422
    assert "marker-of-mine" not in answer.text


async def test_two_secrets_live_during_rotation(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """A11: both work for the overlap, never longer than 7 days; without overlap the old one is dead at once."""
    member = await make_organisation()
    me = (await client.get("/v1/me", headers=member.headers)).json()["credential"]["id"]
    too_long = await client.post(f"{PATH}/{me}/rotate", json={"overlap_seconds": 7 * 86400 + 1}, headers=member.headers)
    assert too_long.status_code == 422
    rotated = await client.post(f"{PATH}/{me}/rotate", headers=member.headers)
    assert rotated.status_code == 200
    new = rotated.json()["client_secret"]
    for secret in (member.client_secret, new):
        assert (await token(client, member.client_id, secret)).status_code == 200
    async with app.state.database.transaction() as connection:
        await connection.execute("UPDATE credential SET previous_expires_at = now()")
    assert (await token(client, member.client_id, member.client_secret)).status_code == 401
    newest = await client.post(f"{PATH}/{me}/rotate", json={"overlap_seconds": 0}, headers=member.headers)
    assert (await token(client, member.client_id, new)).status_code == 401
    assert (await token(client, member.client_id, newest.json()["client_secret"])).status_code == 200


async def test_credentials_of_others_are_missing(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """A11 of the rules."""
    a, b = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    other = (await client.get("/v1/me", headers=b.headers)).json()["credential"]["id"]
    for method, path in (("GET", ""), ("POST", "/rotate"), ("POST", "/revoke"), ("DELETE", "")):
        assert (await client.request(method, f"{PATH}/{other}{path}", headers=a.headers)).status_code == 404
    assert (await client.get("/v1/me", headers=b.headers)).status_code == 200


async def test_each_scope_opens_its_own_doors_only(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """A10: every operation of this room × every scope, out of the OpenAPI document."""
    from app.http.openapi import build_document

    member = await make_organisation()
    async with app.state.database.transaction() as connection:
        made = await credentials.add(connection, SECRET, member.id, "all", SCOPES)
    headers = {}
    for scope in SCOPES:
        answer = await token(client, made["client_id"], made["client_secret"], scope=scope)
        headers[scope] = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    rooms = ("/v1/me", "/v1/credentials", "/v1/organisations", "/v1/networks", "/v1/audit-events")
    asked = 0
    for path, item in build_document(app)["paths"].items():
        if not path.startswith(rooms):
            continue
        for method, operation in item.items():
            needed = {scope for way in operation["security"] for scope in way.get("oauth2", ())}
            secured = operation["security"] and {} not in operation["security"]
            address = re.sub(r"\{[a-z_]+\}", "0190b3a0-0000-7000-8000-000000000001", path)
            if secured:
                assert (await client.request(method, address)).status_code == 401, (method, path)
            for scope in SCOPES if needed else ():
                answer = await client.request(method, address, headers=headers[scope])
                asked += 1
                refused = answer.status_code == 403 and answer.json()["code"] == "insufficient-scope"
                assert refused == (scope not in needed), (method, path, scope, answer.text)
                if refused:
                    assert f'scope="{next(iter(needed))}"' in answer.headers["www-authenticate"]
    assert asked >= 20 * len(SCOPES)


async def test_a_dump_holds_no_secret(
    app: FastAPI,
    client: httpx.AsyncClient,
    make_organisation: MakeOrganisation,
    database_url: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A11, A12, O4: neither client secrets nor tokens, claim codes or private keys are in the database or the log."""
    member = await make_organisation()
    made = await client.post(PATH, json={"label": "x"}, headers={**member.headers, "Idempotency-Key": "k"})
    await client.post("/oauth/revoke", data={"token": member.token}, auth=(member.client_id, member.client_secret))
    identity = app.state.identity
    signer = (await identity.keys()).signer
    with psycopg.connect(driver_url(database_url)) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        dump = "".join(
            "".join(str(row) for row in connection.execute(f'SELECT t::text FROM "{table}" AS t').fetchall())
            for (table,) in tables
        )
    assert member.client_id in dump
    captured = capfd.readouterr()
    private = signer.private.to_dict()["d"]
    for secret in (member.client_secret, made.json()["client_secret"], member.token, private):
        for text in (dump, captured.out, captured.err):
            assert secret not in text
            assert secret.encode().hex() not in text
    assert "PRIVATE" not in dump


async def test_at_most_fifty_and_racing_creations_hold_it(app: FastAPI, make_organisation: MakeOrganisation) -> None:
    """API4: a stolen token cannot fill the table."""
    member = await make_organisation()

    async def add() -> int:
        try:
            async with app.state.database.transaction() as connection:
                await credentials.add(connection, SECRET, member.id, "x")
        except Problem:
            return 0
        return 1

    assert sum(await asyncio.gather(*(add() for _ in range(60)))) == credentials.MAX_CREDENTIALS - 1


def test_only_one_module_imports_jose() -> None:
    """The library is used where its traps are known."""
    root = Path(__file__).resolve().parents[2] / "app"
    users = [file.name for file in root.rglob("*.py") if re.search(r"^\s*(from|import) jose", file.read_text(), re.M)]
    assert users == ["tokens.py"]
