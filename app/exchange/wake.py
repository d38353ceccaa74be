"""Waking those who wait for changes: one connection of a process listens, and everybody waits on it."""

import asyncio
import logging

import psycopg

from app.db import tasks
from app.records.store import CHANGES_CHANNEL

log = logging.getLogger("minga.exchange")

JOBS_CHANNEL = "minga_jobs"
RECONNECT_SECONDS = 1.0


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


class Bell:
    """Rings when something was committed that a channel tells of. Use it as `async with`.

    NOTIFY only speeds waiting up: who waits also looks again after a while, so a lost ring costs time and nothing else.
    """

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._rings: dict[str, asyncio.Event] = {}
        self._task: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    async def __aenter__(self) -> "Bell":
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            await tasks.end([self._task])

    def coming(self, channel: str) -> asyncio.Event:
        """The next ring of the channel. Who takes it before looking misses none that comes while looking."""
        return self._rings.setdefault(channel, asyncio.Event())

    async def wait(self, channel: str, seconds: float, ring: asyncio.Event | None = None) -> bool:
        """True when the channel rang within `seconds`; `ring` is what was taken before looking."""
        return await _set_within(ring or self.coming(channel), seconds)

    async def pause(self, seconds: float) -> None:
        """Sleeps, but not beyond the end of the process."""
        await _set_within(self._over, seconds)

    @property
    def ending(self) -> bool:
        """True once the process is about to end."""
        return self._over.is_set()

    def ring(self, channel: str) -> None:
        """Wakes everybody who waits on the channel now."""
        event = self._rings.pop(channel, None)
        if event is not None:
            event.set()

    def end(self) -> None:
        """Wakes everybody: the process is about to end, and requests must not wait any longer."""
        self._over.set()
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
