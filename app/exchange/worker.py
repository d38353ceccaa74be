"""The worker: what goes on beside requests. It runs in the service itself, or apart as `minga worker`."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import psycopg

from app.db.pool import Database
from app.exchange import import_work
from app.exchange.wake import JOBS_CHANNEL, Bell
from app.records.kind import Kind

log = logging.getLogger("minga.exchange")

IDLE_SECONDS = 5.0
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
    """Works imports through and cleans up. Use it as `async with`; any number may run on one database."""

    def __init__(self, database: Database, bell: Bell, kinds: Mapping[str, Kind]) -> None:
        self._database = database
        self._bell = bell
        self._kinds = kinds
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Worker":
        turns = {"imports": self._imports, "cleaning": self._clean}
        self._tasks = [asyncio.create_task(_again_and_again(name, turn)) for name, turn in turns.items()]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def _imports(self) -> None:
        job = await import_work.claim(self._database)
        if job is None:
            await self._bell.wait(JOBS_CHANNEL, IDLE_SECONDS)
            return
        try:
            await import_work.work(self._database, self._kinds, job)
        except psycopg.Error:
            raise  # the lease ends by itself, and the import goes on where it was
        except Exception:
            await import_work.give_up(self._database, job)
            raise

    async def _clean(self) -> None:
        async with self._database.connection() as connection:
            for statement in (
                "DELETE FROM import_job WHERE status = 'receiving' AND created_at < now() - interval '6 hours'",
                f"DELETE FROM import_job WHERE finished_at < now() - interval '{KEPT_DAYS} days'",
                f"DELETE FROM webhook_delivery WHERE finished_at < now() - interval '{KEPT_DAYS} days'",
            ):
                await connection.execute(statement)
        await asyncio.sleep(CLEAN_EVERY_SECONDS)
