"""The worker: what goes on beside requests. It runs in the service itself, or apart as `minga worker`."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import psycopg

from app.db import tasks
from app.db.pool import Database
from app.exchange import deliveries, import_preview, import_work
from app.exchange.import_lines import Job
from app.exchange.upload_lease import ABANDONED
from app.exchange.wake import JOBS_CHANNEL, Bell
from app.records.kind import Kind
from app.records.store import CHANGES_CHANNEL
from app.sealing import MasterSecret
from app.settings import Settings

log = logging.getLogger("minga.exchange")

IDLE_SECONDS = 5.0
LOOK_AGAIN_SECONDS = 1.0
GATHER_SECONDS = 0.1
"""Changes of one moment are noted together."""
SENDING_AT_ONCE = 64
"""Receivers a process sends to at once: a slow one takes a place and no more."""
PAUSE_AFTER_FAILURE_SECONDS = 2.0
CLEAN_EVERY_SECONDS = 600.0
KEPT_DAYS = 30


async def _again_and_again(name: str, turn: Callable[[], Awaitable[None]]) -> None:
    """Runs `turn` for ever; a failure is logged and followed by a pause, because the database may be away."""
    while True:
        try:
            await turn()
        except psycopg.Error as error:
            log.warning("%s: %s", name, type(error).__name__)
            await asyncio.sleep(PAUSE_AFTER_FAILURE_SECONDS)
        except Exception:
            log.exception("%s failed", name)
            await asyncio.sleep(PAUSE_AFTER_FAILURE_SECONDS)


class Worker:
    """Works imports through, tells webhooks of changes, cleans up. Use it as `async with`; any number may run."""

    def __init__(
        self, database: Database, bell: Bell, kinds: Mapping[str, Kind], secret: MasterSecret, settings: Settings
    ) -> None:
        self._database = database
        self._bell = bell
        self._kinds = kinds
        self._secret = secret
        self._settings = settings
        self._tasks: list[asyncio.Task[None]] = []
        self._sending: set[asyncio.Task[None]] = set()
        self._import: Job | None = None

    async def __aenter__(self) -> "Worker":
        turns = {
            "imports": self._imports,
            "filling": self._fill,
            "sending": self._send,
            "cleaning": self._clean,
        }
        self._tasks = [asyncio.create_task(_again_and_again(name, turn)) for name, turn in turns.items()]
        return self

    async def __aexit__(self, *_: object) -> None:
        await tasks.end([*self._tasks, *self._sending])
        if self._import is not None:
            await self._give_back(self._import)

    async def _imports(self) -> None:
        self._database.check_room()
        job = await import_work.claim(self._database)
        if job is None:
            await self._bell.wait(JOBS_CHANNEL, IDLE_SECONDS)
            return
        self._import = job
        try:
            await import_work.work(self._database, self._kinds, job)
        except psycopg.Error:
            await self._give_back(job)  # the import goes on where it was
            raise
        except Exception:
            await import_work.give_up(self._database, job)
            raise

    async def _give_back(self, job: Job) -> None:
        with suppress(psycopg.Error):  # then the lease ends by itself
            await import_work.give_back(self._database, job)

    async def _fill(self) -> None:
        if not await deliveries.fill(self._database):
            await self._bell.wait(CHANGES_CHANNEL, LOOK_AGAIN_SECONDS)
            await asyncio.sleep(GATHER_SECONDS)

    async def _send(self) -> None:
        receiver = await deliveries.lease(self._database, self._secret)
        if receiver is None:
            await self._bell.wait(JOBS_CHANNEL, LOOK_AGAIN_SECONDS)
            return
        while len(self._sending) >= SENDING_AT_ONCE:
            await asyncio.wait(self._sending, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(self._send_to(receiver))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send_to(self, receiver: deliveries.Receiver) -> None:
        try:
            await deliveries.send_due(self._database, self._settings, receiver)
        except psycopg.Error as error:
            log.warning("sending: %s", type(error).__name__)  # the lease ends by itself
        except Exception:
            log.exception("sending failed")
        self._bell.ring(JOBS_CHANNEL)

    async def _clean(self) -> None:
        async with self._database.connection() as connection:
            cursor = await connection.execute(import_preview.LEFT_BEHIND)
            for (job_id,) in await cursor.fetchall():
                await import_preview.forget(self._database, job_id)
            for statement in (
                f"DELETE FROM import_job WHERE {ABANDONED}",
                f"DELETE FROM import_job WHERE finished_at < now() - interval '{KEPT_DAYS} days'",
                f"DELETE FROM webhook_delivery WHERE finished_at < now() - interval '{KEPT_DAYS} days'",
            ):
                await connection.execute(statement)
        await asyncio.sleep(CLEAN_EVERY_SECONDS)
