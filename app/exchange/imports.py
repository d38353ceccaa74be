"""`POST /v1/imports`: many records in one request, taken in as a stream and worked through in short transactions.

What is received is kept in the database, in parts, before anything is stored; so a broken upload leaves nothing, and a
killed service goes on where it was. A small import is answered when it is done (200), a big one at once (202).
"""

import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from app.db.pool import Connection, Database
from app.exchange import import_report, upload_lease
from app.exchange.import_shapes import ImportReport
from app.exchange.import_upload import ATOMIC_LINES, OPEN_AT_ONCE, body_digest, opened, receive
from app.exchange.lines import MAXIMUM_BYTES, MAXIMUM_COLUMNS, MAXIMUM_LINE_BYTES, MAXIMUM_LINES, limited
from app.exchange.wake import JOBS_CHANNEL, Bell
from app.http import query
from app.http.limits import BodyRule, publish, rule_for_paths
from app.http.openapi import IDEMPOTENCY_KEY, answer, request_body, responses, secured
from app.http.problem import Problem
from app.http.query import query_parameters, read_query
from app.http.rate import charge, end_turn
from app.http.responses import json_response
from app.identity.access import member, require_scope
from app.identity.caller import Caller
from app.records import show
from app.records.kind import Kind
from app.records.router import record_id

ANSWER_WITHIN_SECONDS = 10.0
FORMATS = {
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "text/csv": "csv",
}
EXAMPLE = '{"kind": "issue", "external_id": "a-1", "title": "Access to budgets", "language": "en"}\n'

REPORT = "Problems (`ImportProblem`) and lines (`ImportLine`), each an object with `line`, in order of line number."
REPORT_PARAMETERS = {
    "after": query.integer(0, 2**31 - 1, 0).described("Go on behind this line: a report that broke off is taken up."),
}

rule_for_paths("/v1/imports", BodyRule(max_bytes=None, accepts_encoding=True))
publish(
    "imports",
    {
        "body_bytes": MAXIMUM_BYTES,
        "lines": MAXIMUM_LINES,
        "line_bytes": MAXIMUM_LINE_BYTES,
        "columns": MAXIMUM_COLUMNS,
        "atomic_lines": ATOMIC_LINES,
        "open_at_once": OPEN_AT_ONCE,
    },
)


def import_router(kinds: Mapping[str, Kind]) -> APIRouter:
    """Router of imports over these kinds."""
    router = APIRouter(tags=["exchange"])
    names = [name for kind in kinds.values() for name in (kind.name, kind.plural)]
    by_name = {name: kind for kind in kinds.values() for name in (kind.name, kind.plural)}
    known = {
        "kind": query.choice(*dict.fromkeys(names)).described("Kind of the lines that do not name theirs."),
        "dry_run": query.boolean().described("Says for each line what it would change, and stores nothing."),
        "atomic": query.boolean().described(f"All lines or none; at most {ATOMIC_LINES} lines."),
    }
    accepted = {200: answer(ImportReport, "Worked through."), 202: answer(ImportReport, "Under way; see `Location`.")}

    @router.post(
        "/v1/imports",
        operation_id="createImport",
        summary="Import records as NDJSON or CSV",
        responses=responses(
            accepted,
            "invalid-parameter",
            "truncated-body",
            "malformed-encoding",
            "invalid-body",
            "idempotency-mismatch",
            "idempotency-in-flight",
            "conflict",
            "insufficient-storage",
        ),
        openapi_extra={
            "parameters": [*query_parameters(known), IDEMPOTENCY_KEY],
            **request_body({"type": "string"}, example=EXAMPLE, media_types=("application/x-ndjson", "text/csv")),
            **secured("exchange:bulk", "records:write"),
        },
    )
    async def create_import(request: Request, caller: Caller = member("exchange:bulk")) -> Response:
        """Each line is a record: one with `id` or a known `external_id` replaces yours, any other is new."""
        require_scope(caller, "records:write")
        asked = read_query(request, known)
        essence, _, charset = request.headers.get("content-type", "").lower().partition(";")
        form = FORMATS.get(essence.strip())
        if form is None or charset.strip().replace('"', "") not in ("", "charset=utf-8", "header=present"):
            raise Problem("unsupported-media-type", "Send application/x-ndjson or text/csv, in UTF-8.")
        await charge(request, credential_id=caller.credential_id, organisation_id=caller.organisation_id, bulk=True)
        end_turn(request)
        key = request.headers.get("idempotency-key")
        if key is not None and not (0 < len(key) <= 255 and key.isascii() and key.isprintable()):
            raise Problem("invalid-header", "Idempotency-Key is 1 to 255 printable ASCII characters.")
        kind = by_name[asked["kind"]] if asked["kind"] else None
        database: Database = request.app.state.database
        digest = None if key is None else sha256(key.encode()).digest()
        job_id = await opened(database, caller, kind, form, asked, digest)
        if job_id is None:
            return await repeated(request, database, caller, digest, asked)
        try:
            async with upload_lease.held(database, job_id):
                await receive(request, database, job_id, kind, form, asked)
        except BaseException as error:
            async with database.connection() as connection:
                await connection.execute("DELETE FROM import_job WHERE id = %s", [job_id])
            if isinstance(error, ClientDisconnect):
                raise Problem("truncated-body") from None
            raise
        request.app.state.bell.ring(JOBS_CHANNEL)
        return await answered(request, database, job_id)

    @router.get(
        "/v1/imports/{id}",
        operation_id="getImport",
        summary="How far an import is, and what became of its lines",
        responses=responses({200: answer(ImportReport, "The import.")}, "not-found"),
        openapi_extra=secured("exchange:bulk"),
    )
    async def get_import(request: Request, id: str, caller: Caller = member("exchange:bulk")) -> Response:
        async with request.app.state.database.connection() as connection:
            row = await own_import(connection, caller, record_id(id))
            found = await import_report.document(connection, request.app.state.public_url, row)
        return json_response(found, headers={"Cache-Control": show.NO_STORE})

    @router.get(
        "/v1/imports/{id}/report.ndjson",
        operation_id="getImportReport",
        summary="Every problem of an import, and in a dry run what each line would do",
        responses=responses(
            {200: answer({"type": "string"}, REPORT, media_type="application/x-ndjson")},
            "invalid-parameter",
            "not-found",
        ),
        openapi_extra={"parameters": query_parameters(REPORT_PARAMETERS), **secured("exchange:bulk")},
    )
    async def get_import_report(request: Request, id: str, caller: Caller = member("exchange:bulk")) -> Response:
        """Lines of JSON in order of line number; of an import under way, those of what is done so far."""
        after = read_query(request, REPORT_PARAMETERS)["after"]
        job_id = record_id(id)
        await charge(request, credential_id=caller.credential_id, organisation_id=caller.organisation_id, bulk=True)
        async with request.app.state.database.connection() as connection:
            await own_import(connection, caller, job_id)
        end_turn(request)
        return StreamingResponse(
            import_report.stream(request, job_id, after),
            headers={"Cache-Control": show.NO_STORE},
            media_type="application/x-ndjson",
        )

    async def own_import(connection: Connection, caller: Caller, job_id: UUID) -> tuple[Any, ...]:
        """The row of an import of the caller's own. Errors: 404 `not-found`."""
        cursor = await connection.execute(
            f"SELECT {import_report.COLUMNS} FROM import_job"
            " WHERE id = %s AND organisation_id = %s AND status <> 'receiving'",
            [job_id, caller.organisation_id],
        )
        row = await cursor.fetchone()
        if row is None:
            raise Problem("not-found")
        return row

    async def repeated(
        request: Request, database: Database, caller: Caller, digest: bytes | None, asked: Mapping[str, Any]
    ) -> Response:
        """The answer to a request that came before under the same key. Errors: 409, 422."""
        seen = body_digest(asked, request.headers.get("content-type", ""))
        async for part in limited(request.stream()):
            seen.update(part)
        async with database.connection() as connection:
            cursor = await connection.execute(
                "SELECT id, status, body_digest FROM import_job WHERE credential_id = %s AND key_digest = %s",
                [caller.credential_id, digest],
            )
            row = await cursor.fetchone()
        if row is None or row[1] == "receiving":
            raise Problem("idempotency-in-flight", headers={"Retry-After": "2"})
        if bytes(row[2]) != seen.digest():
            raise Problem("idempotency-mismatch")
        return await answered(request, database, row[0], replayed=True)

    return router


async def answered(request: Request, database: Database, job_id: UUID, *, replayed: bool = False) -> Response:
    """The report: 200 when the import ended within ten seconds, else 202; at once when the service is about to end."""
    ends_at, pause = time.monotonic() + ANSWER_WITHIN_SECONDS, 0.02
    bell: Bell = request.app.state.bell
    while True:
        ring = bell.coming(JOBS_CHANNEL)
        async with database.connection() as connection:
            cursor = await connection.execute(f"SELECT {import_report.COLUMNS} FROM import_job WHERE id = %s", [job_id])
            row = await cursor.fetchone()
            if row is None:
                raise Problem("unavailable", headers={"Retry-After": "2"})
            finished = row[1] in ("done", "failed")
            if finished or time.monotonic() >= ends_at or bell.ending:
                found = await import_report.document(connection, request.app.state.public_url, row)
                break
        await bell.wait(JOBS_CHANNEL, pause, ring)
        pause = min(0.25, pause * 1.5)
    headers = {
        "Cache-Control": show.NO_STORE,
        "Location": f"{request.app.state.public_url}/v1/imports/{job_id}",
        **({"Idempotency-Replayed": "true"} if replayed else {}),
        **({} if finished else {"Retry-After": "2"}),
    }
    return json_response(found, 200 if finished else 202, headers)
