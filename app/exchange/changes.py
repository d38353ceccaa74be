"""`GET /v1/changes`: the feed on the wire, with long polling."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Request, Response

from app.db.pool import Connection, Database
from app.exchange import feed, feed_place
from app.exchange.feed import Page, Wanted
from app.exchange.feed_wire import FeedPage, feed_url, parameters, wanted_of, wire, with_start
from app.exchange.wake import Bell
from app.http.openapi import answer, public, responses
from app.http.peer import address_of
from app.http.problem import Problem
from app.http.query import query_parameters, read_query
from app.http.rate import end_turn
from app.http.responses import bytes_response
from app.identity.access import PublicReader, bearer_token, refused, require_scope
from app.identity.caller import Caller
from app.identity.tokens import InvalidToken
from app.records import show
from app.records.kind import Kind
from app.records.read import Row
from app.records.store import CHANGES_CHANNEL

LOOK_AGAIN_SECONDS = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
"""After a ring the news may still lie behind a transaction that runs; so it is looked for again, ever more rarely."""
QUIET_SECONDS = 10.0
MOST_WAITING = 20
"""Requests of one organisation (or address) that wait at once in a process; another is answered without waiting."""
MOST_WAITING_IN_ALL = 500


def changes_router(kinds: Mapping[str, Kind]) -> APIRouter:
    """Router of the feed over these kinds."""
    router = APIRouter(tags=["exchange"])
    known = parameters(kinds)
    waiting: dict[str, int] = {}

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
        bell: Bell = request.app.state.bell
        ring = bell.coming(CHANGES_CHANNEL)
        async with database.connection() as connection:
            end = await feed_place.now(connection)
            if asked["after"] is None:
                place = replace(end, walked=feed_place.NOBODY)
            else:
                try:
                    place = feed_place.opened(
                        request.app.state.secret, caller, wanted.digest, asked["after"], end.lineage
                    )
                    await feed_place.confirm(connection, place)
                except Problem as problem:
                    raise with_start(request, problem) from None
            page = await feed.page(connection, caller, wanted, place, asked["limit"], documents=bool(asked["include"]))
            who = str(caller.organisation_id) if caller.is_member else address_of(request)
            full = waiting.get(who, 0) >= MOST_WAITING or sum(waiting.values()) >= MOST_WAITING_IN_ALL
            if page.items or not asked["wait"] or full:
                return await shown(request, connection, caller, wanted, page, asked)
        end_turn(request)
        waiting[who] = waiting.get(who, 0) + 1
        try:
            return await wait_for_news(request, caller, wanted, page, asked, ring)
        finally:
            waiting[who] -= 1
            if not waiting[who]:
                del waiting[who]

    async def wait_for_news(
        request: Request, caller: Caller, wanted: Wanted, page: Page, asked: Mapping[str, Any], ring: asyncio.Event
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
                await bell.pause(max(0.0, pause))
                pauses = pauses[1:]
            elif await bell.wait(CHANGES_CHANNEL, max(0.0, pause), ring):
                pauses = LOOK_AGAIN_SECONDS
                continue
            ring = bell.coming(CHANGES_CHANNEL)
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
            raise with_start(request, Problem("resync-required"))
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
