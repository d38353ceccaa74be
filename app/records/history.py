"""What lies behind and around a record: versions, differences, backlinks. One set of endpoints for every kind."""

from typing import Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Request, Response

from app.db.pool import Connection, Database
from app.http.openapi import IF_NONE_MATCH, answer, public, responses
from app.http.problem import Problem
from app.http.query import Parser, integer, query_parameters, read_query, text
from app.http.responses import json_bytes
from app.identity import pages
from app.identity.access import PublicReader
from app.identity.caller import Caller
from app.records import diff, read, render, show
from app.records.kind import Kind
from app.records.state import State, from_revision, instant
from app.records.views import BacklinkPage, Diff, VersionPage, full_view

PAGE = {
    "limit": integer(1, 200, 50).described("Number of items on a page."),
    "cursor": text(2000).described("Where the page starts, as `next` names it."),
}
DIFF_PARAMETERS = {
    "from": integer(1, 2_000_000_000).described("The earlier version; default: the one before `to`."),
    "to": integer(1, 2_000_000_000).described("The later version; default: the newest you may read."),
}
BACKLINK_PARAMETERS: dict[str, Parser] = {
    **PAGE,
    "kind": text(40, pattern="[a-z-]+").described("Only records of this kind."),
    "relation": text(60, pattern="[a-z_]+").described("Only references from this field."),
}


def add_history(router: APIRouter, kind: Kind) -> None:
    """Adds the endpoints to a kind's router."""

    async def require_known(connection: Connection, caller: Caller, id: str) -> tuple[UUID, UUID]:
        """(id, owner) of a record whose history the caller may ask for."""
        try:
            found_id = UUID(id)
        except ValueError:
            raise Problem("not-found") from None
        found = await read.owner_of(connection, caller, kind.name, found_id)
        if found is None:
            raise Problem("not-found")
        if found[1] and found[0] != caller.organisation_id:
            raise Problem("withdrawn")
        return found_id, found[0]

    def as_state(record_id: UUID, owner: UUID, version: read.Version) -> State:
        return from_revision(kind, record_id, owner, version.version, dict(version.envelope), dict(version.body))

    async def exactly(
        connection: Connection, caller: Caller, record_id: UUID, numbers: list[int]
    ) -> list[read.Version]:
        found = {one.version: one for one in await read.versions(connection, caller, record_id, only=numbers)}
        if not found.keys() >= set(numbers):
            raise Problem("not-found")
        return [found[number] for number in numbers]

    @router.get(
        "/{id}/versions",
        operation_id=f"list{kind.operation}Versions",
        summary="The versions you may read, newest first",
        responses=responses({200: answer(VersionPage, "A page.")}, "not-found", "withdrawn", "invalid-cursor"),
        openapi_extra={"parameters": [*query_parameters(PAGE), IF_NONE_MATCH], **public("records:read")},
    )
    async def list_versions(request: Request, id: str, caller: PublicReader) -> Response:
        asked = read_query(request, PAGE)
        below = 0
        if asked["cursor"] is not None:
            below = int(pages.opened(request, caller, asked, asked["cursor"])[0])
        database: Database = request.app.state.database
        async with database.connection() as connection:
            record_id, _ = await require_known(connection, caller, id)
            found = await read.versions(connection, caller, record_id, below=below, limit=asked["limit"] + 1)
        shown = found[: asked["limit"]]
        next_url = None
        if len(found) > len(shown):
            next_url = show.page_url(request, pages.sealed(request, caller, asked, shown[-1].version, record_id))
        items = [
            {
                "version": one.version,
                "action": one.action,
                "at": instant(one.at),
                "status": one.status,
                "tlp": one.tlp,
            }
            for one in shown
        ]
        control = show.cache_control(caller, (marked for one in shown for marked in one.marked))
        return show.conditional(request, json_bytes({"items": items, "next": next_url}), {"Cache-Control": control})

    @router.get(
        "/{id}/versions/{number}",
        operation_id=f"get{kind.operation}Version",
        summary="One version, as it was",
        responses=responses(
            {200: answer(full_view(kind), "The record as it was.", headers=("ETag", "TLP")), 304: None},
            "not-found",
            "withdrawn",
        ),
        openapi_extra={"parameters": [IF_NONE_MATCH], **public("records:read")},
    )
    async def get_version(request: Request, id: str, number: str, caller: PublicReader) -> Response:
        read_query(request, {})
        if not (number.isascii() and number.isdigit() and len(number) < 10):
            raise Problem("not-found")
        database: Database = request.app.state.database
        async with database.connection() as connection:
            record_id, owner = await require_known(connection, caller, id)
            (version,) = await exactly(connection, caller, record_id, [int(number)])
            body = await show.whole(request, connection, caller, kind, as_state(record_id, owner, version))
        headers = {
            "Cache-Control": show.cache_control(caller, version.marked),
            **show.tlp_header(tlp for tlp, _ in version.marked),
        }
        return show.conditional(request, body, headers)

    @router.get(
        "/{id}/diff",
        operation_id=f"diff{kind.operation}",
        summary="What changed between two versions you may read",
        responses=responses({200: answer(Diff, "The differences.")}, "not-found", "withdrawn", "invalid-parameter"),
        openapi_extra={"parameters": [*query_parameters(DIFF_PARAMETERS), IF_NONE_MATCH], **public("records:read")},
    )
    async def get_diff(request: Request, id: str, caller: PublicReader) -> Response:
        asked = read_query(request, DIFF_PARAMETERS)
        database: Database = request.app.state.database
        async with database.connection() as connection:
            record_id, owner = await require_known(connection, caller, id)
            later = asked["to"]
            if later is None:
                newest = await read.versions(connection, caller, record_id, limit=1)
                if not newest:
                    raise Problem("not-found")
                later = newest[0].version
            earlier = asked["from"]
            if earlier is None:
                previous = await read.versions(connection, caller, record_id, below=later, limit=1)
                earlier = previous[0].version if previous else later
            pair = await exactly(connection, caller, record_id, [earlier, later])
            shown = [_comparable(as_state(record_id, owner, one)) for one in pair]
            before, after = await show.stripped(connection, caller, kind, shown)
        control = show.cache_control(caller, (marked for one in pair for marked in one.marked))
        answer_body = {"from": earlier, "to": later, "changes": list(diff.changes(before, after))}
        return show.conditional(request, json_bytes(answer_body), {"Cache-Control": control})

    @router.get(
        "/{id}/backlinks",
        operation_id=f"list{kind.operation}Backlinks",
        summary="Records that refer to this one, newest first",
        responses=responses({200: answer(BacklinkPage, "A page.")}, "not-found", "withdrawn", "invalid-cursor"),
        openapi_extra={"parameters": [*query_parameters(BACKLINK_PARAMETERS), IF_NONE_MATCH], **public("records:read")},
    )
    async def list_backlinks(request: Request, id: str, caller: PublicReader) -> Response:
        asked = read_query(request, BACKLINK_PARAMETERS)
        after = None
        if asked["cursor"] is not None:
            after = pages.opened(request, caller, asked, asked["cursor"])
        limit = asked["limit"]
        database: Database = request.app.state.database
        async with database.connection() as connection:
            record_id, _ = await require_known(connection, caller, id)
            found = await read.backlinks(
                connection,
                caller,
                record_id,
                kind=asked["kind"],
                relation=asked["relation"],
                after=after,
                limit=limit + 1,
            )
            shown = found[:limit]
            items = await show.linked(request, connection, caller, shown)
        next_url = None
        if len(found) > limit:
            relation, last = shown[-1]
            next_url = show.page_url(request, pages.sealed(request, caller, asked, relation, last.id))
        body = b'{"items":[' + b",".join(items) + b'],"next":' + orjson.dumps(next_url) + b"}"
        headers = {
            "Cache-Control": show.cache_control(caller, ((row.tlp, row.status) for _, row in shown)),
            **show.tlp_header(row.tlp for _, row in shown),
        }
        return show.conditional(request, body, headers)


def _comparable(state: State) -> dict[str, Any]:
    """What a difference compares: the body with its marking, without what changes at every write."""
    whole: dict[str, Any] = orjson.loads(render.full(state))
    for name in ("version", "updated_at", "created_at", "published_at"):
        del whole[name]
    return whole
