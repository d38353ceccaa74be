"""Waking those who wait for changes: one connection of a process listens, and everybody waits on it."""

import asyncio
import logging

import psycopg

from app.db import tasks
from app.records.store import CHANGES_CHANNEL

log = logging.getLogger("minga.exchange")

JOBS_CHANNEL = "minga_jobs"
RECONNECT_SECONDS = 1.0


class Bell:
    """Rings when something was committed that a channel tells of. Use it as `async with`.

    NOTIFY only speeds waiting up: who waits also looks again after a while, so a lost ring costs time and nothing else.
    """

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._rings: dict[str, asyncio.Event] = {}
        self._task: asyncio.Task[None] | None = None
        self.ending = False

    async def __aenter__(self) -> "Bell":
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            await tasks.end([self._task])

    async def wait(self, channel: str, seconds: float) -> bool:
        """True when the channel rang within `seconds`."""
        event = self._rings.setdefault(channel, asyncio.Event())
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        return True

    def ring(self, channel: str) -> None:
        """Wakes everybody who waits on the channel now."""
        event = self._rings.pop(channel, None)
        if event is not None:
            event.set()

    def end(self) -> None:
        """Wakes everybody: the process is about to end, and requests must not wait any longer."""
        self.ending = True
        for channel in list(self._rings):
            self.ring(channel)

    async def _listen(self) -> None:
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
                    for channel in (CHANGES_CHANNEL, JOBS_CHANNEL):
                        await connection.execute(f"LISTEN {channel}")
                    async for notice in connection.notifies():
                        self.ring(notice.channel)
            except psycopg.Error as error:
                log.info("listening for changes: %s", type(error).__name__)
            await asyncio.sleep(RECONNECT_SECONDS)
