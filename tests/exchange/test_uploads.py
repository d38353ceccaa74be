"""Uploads of imports: how many at once, and what is left of one that breaks off or whose process dies."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.exchange import import_upload, imports, upload_lease
from app.exchange import lines as cutting
from app.http.problem import Problem
from app.kinds.issues import ISSUES
from tests.conftest import MakeOrganisation
from tests.exchange.importing import NDJSON, imported, issue, ndjson
from tests.records.bodies import publishable

pytestmark = pytest.mark.anyio


async def test_uploads_of_a_killed_process_stand_in_nobodys_way(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_lease, "RENEW_SECONDS", 0.05)
    owner = await make_organisation()
    lines = ndjson({"kind": "issue", **publishable(ISSUES)})
    go_on = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield lines[:10]
        await go_on.wait()
        yield lines[10:]

    async def upload(number: int, content: Any) -> httpx.Response:
        headers = {**owner.headers, **NDJSON, "Idempotency-Key": f"upload-{number}"}
        return await client.post("/v1/imports", content=content, headers=headers)

    alive = asyncio.create_task(upload(0, slowly()))
    for number in range(1, import_upload.OPEN_AT_ONCE):
        await imported(client, owner, lines, headers={"Idempotency-Key": f"upload-{number}"})
    await until_receiving(app, 1)
    async with app.state.database.connection() as connection:
        # As if the process had died while these bodies came in, and the other were slow.
        await connection.execute(
            "UPDATE import_job SET status = 'receiving', leased_until = now() + interval '1 hour' WHERE status = 'done'"
        )
        assert (await upload(1, lines)).json()["code"] == "conflict"
        await connection.execute("UPDATE import_job SET leased_until = now() - interval '1 second'")
        await asyncio.sleep(0.2)
    assert (await upload(1, lines)).status_code == 200
    assert (await upload(0, lines)).json()["code"] == "idempotency-in-flight"
    go_on.set()
    assert (await alive).status_code == 200
    async with app.state.database.connection() as connection:
        cursor = await connection.execute("SELECT count(*) FROM import_job WHERE status <> 'done'")
        assert await cursor.fetchone() == (0,)


async def until_receiving(app: FastAPI, count: int) -> None:
    async with asyncio.timeout(10), app.state.database.connection() as connection:
        while True:
            cursor = await connection.execute("SELECT count(*) FROM import_job WHERE status = 'receiving'")
            if await cursor.fetchone() == (count,):
                return
            await asyncio.sleep(0.02)


async def test_uploads_that_begin_together_pass_the_limit_no_more_than_others(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner = await make_organisation()
    everything = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        await everything.wait()
        yield ndjson(issue(1))

    async def upload() -> httpx.Response:
        return await client.post("/v1/imports", content=slowly(), headers={**owner.headers, **NDJSON})

    async with app.state.database.connection() as connection:
        await connection.execute(
            "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN PERFORM pg_sleep(0.2); RETURN NEW; END$$"
        )
        await connection.execute(
            "CREATE TRIGGER slowly BEFORE INSERT ON import_job FOR EACH ROW EXECUTE FUNCTION slowly()"
        )
    many = import_upload.OPEN_AT_ONCE + 7
    uploads = [asyncio.create_task(upload()) for _ in range(many)]
    ended = 0
    async with asyncio.timeout(120):
        while ended < many - import_upload.OPEN_AT_ONCE:
            await asyncio.sleep(0.05)
            ended = sum(one.done() for one in uploads)
    everything.set()
    codes = sorted(answer.status_code for answer in await asyncio.gather(*uploads))
    assert codes == [200] * import_upload.OPEN_AT_ONCE + [409] * 7


async def test_import_that_was_queued_is_not_taken_back_when_its_request_fails(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something breaks behind the commit: the lease's own task, the line to the database, the end of the process."""
    owner = await make_organisation()
    real = imports.receive

    async def breaking(*given: Any) -> None:
        await real(*given)
        raise Problem("unavailable")

    monkeypatch.setattr(imports, "receive", breaking)
    headers = {**owner.headers, **NDJSON, "Idempotency-Key": "upload"}
    lines = ndjson(issue(1), issue(2))
    assert (await client.post("/v1/imports", content=lines, headers=headers)).status_code == 503
    again = await client.post("/v1/imports", content=lines, headers=headers)
    assert again.status_code == 200, again.text
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["counts"]["created"] == 2


async def test_repeated_upload_is_read_no_further_than_a_first_one(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cutting, "MAXIMUM_BYTES", 2_000)
    owner = await make_organisation()
    key = {"Idempotency-Key": "upload"}
    await imported(client, owner, ndjson(issue(1)), headers=key)
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while read < 1_000_000:
            read += 1_000
            yield b"x" * 1_000

    answer = await client.post("/v1/imports", content=endless(), headers={**owner.headers, **NDJSON, **key})
    assert answer.json()["code"] == "body-too-large"
    assert read < 1_000_000
