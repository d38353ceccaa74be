"""The pool: connections for reading (autocommit) and transactions for writing.

Statements are SQL text with named parameters, run by psycopg; tables are declared with SQLModel and migrated by
alembic (docs/decisions/0001-psycopg-statements-sqlmodel-tables.md says why).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import psycopg
from psycopg_pool import AsyncConnectionPool

from app.db.readers import Readers
from app.db.room import Room

type_row = tuple[Any, ...]
Connection = psycopg.AsyncConnection[tuple[Any, ...]]

POOL_TIMEOUT_SECONDS = 4.0
SESSION_OPTIONS = (
    "-c timezone=UTC -c statement_timeout=15s -c lock_timeout=5s -c idle_in_transaction_session_timeout=10s"
    " -c default_transaction_isolation=read\\ committed -c jit=off"
)


_rings: WeakKeyDictionary[Connection, set[str]] = WeakKeyDictionary()


def ring_after_commit(connection: Connection, channel: str) -> None:
    """Sends NOTIFY on `channel` once the transaction of `Database.transaction` is committed.

    Inside it, NOTIFY makes every other writer wait until this one's commit is on disk, one after the other.
    """
    _rings.setdefault(connection, set()).add(channel)


def driver_url(database_url: str) -> str:
    """The libpq form of a database address; SQLAlchemy's `postgresql+psycopg://` is accepted too.

    Errors: ValueError when the address is not PostgreSQL's.
    """
    scheme, separator, rest = database_url.partition("://")
    if not separator or scheme.split("+")[0] not in {"postgresql", "postgres"}:
        raise ValueError("the database address must start with postgresql://")
    urlsplit(database_url)
    return f"postgresql://{rest}"


class Database:
    """A pool of connections to one PostgreSQL, and half as many readers. Open it with `async with`.

    With a `room`, transactions are refused while its disk is nearly full.
    """

    def __init__(self, url: str, *, size: int = 10, room: Room | None = None) -> None:
        self.url = driver_url(url)
        self._room = room
        self.readers = Readers(self.url, SESSION_OPTIONS, max(1, size // 2))
        self._channels: set[str] = set()
        self._ringing: asyncio.Task[None] | None = None
        self.pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            self.url,
            min_size=1,
            max_size=size,
            timeout=POOL_TIMEOUT_SECONDS,
            open=False,
            kwargs={"autocommit": True, "options": SESSION_OPTIONS, "prepare_threshold": 2},
            max_idle=300,
            reconnect_timeout=5,
        )

    async def __aenter__(self) -> "Database":
        await self.pool.open(wait=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._ringing is not None:
            await self._ringing
        await self.readers.close()
        await self.pool.close(timeout=5)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection in autocommit mode, for reading."""
        async with self.pool.connection() as connection:
            yield connection

    @asynccontextmanager
    async def transaction(self, *, vital: bool = False) -> AsyncIterator[Connection]:
        """A connection inside one transaction, committed on leaving, rolled back on any exception.

        What is `vital` is small or takes something back: it may use the reserve on the disk.

        Errors: psycopg.errors.DiskFull when there is no room.
        """
        if not vital:
            self.check_room()
        async with self.pool.connection() as connection:
            _rings.pop(connection, None)
            async with connection.transaction():
                yield connection
            self._channels |= _rings.pop(connection, set())
        if self._channels and (self._ringing is None or self._ringing.done()):
            self._ringing = asyncio.create_task(self._ring())

    def check_room(self) -> None:
        """Passes when there is room to write, as far as we can see. Errors: psycopg.errors.DiskFull."""
        if self._room is not None:
            self._room.check()

    async def _ring(self) -> None:
        """Rings once for all who committed meanwhile. A ring that is lost costs those who wait some time, no more."""
        while self._channels:
            channel = self._channels.pop()
            with suppress(psycopg.Error):
                await self.readers.execute(f"NOTIFY {channel}")
