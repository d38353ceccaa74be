"""The orderly end of a worker: on SIGTERM it gives its leases back, and another goes on with what was on its way."""

import asyncio
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.settings import Settings
from tests.cli.service import environment
from tests.conftest import MakeOrganisation, Member
from tests.exchange.receiving import active, log, receiving, until

pytestmark = pytest.mark.anyio
END_SECONDS = 60


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The service leaves the work to `minga worker`."""
    return Settings(
        data_dir=tmp_path / "data", founding_data=False, rate_limit="off", webhook_loopback=True, embedded_worker=False
    )


@asynccontextmanager
async def worker(database_url: str, folder: Path) -> AsyncIterator[Process]:
    """`minga worker` beside the service under test, once it works."""
    secret = folder / "secret"
    secret.write_bytes(bytes(range(64)))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app.cli", "worker"),
        cwd=folder,
        env=environment(
            MINGA_DATABASE_URL=database_url,
            MINGA_SECRET_FILE=str(secret),
            MINGA_PUBLIC_URL="http://minga.test",
            MINGA_WEBHOOK_LOOPBACK="on",
        ),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        while b"working" not in (line := await asyncio.wait_for(process.stderr.readline(), END_SECONDS)):
            assert line, "the worker ended"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def ended(process: Process) -> None:
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), END_SECONDS) == 0


async def lease_of(app: FastAPI) -> tuple[Any, ...]:
    """(who holds it, whether it may be taken) of the one webhook there is."""
    async with app.state.database.connection() as connection:
        cursor = await connection.execute("SELECT leased_by, leased_until <= now() FROM webhook")
        found: tuple[Any, ...] = await cursor.fetchone()
    return found


async def ping(client: httpx.AsyncClient, owner: Member, webhook: dict[str, Any]) -> None:
    answer = await client.post(f"/v1/webhooks/{webhook['id']}/test", headers=owner.headers)
    assert answer.status_code == 202


async def newest(client: httpx.AsyncClient, owner: Member, webhook: dict[str, Any]) -> tuple[str, int]:
    entry = (await log(client, owner, webhook))[0]
    return entry["status"], entry["attempts"]


async def test_message_that_has_not_arrived_is_sent_by_the_next_worker_and_counted_once(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, database_url: str, tmp_path: Path
) -> None:
    owner = await make_organisation()
    async with receiving() as receiver:
        async with worker(database_url, tmp_path) as first:
            webhook = await active(client, owner, receiver.url)
            receiver.delay_seconds = 3600
            await ping(client, owner, webhook)
            await until(lambda: receiver.messages)
            assert (await lease_of(app))[0] is not None
            await ended(first)
        assert await lease_of(app) == (None, True), "given back, not left to end by itself"
        assert await newest(client, owner, webhook) == ("pending", 0)
        receiver.delay_seconds = 0
        async with worker(database_url, tmp_path) as second:
            await until(lambda: is_delivered(client, owner, webhook))
            await ended(second)
        assert await newest(client, owner, webhook) == ("delivered", 1)
        ids = [headers["webhook-id"] for headers in receiver.headers[1:]]
        assert len(ids) == 2
        assert len(set(ids)) == 1


async def test_message_that_arrives_within_the_grace_is_counted(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, database_url: str, tmp_path: Path
) -> None:
    """A machine that is too slow for the grace gives the message back instead; it is never lost, nor counted twice."""
    owner = await make_organisation()
    async with receiving() as receiver, worker(database_url, tmp_path) as process:
        webhook = await active(client, owner, receiver.url)
        receiver.delay_seconds = 0.5
        await ping(client, owner, webhook)
        await until(lambda: receiver.messages)
        await ping(client, owner, webhook)
        await ended(process)
        assert (await lease_of(app))[0] is None
        pings = [entry for entry in await log(client, owner, webhook) if entry["event"] == "webhook.ping"]
        ends = [(entry["status"], entry["attempts"]) for entry in pings]
        assert len(ends) == 2
        assert set(ends) <= {("delivered", 1), ("pending", 0)}
        assert ends.count(("delivered", 1)) <= len(receiver.messages)


async def is_delivered(client: httpx.AsyncClient, owner: Member, webhook: dict[str, Any]) -> bool:
    return (await newest(client, owner, webhook))[0] == "delivered"
