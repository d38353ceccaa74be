"""The readers give what a connection gives, and survive what befalls a connection."""

import asyncio
import os
import socket
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest
from psycopg import pq

from app.db.pool import Database
from app.db.readers import STATEMENTS_KEPT, numbered

VALUES = {
    "id": UUID(int=7),
    "ids": [UUID(int=1), UUID(int=2)],
    "texts": ["a", 'b "c" \\ {d},', ""],
    "number": -3,
    "at": datetime(2026, 11, 21, 12, 0, 0, 5, UTC),
    "nothing": None,
    "yes": True,
}
EVERYTHING = (
    "SELECT %(id)s::uuid, %(ids)s::uuid[], %(texts)s::text[], %(number)s::bigint, %(at)s::timestamptz,"
    " %(nothing)s::text, %(yes)s::bool, '%%', %(id)s::uuid = ANY (%(ids)s::uuid[]), convert_to('é', 'UTF8')"
)


async def test_same_values_as_from_a_connection(database: Database) -> None:
    async with database.connection() as connection:
        expected = await (await connection.execute(EVERYTHING, VALUES, binary=True)).fetchone()
    for _ in range(2):
        assert await (await database.readers.execute(EVERYTHING, VALUES)).fetchone() == expected


def test_a_name_used_twice_is_one_parameter() -> None:
    assert numbered("%(a)s %(b)s %(a)s %%") == (b"$1 $2 $1 %", ("a", "b"))


async def test_many_rows_and_none(database: Database) -> None:
    query = "SELECT * FROM generate_series(1, %(n)s::int)"
    assert len(await (await database.readers.execute(query, {"n": 20_000})).fetchall()) == 20_000
    assert await (await database.readers.execute(query, {"n": 0})).fetchone() is None


async def test_more_readers_than_connections_wait_their_turn(database: Database) -> None:
    query = "SELECT %(n)s::int, pg_sleep(0.01)"
    found = await asyncio.gather(*(database.readers.execute(query, {"n": n}) for n in range(40)))
    assert [(await rows.fetchall())[0][0] for rows in found] == list(range(40))


async def test_a_dead_connection_costs_no_request(database: Database) -> None:
    own = "SELECT pg_backend_pid()"
    (first,) = await (await database.readers.execute(own)).fetchall()
    async with database.connection() as connection:
        await connection.execute("SELECT pg_terminate_backend(%s)", [first[0]])
    (second,) = await (await database.readers.execute(own)).fetchall()
    assert second != first


async def test_the_number_of_a_dead_connections_file_belongs_to_whoever_has_it_next(database: Database) -> None:
    """A server that dies closes the connection's file; closing the reader afterwards must not touch the new owner."""
    (first,) = await (await database.readers.execute("SELECT pg_backend_pid()")).fetchall()
    reader = await database.readers._places.get()
    assert reader is not None
    ours, theirs = socket.socketpair()
    async with database.connection() as connection:
        await connection.execute("SELECT pg_terminate_backend(%s)", [first[0]])
    async with asyncio.timeout(120):
        while reader._wire.status == pq.ConnStatus.OK:  # noqa: ASYNC110 (nobody tells when the kernel has)
            await asyncio.sleep(0.01)
    os.dup2(ours.fileno(), reader._file)  # as the kernel gives the lowest free number to the next file
    heard = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(reader._file, heard.set)
    try:
        await reader.close()
        theirs.send(b"still heard")
        await asyncio.wait_for(heard.wait(), 120)
    finally:
        loop.remove_reader(reader._file)
        os.close(reader._file)
        ours.close()
        theirs.close()
        database.readers._places.put_nowait(None)


async def test_an_error_is_raised_and_leaves_no_damage(database: Database) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        await database.readers.execute("SELECT 1 / %(n)s::int", {"n": 0})
    assert await (await database.readers.execute("SELECT 1 / %(n)s::int", {"n": 1})).fetchone() == (1,)


async def test_who_goes_away_leaves_no_answer_to_the_next(database: Database) -> None:
    gone = asyncio.create_task(database.readers.execute("SELECT 'gone', pg_sleep(%(s)s::float)", {"s": 5}))
    await asyncio.sleep(0.2)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert await (await database.readers.execute("SELECT 'next'")).fetchone() == ("next",)


async def test_statements_are_forgotten_before_they_are_too_many(database: Database) -> None:
    for number in range(STATEMENTS_KEPT + 10):
        assert await (await database.readers.execute(f"SELECT {number}")).fetchone() == (number,)
    assert await (await database.readers.execute("SELECT 0")).fetchone() == (0,)
    kept = await (await database.readers.execute("SELECT count(*) FROM pg_prepared_statements")).fetchone()
    assert kept is not None
    assert kept[0] <= STATEMENTS_KEPT


async def test_no_database_is_an_operational_error() -> None:
    async with Database("postgresql:///nothing?host=/nowhere") as database:
        with pytest.raises(psycopg.OperationalError):
            await database.readers.execute("SELECT 1")
