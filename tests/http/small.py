"""A small application with everything `app.http` gives: what the tests of this room call."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import httpx
from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response
from starlette_compress import CompressMiddleware

from app.db.pool import Connection, Database
from app.http import handlers
from app.http.body import json_body, validated
from app.http.gate import Gate
from app.http.metrics import Metrics
from app.http.problem import Problem
from app.http.query import boolean, choice, instant, integer, listed, many, read_query, text, uuid
from app.http.responses import json_response
from app.http.transact import transact

BASE = "http://minga.test"
CREDENTIAL = UUID(int=7)

KNOWN = {
    "limit": integer(1, 200, 20),
    "sort": choice("title", "-title"),
    "region": many(text(4, pattern="[A-Z]{3,4}"), 3),
    "fields": listed(text(20, pattern="[a-z_]+"), 3),
    "id": uuid(),
    "count": boolean(),
    "since": instant(),
}


class Part(BaseModel):
    """A nested object."""

    model_config = ConfigDict(extra="forbid")

    note: str = Field(max_length=10)


class Thing(BaseModel):
    """What the small application takes."""

    model_config = ConfigDict(extra="forbid")

    title: str = Field(min_length=1, max_length=200)
    number: int | None = None
    parts: list[Part] = Field(default_factory=list)
    labels: dict[str, int] = Field(default_factory=dict)
    kind: UUID | None = None


def small_app(database: Database) -> FastAPI:
    """The application; things are rows of a table `thing` in the given database."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.database = database
    app.state.public_url = BASE
    app.state.attempts = 0
    handlers.install(app)
    app.add_middleware(CompressMiddleware, minimum_size=700)
    app.add_middleware(Gate, public_url=BASE, allowed_hosts="", metrics=Metrics())

    @app.get("/v1/things")
    async def list_things(request: Request) -> Response:
        return json_response({name: str(value) for name, value in read_query(request, KNOWN).items()})

    @app.get("/v1/things/{id}")
    async def get_thing(id: UUID) -> Response:
        return json_response({"id": id}, headers={"Cache-Control": "public, max-age=60"})

    @app.post("/v1/things")
    async def make_thing(request: Request) -> Response:
        value = await json_body(request)
        thing = validated(Thing, value)

        async def work(connection: Connection) -> Response:
            app.state.attempts += 1
            if thing.title == "refused":
                raise Problem("conflict")
            made = uuid4()
            await connection.execute("INSERT INTO thing VALUES (%s, %s)", (made, thing.title))
            return json_response({"id": made, **thing.model_dump(mode="json")}, 201, {"Location": f"{BASE}/{made}"})

        secret = "secret" in request.headers.get("x-test", "")
        return await transact(request, work, credential_id=CREDENTIAL, idempotent=True, holds_secret=secret)

    @app.patch("/v1/things/{id}")
    async def patch_thing(request: Request) -> Response:
        return json_response(await json_body(request, "application/merge-patch+json", "application/json"))

    @app.get("/v1/broken")
    async def broken(request: Request) -> Response:
        raise RuntimeError(f"internal detail {request.headers.get('x-test')}")

    @app.get("/v1/slow")
    async def slow() -> Response:
        async with database.transaction() as connection:
            await connection.execute("SET LOCAL statement_timeout = 50")
            await connection.execute("SELECT pg_sleep(5)")
        return json_response({})

    return app


@asynccontextmanager
async def small_client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the small application."""
    async with database.connection() as connection:
        await connection.execute("CREATE TABLE IF NOT EXISTS thing (id uuid PRIMARY KEY, title text NOT NULL)")
    transport = httpx.ASGITransport(small_app(database))
    async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
        yield client


class Lines(logging.Handler):
    """Keeps the log lines of a test as they would be printed."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(formatter)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps one line."""
        self.lines.append(self.format(record))


def problem(answer: httpx.Response) -> dict[str, Any]:
    """The problem in an answer, checked for its shape."""
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == answer.status_code
    assert body["type"] == f"{BASE}/problems/{body['code']}"
    assert body["request_id"] == answer.headers["x-request-id"]
    return body
