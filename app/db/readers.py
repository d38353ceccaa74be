"""Readers: a few connections for the statements that every read runs.

They take a statement as psycopg does, with named parameters, and give rows of the same values. What they leave out is
what a read does not need and pays for on each request: cursors, transactions, pipelines, waking up through a new timer,
and planning (plans are made once; where the values decide how to search, use `Database.connection`). Measured in
docs/measurements.md: half of what the same statement costs through a pooled connection.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Any, Protocol
from uuid import UUID

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer

Row = tuple[Any, ...]

STATEMENTS_KEPT = 150
WAIT_SECONDS = 4.0
_PARAMETER = re.compile(r"%\((\w+)\)s|%%")
_GOOD = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)


class Rows(Protocol):
    """What a statement gave."""

    async def fetchone(self) -> Row | None:
        """The next row, None after the last."""

    async def fetchall(self) -> list[Row]:
        """All rows that are left."""


class Reads(Protocol):
    """What runs a statement: a connection of psycopg, or the readers."""

    async def execute(self, query: str, params: Mapping[str, Any] | None = None, *, binary: bool = False) -> Rows:
        """The rows of one statement."""


class _Found:
    """Rows that are already here."""

    __slots__ = ("rows",)

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    async def fetchone(self) -> Row | None:
        return self.rows.pop(0) if self.rows else None

    async def fetchall(self) -> list[Row]:
        return self.rows


@lru_cache(maxsize=1000)
def numbered(query: str) -> tuple[bytes, tuple[str, ...]]:
    """The statement with `$1`, `$2` … for its named parameters, and their names in that order."""
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        if found[1] is None:
            return "%"
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    return _PARAMETER.sub(number, query).encode(), tuple(names)


def as_text(value: Any) -> bytes | None:
    """A parameter in PostgreSQL's text form. Errors: TypeError for what has none here."""
    if value is None:
        return None
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, UUID | int | str):
        return str(value).encode()
    if isinstance(value, datetime):
        return value.isoformat().encode()
    if isinstance(value, list | tuple):
        if all(isinstance(item, UUID) for item in value):
            return b"{" + b",".join([str(item).encode() for item in value]) + b"}"
        quoted = (str(item).replace("\\", "\\\\").replace('"', '\\"') for item in value)
        return ("{" + ",".join([f'"{item}"' for item in quoted]) + "}").encode()
    raise TypeError(type(value).__name__)


class _Reader:
    """One connection that runs one statement at a time."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection
        self._wire = connection.pgconn
        self._loop = asyncio.get_running_loop()
        self._file = connection.fileno()
        self._waiting: asyncio.Future[list[pq.abc.PGresult]] | None = None
        self._results: list[pq.abc.PGresult] = []
        self._names: dict[bytes, bytes] = {}
        self._count = 0
        self._listening = True
        self._loop.add_reader(self._file, self._readable)

    async def run(self, statement: bytes, values: Sequence[bytes | None]) -> list[Row]:
        """The rows. Errors: psycopg.Error; the reader is of no use any more then."""
        name = self._names.get(statement)
        if name is None:
            name = await self._prepare(statement)
        self._wire.send_query_prepared(name, values, result_format=pq.Format.BINARY)
        (result,) = await self._answer()
        loader = Transformer(self._connection)
        loader.set_pgresult(result)
        return loader.load_rows(0, result.ntuples, tuple)

    async def _prepare(self, statement: bytes) -> bytes:
        if len(self._names) >= STATEMENTS_KEPT:
            oldest = next(iter(self._names))
            self._wire.send_query(b"DEALLOCATE " + self._names.pop(oldest))
            await self._answer()
        self._count += 1
        name = b"r%d" % self._count
        self._wire.send_prepare(name, statement)
        await self._answer()
        self._names[statement] = name
        return name

    async def _answer(self) -> list[pq.abc.PGresult]:
        waiting = self._waiting = self._loop.create_future()
        while self._wire.flush():  # noqa: ASYNC110 (a statement fits into the buffer, so this ends at once)
            await asyncio.sleep(0)
        results: list[pq.abc.PGresult] = await waiting
        for result in results:
            if result.status not in _GOOD:
                raise psycopg.errors.error_from_result(result)
        return results

    def _readable(self) -> None:
        waiting = self._waiting
        try:
            self._wire.consume_input()
            while not self._wire.is_busy():
                result = self._wire.get_result()
                if result is not None:
                    self._results.append(result)
                    continue
                found, self._results, self._waiting = self._results, [], None
                if waiting is not None and not waiting.done():
                    waiting.set_result(found)
                return
        except psycopg.Error as error:
            self._listen_no_more()
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)

    def _listen_no_more(self) -> None:
        # Once only: libpq closes the file of a broken connection, and its number may be somebody else's by now.
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._file)

    async def close(self) -> None:
        """Ends the connection."""
        self._listen_no_more()
        with suppress(psycopg.Error):
            await self._connection.close()


class Readers:
    """At most `size` readers, each made when it is first needed. Runs statements like a connection in autocommit."""

    def __init__(self, url: str, options: str, size: int) -> None:
        self._url = url
        self._options = f"{options} -c plan_cache_mode=force_generic_plan"
        self._places: asyncio.LifoQueue[_Reader | None] = asyncio.LifoQueue()
        self._size = size
        for _ in range(size):
            self._places.put_nowait(None)

    async def execute(self, query: str, params: Mapping[str, Any] | None = None, *, binary: bool = False) -> Rows:
        """The rows of one statement that only reads. Errors: psycopg.Error; OperationalError when none is free in time.

        A connection that proves dead is replaced once, so that a restarted database costs no request.
        """
        statement, names = numbered(query)
        values = [as_text(params[name]) for name in names] if params else []
        reader = await self._taken()
        try:
            fresh = reader is None
            while True:
                if reader is None:
                    reader = await self._connected()
                    fresh = True
                try:
                    return _Found(await reader.run(statement, values))
                except psycopg.OperationalError as error:
                    broken, reader = reader, None
                    await broken.close()
                    if fresh or isinstance(error, psycopg.errors.QueryCanceled):
                        raise
        except BaseException:
            # An error or a client that went away leaves the connection in the middle of something.
            if reader is not None:
                await reader.close()
                reader = None
            raise
        finally:
            self._places.put_nowait(reader)

    async def _taken(self) -> _Reader | None:
        try:
            return self._places.get_nowait()
        except asyncio.QueueEmpty:
            pass
        try:
            return await asyncio.wait_for(self._places.get(), WAIT_SECONDS)
        except TimeoutError:
            raise psycopg.OperationalError("no reader became free") from None

    async def _connected(self) -> _Reader:
        connection = await psycopg.AsyncConnection.connect(
            self._url, autocommit=True, options=self._options, connect_timeout=int(WAIT_SECONDS)
        )
        return _Reader(connection)

    async def close(self) -> None:
        """Ends every connection that is not at work."""
        while not self._places.empty():
            reader = self._places.get_nowait()
            if reader is not None:
                await reader.close()
