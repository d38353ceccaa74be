"""`GET /v1/changes`: the feed on the wire, with long polling."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from app import reference
from app.db.pool import Connection, Database
from app.exchange import feed
from app.exchange.feed import Item, Page, Wanted
from app.exchange.wake import Bell
from app.http import query
from app.http.openapi import answer, public, responses
from app.http.problem import Problem
from app.http.query import Parser, query_parameters, read_query
from app.http.rate import end_turn
from app.http.responses import bytes_response
from app.identity.access import PublicReader, bearer_token, refused, require_scope
from app.identity.caller import Caller
from app.identity.tokens import InvalidToken
from app.records import show
from app.records.fields import LANGUAGE_TAG
from app.records.kind import Kind
from app.records.read import Row
from app.records.state import instant
from app.records.store import CHANGES_CHANNEL

LONGEST_WAIT_SECONDS = 30
LOOK_AGAIN_SECONDS = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
"""After a ring the news may still lie behind a transaction that runs; so it is looked for again, ever more rarely."""
QUIET_SECONDS = 10.0
MOST_WAITING = 20
"""Requests of one organisation that wait at once in a process; another one is answered without waiting."""


class FeedItem(BaseModel):
    """A record that changed or came into sight (`upsert`), or is gone for you (`removed`)."""

    type: Literal["upsert", "removed"]
    kind: str
    id: UUID
    version: int = Field(ge=1, description="Apply the item if it is not below the version you hold.")
    at: str = Field(json_schema_extra={"format": "date-time"})
    record: dict[str, Any] | None = Field(None, description="The full view, with `include=record`, of an upsert.")
    erased: bool | None = Field(None, description="True when the owner erased the record for good.")


class FeedPage(BaseModel):
    """Changes in order; one item for each record."""

    items: list[FeedItem]
    next: str = Field(
        description="Where to go on: keep it once the items are stored.", json_schema_extra={"format": "uri"}
    )
    more: bool = Field(description="Another page is ready now.")


def _optional(schema: dict[str, Any]) -> None:
    schema["required"] = [name for name in schema["required"] if name not in ("record", "erased")]


FeedItem.model_config["json_schema_extra"] = _optional


def parameters(kinds: Mapping[str, Kind]) -> dict[str, Parser]:
    """The query parameters of the feed. A kind may be named in the singular or the plural, several with commas."""
    by_name = {name: kind.name for kind in kinds.values() for name in (kind.name, kind.plural)}
    kind = query.listed(query.choice(*by_name))

    def read_kinds(text: str) -> tuple[str, ...]:
        return tuple(by_name[name] for name in kind.read(text))

    schema = {"type": "array", "items": {"type": "string", "enum": sorted(kinds)}, "maxItems": 50}
    kinds_parser = Parser(
        read_kinds, kind.rule, schema, (), repeatable=True, description="Only these kinds.", extra=dict(kind.extra)
    )
    return {
        "after": query.text(400, pattern="[A-Za-z0-9_-]+").described("Where to go on; `next` holds it."),
        "limit": query.integer(1, 1000, 100).described("Most items on a page."),
        "wait": query.integer(0, LONGEST_WAIT_SECONDS, 0).described("Seconds to wait for a change you may see."),
        "include": query.choice("record").described("`record` adds the full record to each upsert."),
        "kinds": kinds_parser,
        "region": query.many(query.choice(*reference.REGIONS)).described("Records of these regions."),
        "topic": query.many(query.choice(*reference.TOPICS)).described("Records on these topics."),
        "lang": query.many(query.text(12, pattern=LANGUAGE_TAG.pattern)).described("Records in these languages."),
        "owner": query.many(query.uuid()).described("Records of these organisations."),
    }


def wanted_of(asked: Mapping[str, Any]) -> Wanted:
    """What the query asks to follow."""
    kinds = tuple(sorted({name for names in asked["kinds"] for name in names}))
    return Wanted(kinds, asked["owner"], asked["region"], asked["topic"], asked["lang"])


def feed_url(request: Request, caller: Caller, wanted: Wanted, place: feed.Place, extra: Sequence[str] = ()) -> str:
    """Absolute address at which the feed goes on after a place."""
    named = (
        ("kinds", wanted.kinds),
        ("owner", wanted.owners),
        ("region", wanted.regions),
        ("topic", wanted.topics),
        ("lang", wanted.languages),
    )
    parts = [f"{name}={value}" for name, values in named for value in values]
    cursor = feed.sealed(request.app.state.secret, caller, wanted, place)
    return f"{request.app.state.public_url}/v1/changes?{'&'.join([*parts, *extra, f'after={cursor}'])}"


def changes_router(kinds: Mapping[str, Kind]) -> APIRouter:
    """Router of the feed over these kinds."""
    router = APIRouter(tags=["exchange"])
    known = parameters(kinds)
    waiting: dict[UUID | None, int] = {}

    @router.get(
        "/v1/changes",
        operation_id="listChanges",
        summary="What changed for you since a place in the feed",
        responses=responses(
            {200: answer(FeedPage, "A page of changes.", headers=("TLP",))},
            "invalid-parameter",
            "invalid-cursor",
            "resync-required",
        ),
        openapi_extra={"parameters": query_parameters(known), **public("records:read")},
    )
    async def list_changes(request: Request, caller: PublicReader) -> Response:
        """Without `after` it begins with everything you may read now. Follow `next`; begin anew on 410."""
        asked = read_query(request, known)
        wanted = wanted_of(asked)
        database: Database = request.app.state.database
        async with database.connection() as connection:
            end = await feed.now(connection)
            if asked["after"] is None:
                place = replace(end, walked=feed.NOBODY)
            else:
                try:
                    place = feed.opened(request.app.state.secret, caller, wanted, asked["after"], end.lineage)
                    await feed.confirm(connection, place)
                except Problem as problem:
                    raise _with_start(request, problem) from None
            page = await feed.page(connection, caller, wanted, place, asked["limit"], documents=bool(asked["include"]))
            if page.items or not asked["wait"] or waiting.get(caller.organisation_id, 0) >= MOST_WAITING:
                return await shown(request, connection, caller, wanted, page, asked)
        end_turn(request)
        waiting[caller.organisation_id] = waiting.get(caller.organisation_id, 0) + 1
        try:
            return await wait_for_news(request, caller, wanted, page, asked)
        finally:
            waiting[caller.organisation_id] -= 1
            if not waiting[caller.organisation_id]:
                del waiting[caller.organisation_id]

    async def wait_for_news(
        request: Request, caller: Caller, wanted: Wanted, page: Page, asked: Mapping[str, Any]
    ) -> Response:
        """The first page that holds something, or an empty one when the time is over or the process ends."""
        bell: Bell = request.app.state.bell
        database: Database = request.app.state.database
        ends_at = time.monotonic() + asked["wait"]
        pauses: Sequence[float] = ()
        while True:
            left = 0.0 if bell.ending else ends_at - time.monotonic()
            pause = min(left, pauses[0] if pauses else QUIET_SECONDS)
            if pauses:
                await asyncio.sleep(max(0.0, pause))
                pauses = pauses[1:]
            elif await bell.wait(CHANGES_CHANNEL, max(0.0, pause)):
                pauses = LOOK_AGAIN_SECONDS
                continue
            caller = await still(request, caller)
            async with database.connection() as connection:
                page = await feed.page(
                    connection, caller, wanted, page.place, asked["limit"], documents=bool(asked["include"])
                )
                over = bell.ending or time.monotonic() >= ends_at
                if page.items or over or await request.is_disconnected():
                    return await shown(request, connection, caller, wanted, page, asked)

    async def still(request: Request, caller: Caller) -> Caller:
        """The caller, with the rights of this moment. Errors: 401, 403; 410 when the access changed meanwhile."""
        token = bearer_token(request)
        if token is None:
            return caller
        try:
            now = await request.app.state.identity.caller(token)
        except InvalidToken:
            raise refused() from None
        require_scope(now, "records:read")
        if now.access_epoch != caller.access_epoch:
            raise _with_start(request, Problem("resync-required"))
        fresh: Caller = now
        return fresh

    async def shown(
        request: Request,
        connection: Connection,
        caller: Caller,
        wanted: Wanted,
        page: Page,
        asked: Mapping[str, Any],
    ) -> Response:
        records: dict[UUID, bytes] = {}
        rows = [item.row for item in page.items if item.row is not None]
        if asked["include"]:
            records = await framed(request, connection, caller, rows)
        extra = [f"{name}={asked[name]}" for name in ("limit", "include") if asked[name] != known[name].default]
        address = feed_url(request, caller, wanted, page.place, extra)
        items = b",".join(wire(item, records.get(item.id)) for item in page.items)
        body = b'{"items":[%b],"next":%b,"more":%b}' % (items, orjson.dumps(address), orjson.dumps(page.more))
        labels = show.tlp_header(row.tlp for row in rows) if asked["include"] else {}
        return bytes_response(body, headers={"Cache-Control": show.NO_STORE, **labels})

    async def framed(
        request: Request, connection: Connection, caller: Caller, rows: Sequence[Row]
    ) -> dict[UUID, bytes]:
        found: dict[UUID, bytes] = {}
        for name, group in groupby(sorted(rows, key=lambda row: row.kind), key=lambda row: row.kind):
            of_kind = list(group)
            bodies, _ = await show.documents(request, connection, caller, kinds[name], of_kind, full=True)
            found |= {row.id: body for row, body in zip(of_kind, bodies, strict=True)}
        return found

    return router


def wire(item: Item, record: bytes | None) -> bytes:
    """An item as JSON."""
    head = orjson.dumps(
        {"type": item.type, "kind": item.kind, "id": item.id, "version": item.version, "at": instant(item.at)}
        | ({"erased": True} if item.erased else {})
    )
    return head if record is None else head[:-1] + b',"record":' + record + b"}"


def _with_start(request: Request, problem: Problem) -> Problem:
    """A 410 names where to start again."""
    if problem.code != "resync-required":
        return problem
    start = f"{request.app.state.public_url}/v1/changes"
    return Problem(
        problem.code,
        "Begin without `after`, or with an export; what is not sent then is gone for you.",
        extra={"start": start},
        headers={"Link": f'<{start}>; rel="start"'},
    )
