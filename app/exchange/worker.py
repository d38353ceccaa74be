"""The worker: what goes on beside requests. It runs in the service itself, or apart as `minga worker`."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from uuid import UUID, uuid4

import psycopg

from app.db import tasks
from app.db.pool import Database
from app.exchange import import_preview, import_work, webhook_filling, webhook_sending
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
"""Changes of one moment are noted together; where noting takes longer, so does the pause after it."""
SENDING_AT_ONCE = 100
"""Receivers a process sends to at once: a slow one takes a place and no more."""
GRACE_SECONDS = 2.0
"""How long an orderly end waits for messages that are on their way."""
PAUSE_AFTER_FAILURE_SECONDS = 2.0
CLEAN_EVERY_SECONDS = 600.0
KEPT_DAYS = 30
LONG_OVER = f"finished_at < now() - interval '{KEPT_DAYS} days'"
OUTDATED = (("import_job", ABANDONED, 1), ("import_job", LONG_OVER, 1), ("webhook_delivery", LONG_OVER, 5000))
"""What is deleted, and how many rows with one statement. An import takes its parts along. All at once would hold the
feed back, and might run into the limit of a statement, and then be begun anew each time and never end."""


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
        self._claim: UUID | None = None
        self._leases: set[UUID] = set()
        self._looked: webhook_filling.Looked = {}
        self._ending = asyncio.Event()

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
        await tasks.end(self._tasks)
        if self._claim is not None:
            await self._give_back(self._claim)
        await self._end_sending()

    async def _end_sending(self) -> None:
        """Gives the leases back: each once the message that is on its way has arrived, or when the grace is over. What
        had not arrived by then is sent again, under its id, by whoever takes the lease."""
        self._ending.set()
        if self._sending:
            await asyncio.wait(self._sending, timeout=GRACE_SECONDS)
            await tasks.end(list(self._sending))
        if not self._leases:
            return
        try:
            await webhook_sending.give_back(self._database, self._leases)
        except psycopg.Error as error:
            log.warning("giving leases back: %s", type(error).__name__)  # they end by themselves

    async def _imports(self) -> None:
        self._database.check_room()
        self._claim = uuid4()  # known before the database answers: a claim is given back whenever we are told to end
        ring = self._bell.coming(JOBS_CHANNEL)
        job = await import_work.claim(self._database, self._claim)
        if job is None:
            self._claim = None
            await self._bell.wait(JOBS_CHANNEL, IDLE_SECONDS, ring)
            return
        try:
            await import_work.work(self._database, self._kinds, job)
        except psycopg.Error:
            await self._give_back(job.owner, import_work.FAILED_REST_SECONDS)  # the import goes on where it was
            raise
        except Exception:
            await import_work.give_up(self._database, job)
            raise
        self._claim = None

    async def _give_back(self, claim: UUID, rest_seconds: float | None = None) -> None:
        with suppress(psycopg.Error):  # then the lease ends by itself
            await import_work.give_back(self._database, claim, rest_seconds)

    async def _fill(self) -> None:
        begun = time.monotonic()
        ring = self._bell.coming(CHANGES_CHANNEL)
        if not await webhook_filling.fill(self._database, self._looked):
            pause = max(GATHER_SECONDS, time.monotonic() - begun)
            await self._bell.wait(CHANGES_CHANNEL, LOOK_AGAIN_SECONDS, ring)
            await asyncio.sleep(pause)

    async def _send(self) -> None:
        while len(self._sending) >= SENDING_AT_ONCE:
            await asyncio.wait(self._sending, return_when=asyncio.FIRST_COMPLETED)
        ring = self._bell.coming(JOBS_CHANNEL)
        lease = uuid4()
        self._leases.add(lease)
        try:
            receiver = await webhook_sending.lease(self._database, self._secret, lease)
        except psycopg.Error:
            self._leases.discard(lease)
            raise
        if receiver is None:
            self._leases.discard(lease)
            await self._bell.wait(JOBS_CHANNEL, LOOK_AGAIN_SECONDS, ring)
            return
        task = asyncio.create_task(self._send_to(receiver))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send_to(self, receiver: webhook_sending.Receiver) -> None:
        try:
            await webhook_sending.send_due(self._database, self._settings, receiver, self._ending)
        except psycopg.Error as error:
            log.warning("sending: %s", type(error).__name__)  # the lease ends by itself
        except Exception:
            log.exception("sending failed")
        self._leases.discard(receiver.lease)  # that of a task which was cancelled stays, to be given back
        self._bell.ring(JOBS_CHANNEL)

    async def _clean(self) -> None:
        async with self._database.connection() as connection:
            cursor = await connection.execute(import_preview.LEFT_BEHIND)
            for (job_id,) in await cursor.fetchall():
                await import_preview.forget(self._database, job_id)
            for table, condition, at_once in OUTDATED:
                chosen = f"SELECT id FROM {table} WHERE {condition} LIMIT {at_once} FOR UPDATE SKIP LOCKED"
                while (await connection.execute(f"DELETE FROM {table} WHERE id IN ({chosen})")).rowcount:
                    pass
        await asyncio.sleep(CLEAN_EVERY_SECONDS)
