"""The standard endpoints of a kind, written once: `record_router(kind)`."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response

from app.db.pool import Connection, Database
from app.db.readers import Reads
from app.http import etag
from app.http.body import json_body
from app.http.openapi import (
    IDEMPOTENCY_KEY,
    IF_MATCH,
    IF_NONE_MATCH,
    answer,
    header_parameter,
    public,
    request_body,
    responses,
    secured,
)
from app.http.problem import Problem
from app.http.query import boolean, listed, query_parameters, read_query, text
from app.http.responses import bytes_response, empty_response
from app.http.transact import transact
from app.identity import audit, pages
from app.identity.access import PublicReader, member
from app.identity.caller import Caller
from app.records import read, show, store
from app.records.change import STEWARD_ACTIONS, Action, Change
from app.records.filters import list_parameters, narrowed
from app.records.history import add_history
from app.records.kind import Kind
from app.records.state import State
from app.records.views import DryRun, Readers, full_view, input_view, page_view

PREFER = header_parameter("Prefer", "`return=minimal` leaves the body of the answer out.")
SHOWN_HEADERS = ("ETag", "TLP")
WRITE_CODES = (
    "not-found",
    "not-owner",
    "withdrawn",
    "external-id-taken",
    "owner-unlisted",
    "illegal-transition",
    "invalid-body",
    "not-publishable",
    "reference-not-readable",
    "marking-not-supported",
    "audience-not-applicable",
    "audience-not-found",
    "use-verb",
    "read-only-field",
)
ONE_PARAMETERS = {"fields": listed(text(60, pattern="[a-z_]+")).described("Only these fields.")}
CREATE_PARAMETERS = {"dry_run": boolean().described("Only checks, and tells who could read it.")}
PATCH_TYPES = ("application/merge-patch+json", "application/json")
_ID_LENGTH = 36


def record_id(given: str) -> UUID:
    """The id in an address. Errors: 404 `not-found` for what is not an id."""
    try:
        if len(given) == _ID_LENGTH:
            return UUID(given)
    except ValueError:
        pass
    raise Problem("not-found")


def described(parameters: list[dict[str, Any]], *extras: dict[str, Any]) -> dict[str, Any]:
    """`openapi_extra` with these parameters and the given parts merged."""
    merged: dict[str, Any] = {"parameters": parameters}
    for extra in extras:
        merged |= extra
    return merged


async def change_one(
    request: Request, caller: Caller, kind: Kind, change: Change, *, audited: str | None = None
) -> Response:
    """Carries out one change of an existing record and answers with the record as it is then.

    A steward acting on the record of another gets the new version only: what it holds may no longer be theirs to read.
    """

    async def work(connection: Connection) -> Response:
        (written,) = await store.write(connection, caller, [change])
        assert written.state is not None
        if audited is not None:
            await audit.record(
                connection,
                audited,
                audit.by(caller, steward=caller.is_steward and written.state.organisation_id != caller.organisation_id),
                organisation_id=written.state.organisation_id,
                details={"record": str(written.state.id), "kind": kind.name},
            )
        if written.state.organisation_id != caller.organisation_id:
            return empty_response(204, {"ETag": etag.of_version(written.state.version)})
        return await show.written(request, connection, caller, kind, written.state)

    idempotent = request.method == "POST"
    return await transact(request, work, credential_id=caller.credential_id, idempotent=idempotent)


def record_router(kind: Kind) -> APIRouter:
    """Router with every endpoint that all kinds share. Source: docs/guides/records.md."""
    router = APIRouter(prefix=f"/v1/{kind.plural}", tags=[kind.plural])
    known = list_parameters(kind)
    fields_known = frozenset(full_view(kind).model_fields)
    one_ok = {200: answer(full_view(kind), "The record.", headers=SHOWN_HEADERS)}

    def checked_fields(fields: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if fields is not None and not fields_known.issuperset(fields):
            listing = ", ".join(sorted(fields_known))
            raise Problem("invalid-parameter", f"`fields` takes names of: {listing}.", extra={"parameter": "fields"})
        return fields

    @router.get(
        "",
        operation_id=f"list{kind.plural_operation}",
        summary=f"{kind.plural}, newest first unless sorted otherwise",
        responses=responses(
            {200: answer(page_view(kind), "A page.", headers=("ETag", "TLP", "Link")), 304: None},
            "invalid-parameter",
            "invalid-cursor",
        ),
        openapi_extra=described([*query_parameters(known), IF_NONE_MATCH], public("records:read")),
    )
    async def list_records(request: Request, caller: PublicReader) -> Response:
        asked = read_query(request, known)
        checked_fields(asked["fields"])
        after = None
        if asked["cursor"] is not None:
            after = pages.opened(request, caller, asked, asked["cursor"])
        filters = narrowed(caller, kind, asked)

        async def listed(connection: Reads) -> Response:
            rows = await read.page(
                connection,
                caller,
                kind.name,
                filters=filters,
                sort=asked["sort"],
                after=after,
                limit=asked["limit"] + 1,
                full=asked["view"] == "full" or asked["fields"] is not None,
            )
            counted = await read.total(connection, caller, kind.name, filters) if asked["count"] else None
            return await show.listing(request, connection, caller, kind, rows, asked, counted)

        database: Database = request.app.state.database
        if not filters.values and not asked["count"]:
            return await listed(database.readers)
        # What is looked for decides how to look for it: these are planned for their values.
        async with database.connection() as connection:
            return await listed(connection)

    @router.post(
        "",
        operation_id=f"create{kind.operation}",
        summary=f"Create a {kind.name}",
        status_code=201,
        responses=responses(
            {
                201: answer(full_view(kind), "Created.", headers=("ETag", "TLP", "Location")),
                200: answer(DryRun, "With `dry_run=true`: it is valid; nothing was stored."),
            },
            "invalid-parameter",
            *WRITE_CODES,
        ),
        openapi_extra=described(
            [*query_parameters(CREATE_PARAMETERS), IDEMPOTENCY_KEY, PREFER],
            request_body(input_view(kind), example={**kind.example}),
            secured("records:write"),
        ),
    )
    async def create(request: Request, caller: Caller = member("records:write")) -> Response:
        dry_run = read_query(request, CREATE_PARAMETERS)["dry_run"]
        body = await json_body(request)

        async def work(connection: Connection) -> Response:
            (written,) = await store.write(
                connection, caller, [Change(kind, Action.CREATE, body=body)], dry_run=dry_run
            )
            assert written.state is not None
            if dry_run:
                preview = await show.readers(connection, written.state)
                report = b'{"valid":true,"readers":' + preview + b"}"
                return bytes_response(report, headers={"Cache-Control": show.NO_STORE})
            return await show.written(request, connection, caller, kind, written.state, 201)

        return await transact(request, work, credential_id=caller.credential_id, idempotent=not dry_run)

    @router.put(
        "/by-external-id/{external_id:path}",
        operation_id=f"put{kind.operation}ByExternalId",
        summary=f"Create or replace your own {kind.name} under your own id",
        responses=responses(
            {
                **one_ok,
                201: answer(full_view(kind), "Created.", headers=("ETag", "TLP", "Location")),
            },
            "precondition-required",
            "stale-version",
            *WRITE_CODES,
        ),
        openapi_extra=described(
            [header_parameter("If-Match", "The version you replace; not needed to create."), PREFER],
            request_body(input_view(kind), example={**kind.example}),
            secured("records:write"),
        ),
    )
    async def put_by_external_id(
        request: Request, external_id: str, caller: Caller = member("records:write")
    ) -> Response:
        body = await json_body(request)
        expected = etag.expected_version(request, required=False)

        async def work(connection: Connection) -> Response:
            change = Change(kind, Action.REPLACE, body=body, external_id=external_id, expected_version=expected)
            (written,) = await store.write(connection, caller, [change])
            assert written.state is not None
            if written.before is not None and expected is None:
                raise Problem("precondition-required", extra={"current_version": written.before.version})
            if written.before is None and expected is not None:
                raise Problem("stale-version")
            return await show.written(
                request, connection, caller, kind, written.state, 201 if written.before is None else 200
            )

        return await transact(request, work)

    @router.get(
        "/{id}",
        operation_id=f"get{kind.operation}",
        summary=f"One {kind.name}",
        responses=responses({**one_ok, 304: None}, "not-found", "withdrawn", "invalid-parameter"),
        openapi_extra=described([*query_parameters(ONE_PARAMETERS), IF_NONE_MATCH], public("records:read")),
    )
    async def get(request: Request, id: str, caller: PublicReader) -> Response:
        found_id = record_id(id)
        fields = checked_fields(read_query(request, ONE_PARAMETERS)["fields"])
        held = etag.held_version(request) if fields is None else 0
        readers: Reads = request.app.state.database.readers
        row = await read.one(readers, caller, kind.name, found_id, held)
        if row is None:
            raise Problem("not-found")
        if row.status == "withdrawn":
            raise Problem("withdrawn")
        if row.version == held:
            if not row.refs_guarded:
                return show.not_modified(caller, row)
            row = await read.one(readers, caller, kind.name, found_id)
            if row is None:
                raise Problem("not-found")
        return await show.one(request, readers, caller, kind, row, fields)

    @router.put(
        "/{id}",
        operation_id=f"replace{kind.operation}",
        summary=f"Replace a {kind.name}; what GET gave may be sent back",
        responses=responses(one_ok, "precondition-required", "stale-version", *WRITE_CODES),
        openapi_extra=described(
            [IF_MATCH, PREFER],
            request_body(input_view(kind), example={**kind.example}),
            secured("records:write"),
        ),
    )
    async def replace(request: Request, id: str, caller: Caller = member("records:write")) -> Response:
        body = await json_body(request)
        return await checked_change(request, caller, id, Action.REPLACE, body)

    @router.patch(
        "/{id}",
        operation_id=f"patch{kind.operation}",
        summary=f"Change some fields of a {kind.name} (JSON Merge Patch, RFC 7396)",
        responses=responses(one_ok, "precondition-required", "stale-version", *WRITE_CODES),
        openapi_extra=described(
            [IF_MATCH, PREFER],
            request_body(
                {"type": "object", "description": f"Fields of {kind.operation}Input; null removes one."},
                example={"summary": "A clearer summary."},
                media_types=PATCH_TYPES,
            ),
            secured("records:write"),
        ),
    )
    async def patch(request: Request, id: str, caller: Caller = member("records:write")) -> Response:
        body = await json_body(request, *PATCH_TYPES)
        return await checked_change(request, caller, id, Action.PATCH, body)

    @router.delete(
        "/{id}",
        operation_id=f"withdraw{kind.operation}",
        summary=f"Withdraw a {kind.name}; the owner can restore it",
        responses=responses(one_ok, "precondition-required", "stale-version", *WRITE_CODES[:3]),
        openapi_extra=described([IF_MATCH, PREFER], secured("records:write")),
    )
    async def withdraw(request: Request, id: str, caller: Caller = member("records:write")) -> Response:
        return await checked_change(request, caller, id, Action.WITHDRAW)

    async def checked_change(
        request: Request, caller: Caller, id: str, action: Action, body: Any = None, audited: str | None = None
    ) -> Response:
        """A change of the record at this address, under its If-Match. Whether there is one at all comes first."""
        found_id = record_id(id)
        if "if-match" not in request.headers:
            await known_to(request, caller, found_id, action)
        change = Change(kind, action, found_id, body, expected_version=etag.expected_version(request))
        return await change_one(request, caller, kind, change, audited=audited)

    async def known_to(request: Request, caller: Caller, found_id: UUID, action: Action) -> None:
        """Passes when the caller may do this; else the answer is the one that does not depend on If-Match."""
        database: Database = request.app.state.database
        async with database.connection() as connection:
            found = await read.owner_of(connection, caller, kind.name, found_id)
        if found is None:
            raise Problem("not-found")
        if found[0] != caller.organisation_id and (found[1] or action not in STEWARD_ACTIONS):
            raise Problem("withdrawn" if found[1] else "not-owner")

    def add_verb(action: Action, verb: str, summary: str, scope: str, audited: str | None = None) -> None:
        @router.post(
            f"/{{id}}/{verb}",
            operation_id=f"{action}{kind.operation}",
            summary=summary,
            responses=responses(
                {204: None} if scope == "steward" else one_ok,
                "precondition-required",
                "stale-version",
                "quarantined",
                "not-permitted",
                *WRITE_CODES,
            ),
            openapi_extra=described([IF_MATCH, IDEMPOTENCY_KEY, PREFER], secured(scope)),
        )
        async def verb_endpoint(request: Request, id: str, caller: Caller = member(scope)) -> Response:
            return await checked_change(request, caller, id, action, audited=audited)

    add_verb(Action.PUBLISH, "publish", "Publish a draft to the readers its marking names", "records:write")
    add_verb(Action.RESTORE, "restore", "Bring a withdrawn record back", "records:write")
    add_verb(
        Action.ERASE,
        "erase",
        "Erase content and history for good",
        "organisation:manage",
        "record.erase",
    )
    add_verb(
        Action.QUARANTINE, "quarantine", "Take a record of another out of publication", "steward", "record.quarantine"
    )
    add_verb(Action.RELEASE, "release", "End a quarantine; the owner may publish again", "steward", "record.release")

    @router.get(
        "/{id}/readers",
        operation_id=f"get{kind.operation}Readers",
        summary="Who can read it, as named in its marking (owner only)",
        responses=responses({200: answer(Readers, "Readers.")}, "not-found", "withdrawn", "not-owner"),
        openapi_extra=described([IF_NONE_MATCH], secured("records:read")),
    )
    async def readers(request: Request, id: str, caller: Caller = member("records:read")) -> Response:
        read_query(request, {})
        database: Database = request.app.state.database
        async with database.connection() as connection:
            state = await own(connection, caller, record_id(id))
            return show.conditional(request, await show.readers(connection, state), {"Cache-Control": show.NO_STORE})

    async def own(connection: Connection, caller: Caller, found_id: UUID) -> State:
        state = await read.state(connection, caller, kind.name, found_id)
        if state is None:
            raise Problem("not-found")
        if state.organisation_id != caller.organisation_id:
            raise Problem("withdrawn" if state.status == "withdrawn" else "not-owner")
        return state

    add_history(router, kind)
    return router
