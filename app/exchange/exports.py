"""`GET /v1/exports/{plural}.ndjson|csv`: everything of a kind that the caller may read, without end or haste.

Rows are stored documents, read in keyset pages by id, each in a statement of its own: while a slow reader reads, no
connection, snapshot or turn is held. The place in the change feed is taken before the first row and travels ahead of
the rows, so that export and feed from there make an exact copy.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from app.db import tasks
from app.db.pool import Connection, Database
from app.exchange import cells, feed, feed_place
from app.exchange.feed_wire import feed_url
from app.http import query
from app.http.openapi import answer, public, responses
from app.http.query import query_parameters, read_query
from app.http.rate import charge, end_turn
from app.identity import audit
from app.identity.access import PublicReader, bearer_token, require_scope
from app.identity.caller import Caller
from app.records import show
from app.records.filters import Filter, filter_parameters, narrowed
from app.records.kind import Kind
from app.records.marking import parameters, visible_to
from app.records.read import Row

PAGE_ROWS = 1000
PAGE_BYTES = 4_000_000
"""A page ends with the document that passes this: a thousand documents may be a gigabyte."""
TURN_BYTES = 100_000
COLUMNS = (
    "record.id, record.kind, record.version, record.organisation_id, record.tlp, record.status, record.refs_guarded,"
    " record.external_id, record.audience"
)
FEED_HEADER = "Minga-Feed"
MEDIA_TYPES = {"ndjson": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
NO_ID = UUID(int=0)


class AccessEnded(Exception):
    """The caller may no longer read as it did when the export began; the answer breaks off."""


def _picked(caller: Caller, kind: Kind, filters: Filter) -> str:
    """FROM and WHERE of the next rows by id that the caller may read, as `picked`: few where documents are long.

    How long a stored document is stands in front of it; those that are not picked are never fetched.
    """
    own = "true" if filters.statuses and "withdrawn" in filters.statuses else "{status} <> 'withdrawn'"
    narrower = f" AND {filters.sql}" if filters.sql else ""
    if filters.statuses:
        narrower += " AND record.status = ANY (%(statuses)s)"
    size = "octet_length(document.full_view)"
    return (
        f" FROM (SELECT {COLUMNS}, document.full_view,"
        f" sum({size}) OVER (ORDER BY record.id ROWS UNBOUNDED PRECEDING) - {size} AS before"
        " FROM record JOIN document ON document.record_id = record.id AND document.language = record.language"
        f" WHERE record.id > %(after)s AND record.kind = '{kind.name}' AND record.erased_at IS NULL"
        f" AND {visible_to(caller, own=own)}{narrower} ORDER BY record.id LIMIT {PAGE_ROWS}) AS picked"
        f" WHERE before < {PAGE_BYTES}"
    )


def _values(caller: Caller, filters: Filter, after: UUID) -> dict[str, Any]:
    return {**parameters(caller), **filters.values, "statuses": sorted(filters.statuses or ()), "after": after}


async def rows_after(connection: Connection, caller: Caller, kind: Kind, filters: Filter, after: UUID) -> list[Row]:
    """The next rows by id, with their stored documents."""
    cursor = await connection.execute(
        f"SELECT {COLUMNS.replace('record.', '')}, full_view{_picked(caller, kind, filters)} ORDER BY picked.id",
        _values(caller, filters, after),
        binary=True,
    )
    return [Row(*row) for row in await cursor.fetchall()]


async def lines_after(
    request: Request,
    connection: Connection,
    caller: Caller,
    kind: Kind,
    filters: Filter,
    after: UUID,
) -> tuple[bytes, bool, UUID] | None:
    """The next rows as whole lines of JSON, whether more may follow, and the last id; each framed where it lies.

    None when one of them must first lose references this caller may not have. The frame is the one of `render.framed`.
    """
    # The rows come one by one: to join them in the database would copy each of them four times more.
    cursor = await connection.execute(
        f"""
SELECT picked.id::text, picked.refs_guarded, convert_to(
    '{{"url":"' || %(base)s || picked.id || '","organisation":{{"id":"' || picked.organisation_id || '","name":'
    || (SELECT to_json(name)::text FROM organisation WHERE organisation.id = picked.organisation_id) || '}},'
    || CASE WHEN picked.organisation_id = %(me)s THEN '"external_id":'
    || coalesce(to_json(picked.external_id)::text, 'null') || ',"audience":' || to_json(picked.audience)::text
    || ',' ELSE '' END, 'UTF8'), substring(picked.full_view FROM 2)
{_picked(caller, kind, filters)} ORDER BY picked.id
""",
        {
            **_values(caller, filters, after),
            "me": caller.organisation_id,
            "base": f"{request.app.state.public_url}/v1/{kind.plural}/",
        },
        binary=True,
    )
    rows = await cursor.fetchall()
    if any(guarded for _, guarded, _, _ in rows):
        return None
    lines = b"".join([part for _, _, frame, rest in rows for part in (frame, rest, b"\n")])
    return lines, _is_full(len(rows), len(lines)), UUID(rows[-1][0]) if rows else after


def _is_full(rows: int, size: int) -> bool:
    """Whether more may follow a page of so many rows, whose documents have at most so many bytes."""
    return rows == PAGE_ROWS or size >= PAGE_BYTES


def export_router(kinds: Mapping[str, Kind]) -> APIRouter:
    """Router with two exports for each kind."""
    router = APIRouter(tags=["exchange"])
    for kind in kinds.values():
        _add(router, kind, "ndjson")
        _add(router, kind, "csv")
    return router


def _add(router: APIRouter, kind: Kind, form: str) -> None:
    known = {
        **filter_parameters(kind),
        "after": query.uuid().described("Go on after the row with this id: an export that broke off is taken up."),
    }
    if form == "csv":
        known["bom"] = query.boolean().described("Begins with a byte order mark, for spreadsheets that need one.")
    shown = "lines of JSON, the first with the place in the feed" if form == "ndjson" else "CSV, the first row names"
    name = "Ndjson" if form == "ndjson" else "Csv"

    @router.get(
        f"/v1/exports/{kind.plural}.{form}",
        operation_id=f"export{kind.plural_operation}{name}",
        summary=f"All {kind.plural} you may read, as {form.upper()}",
        responses=responses(
            {200: answer({"type": "string"}, f"Rows in order of id: {shown}.", media_type=MEDIA_TYPES[form])},
            "invalid-parameter",
        ),
        openapi_extra={"parameters": query_parameters(known), **public("exchange:bulk")},
    )
    async def export(request: Request, caller: PublicReader) -> Response:
        """All rows, with the filters of the list. The header `Minga-Feed` holds where in the feed to go on from."""
        if caller.is_member:
            require_scope(caller, "exchange:bulk")
        asked = read_query(request, known)
        await charge(request, credential_id=caller.credential_id, organisation_id=caller.organisation_id, bulk=True)
        filters = narrowed(caller, kind, asked)
        database: Database = request.app.state.database
        if caller.is_member:
            async with database.transaction(vital=True) as connection:
                details = {"kind": kind.name, "format": form, "resumed": asked["after"] is not None}
                actor = audit.by(caller)
                await audit.record(
                    connection, "export.read", actor, organisation_id=caller.organisation_id, details=details
                )
        async with database.connection() as connection:
            place = await feed_place.now(connection)
        wanted = feed.Wanted((kind.name,), asked["organisation"], asked["region"], asked["topic"], asked["language"])
        address = feed_url(request, caller, wanted, place)
        end_turn(request)
        first = orjson.dumps({"feed": address}) + b"\n"
        if form == "csv":
            first = (b"\xef\xbb\xbf" if asked["bom"] else b"") + cells.lines([cells.columns(kind)])
        headers = {
            "Cache-Control": show.NO_STORE,
            FEED_HEADER: address,
            "Content-Disposition": f'attachment; filename="{kind.plural}.{form}"',
        }
        body = _rows(request, caller, kind, form, filters, asked["after"] or NO_ID, first)
        return StreamingResponse(body, headers=headers, media_type=MEDIA_TYPES[form])


async def _rows(
    request: Request, caller: Caller, kind: Kind, form: str, filters: Filter, after: UUID, first: bytes
) -> AsyncIterator[bytes]:
    async def load(after: UUID) -> tuple[bytes, bool, UUID]:
        await _still(request, caller)
        return await _page(request, caller, kind, form, filters, after)

    # One page is read ahead while the one before is on its way; more would only fill memory.
    ahead: asyncio.Task[tuple[bytes, bool, UUID]] | None = asyncio.create_task(load(after))
    try:
        yield first
        while ahead is not None:
            lines, more, after = await ahead
            ahead = asyncio.create_task(load(after)) if more else None
            for start in range(0, len(lines), TURN_BYTES):
                yield lines[start : start + TURN_BYTES]
                await asyncio.sleep(0)  # packing takes time, and others get their turn
    finally:
        await tasks.end([] if ahead is None else [ahead])


async def _page(
    request: Request, caller: Caller, kind: Kind, form: str, filters: Filter, after: UUID
) -> tuple[bytes, bool, UUID]:
    """The next rows as they are sent, whether more may follow, and the last id."""
    database: Database = request.app.state.database
    async with database.connection() as connection, feed.walking(connection):
        if form == "ndjson":
            ready = await lines_after(request, connection, caller, kind, filters, after)
            if ready is not None:
                return ready
        rows = await rows_after(connection, caller, kind, filters, after)
        bodies, _ = await show.documents(request, connection, caller, kind, rows, full=True)
    if form == "ndjson":
        lines = b"".join(body + b"\n" for body in bodies)
    else:
        lines = b"".join([part async for part in _as_cells(kind, bodies)])
    return lines, _is_full(len(rows), sum(len(row.document or b"") for row in rows)), rows[-1].id if rows else after


async def _as_cells(kind: Kind, bodies: Sequence[bytes]) -> AsyncIterator[bytes]:
    """Documents as rows of CSV; others get their turn now and then."""
    size = 0
    for body in bodies:
        yield cells.lines([cells.row(kind, orjson.loads(body))])
        size += len(body)
        if size > TURN_BYTES:
            size = 0
            await asyncio.sleep(0)


async def _still(request: Request, caller: Caller) -> None:
    """Passes while the caller may read as before. Errors: AccessEnded, InvalidToken: the answer breaks off."""
    token = bearer_token(request)
    if token is not None:
        now: Any = await request.app.state.identity.caller(token)
        if now.access_epoch != caller.access_epoch or not now.scopes >= {"records:read", "exchange:bulk"}:
            raise AccessEnded
