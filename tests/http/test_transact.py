"""Writing: one effect for a key however often it is sent, nothing kept of a failure, retries when PostgreSQL asks."""

import asyncio
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from starlette.requests import Request
from starlette.responses import Response

from app.db.pool import Connection, Database
from app.http.problem import Problem
from app.http.responses import json_response
from app.http.transact import clean, forget, transact
from tests.http.small import problem


async def count(database: Database, table: str = "thing") -> int:
    async with database.connection() as connection:
        row = await (await connection.execute(f"SELECT count(*) FROM {table}")).fetchone()
    assert row is not None
    return int(row[0])


def keyed(key: str, **headers: str) -> dict[str, str]:
    return {"Idempotency-Key": key, **headers}


async def test_a_replay_is_the_first_answer(things: httpx.AsyncClient, database: Database) -> None:
    first = await things.post("/v1/things", json={"title": "a"}, headers=keyed("k"))
    again = await things.post("/v1/things", json={"title": "a"}, headers=keyed("k"))
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["content-type"] == "application/json"
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert await count(database) == 1


async def test_twenty_at_once_make_one(things: httpx.AsyncClient, database: Database) -> None:
    answers = await asyncio.gather(
        *(things.post("/v1/things", json={"title": "a"}, headers=keyed("k")) for _ in range(20))
    )
    assert {answer.status_code for answer in answers} <= {201, 409}
    made = [answer for answer in answers if answer.status_code == 201]
    assert len([answer for answer in made if "idempotency-replayed" not in answer.headers]) == 1
    assert len({answer.content for answer in made}) == 1
    for answer in answers:
        if answer.status_code == 409:
            assert problem(answer)["code"] == "idempotency-in-flight"
            assert answer.headers["retry-after"] == "1"
    assert await count(database) == 1
    later = await things.post("/v1/things", json={"title": "a"}, headers=keyed("k"))
    assert later.headers["idempotency-replayed"] == "true"


async def test_another_body_is_refused(things: httpx.AsyncClient) -> None:
    await things.post("/v1/things", json={"title": "a"}, headers=keyed("k"))
    answer = await things.post("/v1/things", json={"title": "b"}, headers=keyed("k"))
    assert answer.status_code == 422
    assert problem(answer)["code"] == "idempotency-mismatch"


async def test_a_failed_request_frees_its_key(things: httpx.AsyncClient, database: Database) -> None:
    refused = await things.post("/v1/things", json={"title": "refused"}, headers=keyed("k"))
    assert refused.status_code == 409
    assert await count(database, "idempotency_answer") == 0
    made = await things.post("/v1/things", json={"title": "b"}, headers=keyed("k"))
    assert made.status_code == 201
    assert "idempotency-replayed" not in made.headers


async def test_without_a_key_nothing_is_kept(things: httpx.AsyncClient, database: Database) -> None:
    for _ in range(2):
        await things.post("/v1/things", json={"title": "a"})
    assert await count(database) == 2
    assert await count(database, "idempotency_answer") == 0


async def test_an_answer_with_a_secret_is_not_kept(things: httpx.AsyncClient, database: Database) -> None:
    first = await things.post("/v1/things", json={"title": "zqsecret"}, headers=keyed("k", **{"X-Test": "secret"}))
    assert first.status_code == 201
    again = await things.post("/v1/things", json={"title": "zqsecret"}, headers=keyed("k", **{"X-Test": "secret"}))
    assert again.status_code == 409
    assert problem(again)["code"] == "secret-already-shown"
    async with database.connection() as connection:
        row = await (await connection.execute("SELECT body, headers FROM idempotency_answer")).fetchone()
    assert row == (None, [])


async def test_what_was_erased_is_not_replayed(things: httpx.AsyncClient, database: Database) -> None:
    first = await things.post("/v1/things", json={"title": "zqtitle"}, headers=keyed("k"))
    other = await things.post("/v1/things", json={"title": "b"}, headers=keyed("other"))
    async with database.transaction() as connection:
        assert await forget(connection, [UUID(first.json()["id"])]) == 1
    again = await things.post("/v1/things", json={"title": "zqtitle"}, headers=keyed("k"))
    assert again.status_code == 410
    assert problem(again)["code"] == "withdrawn"
    assert (await things.post("/v1/things", json={"title": "b"}, headers=keyed("other"))).content == other.content
    async with database.connection() as connection:
        rows = await (await connection.execute("SELECT idempotency_answer::text FROM idempotency_answer")).fetchall()
    hidden = [b"zqtitle".hex(), first.json()["id"].encode().hex()]
    assert not [text for (text,) in rows for part in hidden if part in text]


async def test_old_answers_are_cleaned(things: httpx.AsyncClient, database: Database) -> None:
    for key in ("old", "day", "new"):
        await things.post("/v1/things", json={"title": "a"}, headers=keyed(key))
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE idempotency_answer SET created_at = now() - interval '3 days'"
            " WHERE key_digest = (SELECT min(key_digest) FROM idempotency_answer)"
        )
    assert await clean(database) == 1
    assert await count(database, "idempotency_answer") == 2


def request_to(database: Database) -> Request:
    class App:
        class state:
            pass

    App.state.database = database  # type: ignore[attr-defined]
    return Request({"type": "http", "app": App, "method": "POST", "path": "/", "headers": [], "query_string": b""})


async def test_a_deadlock_is_tried_again(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute("CREATE TABLE pair (id int PRIMARY KEY, n int NOT NULL)")
        await connection.execute("INSERT INTO pair VALUES (1, 0), (2, 0)")
    runs = 0

    def work(first: int, second: int):  # type: ignore[no-untyped-def]
        async def work(connection: Connection) -> Response:
            nonlocal runs
            runs += 1
            await connection.execute("UPDATE pair SET n = n + 1 WHERE id = %s", (first,))
            await asyncio.sleep(0.2)
            await connection.execute("UPDATE pair SET n = n + 1 WHERE id = %s", (second,))
            return json_response({})

        return work

    request = request_to(database)
    answers = await asyncio.gather(transact(request, work(1, 2)), transact(request, work(2, 1)))
    assert [answer.status_code for answer in answers] == [200, 200]
    assert runs >= 3
    async with database.connection() as connection:
        rows = await (await connection.execute("SELECT n FROM pair ORDER BY id")).fetchall()
    assert rows == [(2,), (2,)]


async def test_after_three_retries_it_is_a_503(database: Database) -> None:
    runs = 0

    async def work(connection: Connection) -> Response:
        nonlocal runs
        runs += 1
        raise psycopg.errors.SerializationFailure

    with pytest.raises(Problem) as caught:
        await transact(request_to(database), work)
    assert caught.value.code == "unavailable"
    assert caught.value.headers["Retry-After"] == "1"
    assert runs == 4


async def test_what_fails_leaves_nothing(things: httpx.AsyncClient, database: Database) -> None:
    async def work(connection: Connection) -> Response:
        await connection.execute("INSERT INTO thing VALUES (%s, 'half')", (uuid4(),))
        raise Problem("conflict")

    with pytest.raises(Problem):
        await transact(request_to(database), work)
    assert await count(database) == 0
