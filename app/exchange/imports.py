"""`POST /v1/imports`: many records in one request, taken in as a stream and worked through in short transactions.

What is received is kept in the database, in parts, before anything is stored; so a broken upload leaves nothing, and a
killed service goes on where it was. A small import is answered when it is done (200), a big one at once (202).
"""

import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Request, Response
from psycopg import errors
from starlette.requests import ClientDisconnect

from app.db.ids import new_id
from app.db.pool import Database
from app.exchange import cells, upload_lease
from app.exchange.import_shapes import ImportReport
from app.exchange.lines import MAXIMUM_LINES, CsvCutter, Line, NdjsonCutter, inflated
from app.exchange.wake import JOBS_CHANNEL
from app.http import query
from app.http.limits import BodyRule, rule_for_paths
from app.http.openapi import IDEMPOTENCY_KEY, answer, request_body, responses, secured
from app.http.problem import Problem, register
from app.http.query import query_parameters, read_query
from app.http.rate import charge, end_turn
from app.http.responses import json_response
from app.identity import audit
from app.identity.access import member, require_scope
from app.identity.caller import Caller
from app.records import show
from app.records.kind import Kind
from app.records.router import record_id
from app.records.state import instant

PART_LINES = 500
PART_BYTES = 1_000_000
ANSWER_WITHIN_SECONDS = 10.0
ATOMIC_LINES = 5_000
OPEN_AT_ONCE = 5
FORMATS = {
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "text/csv": "csv",
}
EXAMPLE = '{"kind": "issue", "external_id": "a-1", "title": "Access to budgets", "language": "en"}\n'

rule_for_paths("/v1/imports", BodyRule(max_bytes=None, accepts_encoding=True))
register({"insufficient-storage": (507, "There is no room for this now; try again later.")})


_COLUMNS = (
    "id, status, reason, dry_run, atomic, lines_total, lines_done, created, updated, unchanged, failed, problems,"
    " lines, created_at, finished_at, body_digest"
)


def _report(row: tuple[Any, ...]) -> dict[str, Any]:
    id_, status, reason, dry_run, atomic, total, done, created, updated, unchanged, failed, *rest = row
    problems, lines, created_at, finished_at, _ = rest
    return {
        "id": id_,
        "status": status,
        "reason": reason,
        "dry_run": dry_run,
        "atomic": atomic,
        "lines_total": total,
        "lines_done": done,
        "counts": {"created": created, "updated": updated, "unchanged": unchanged, "failed": failed},
        "problems": problems,
        "lines": lines,
        "created_at": instant(created_at),
        "finished_at": instant(finished_at),
    }


class _Receiver:
    """Takes the lines of one import in and keeps them in parts."""

    def __init__(self, database: Database, job_id: UUID, *, atomic: bool) -> None:
        self._database = database
        self._job_id = job_id
        self._limit = ATOMIC_LINES if atomic else MAXIMUM_LINES
        self._lines: list[Line] = []
        self._bytes = 0
        self._number = 0
        self.count = 0

    async def take(self, line: Line) -> None:
        """Keeps a line. Errors: 413 `body-too-large` for one too many."""
        self.count += 1
        if self.count > self._limit:
            raise Problem("body-too-large", f"This import has at most {self._limit} lines; send several.")
        self._lines.append(line)
        cells = (line.value or "",) if not isinstance(line.value, dict) else line.value.values()
        self._bytes += 64 + sum(map(len, cells))
        if len(self._lines) >= PART_LINES or self._bytes >= PART_BYTES:
            await self.close_part()

    async def close_part(self) -> None:
        """Writes what was taken since the last part. Errors: 507 `insufficient-storage`, 503."""
        if not self._lines:
            return
        packed = orjson.dumps([[line.number, line.value, line.code] for line in self._lines])
        values = [self._job_id, self._number, len(self._lines), packed]
        try:
            async with self._database.connection() as connection:
                await connection.execute(
                    "INSERT INTO import_part (job_id, number, count, lines) VALUES (%s, %s, %s, %s)", values
                )
        except errors.DiskFull:
            raise Problem("insufficient-storage", headers={"Retry-After": "60"}) from None
        except errors.ForeignKeyViolation:
            # The database was away for longer than the lease, and the same upload has begun anew meanwhile.
            raise Problem("unavailable", headers={"Retry-After": "2"}) from None
        self._lines, self._bytes, self._number = [], 0, self._number + 1


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
        job_id = record_id(id)
        async with request.app.state.database.connection() as connection:
            cursor = await connection.execute(
                f"SELECT {_COLUMNS} FROM import_job WHERE id = %s AND organisation_id = %s AND status <> 'receiving'",
                [job_id, caller.organisation_id],
            )
            row = await cursor.fetchone()
        if row is None:
            raise Problem("not-found")
        return json_response(_report(row), headers={"Cache-Control": show.NO_STORE})

    async def opened(
        database: Database, caller: Caller, kind: Kind | None, form: str, asked: Mapping[str, Any], digest: bytes | None
    ) -> UUID | None:
        """The id of a new import; None when one was made under this key before. Errors: 409 `conflict`."""
        job_id = new_id()
        async with database.transaction() as connection:
            await upload_lease.sweep(connection, caller.organisation_id)
            cursor = await connection.execute(
                "SELECT count(*) FROM import_job WHERE organisation_id = %s"
                " AND status IN ('receiving', 'queued', 'running')",
                [caller.organisation_id],
            )
            row = await cursor.fetchone()
            if row is not None and row[0] >= OPEN_AT_ONCE:
                raise Problem("conflict", f"Your organisation has {OPEN_AT_ONCE} imports under way; wait for one.")
            cursor = await connection.execute(
                "INSERT INTO import_job (id, organisation_id, credential_id, kind, format, dry_run, atomic, key_digest,"
                " status, leased_until) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 'receiving', now() + make_interval("
                "secs => %s)) ON CONFLICT DO NOTHING",
                [
                    job_id,
                    caller.organisation_id,
                    caller.credential_id,
                    None if kind is None else kind.name,
                    form,
                    asked["dry_run"],
                    asked["atomic"],
                    digest,
                    upload_lease.LEASE_SECONDS,
                ],
            )
            if cursor.rowcount == 0:
                return None
            details = {"import": str(job_id), "dry_run": asked["dry_run"]}
            actor = audit.by(caller)
            await audit.record(
                connection, "import.create", actor, organisation_id=caller.organisation_id, details=details
            )
        return job_id

    async def receive(
        request: Request, database: Database, job_id: UUID, kind: Kind | None, form: str, asked: Mapping[str, Any]
    ) -> None:
        cutter = NdjsonCutter() if form == "ndjson" else CsvCutter()
        receiver = _Receiver(database, job_id, atomic=asked["atomic"])
        digest = body_digest(asked, request.headers.get("content-type", ""))
        checked = False

        async def raw() -> Any:
            async for part in request.stream():
                digest.update(part)
                yield part

        async for part in inflated(raw(), request.headers.get("content-encoding", "").strip().lower()):
            for line in cutter.feed(part):
                checked = checked or check_columns(cutter, kind)
                await receiver.take(line)
        for line in cutter.end():
            checked = checked or check_columns(cutter, kind)
            await receiver.take(line)
        check_columns(cutter, kind)
        await receiver.close_part()
        async with database.connection() as connection:
            cursor = await connection.execute(
                "UPDATE import_job SET status = 'queued', lines_total = %s, body_digest = %s, leased_until = NULL"
                " WHERE id = %s AND status = 'receiving'",
                [receiver.count, digest.digest(), job_id],
            )
            if cursor.rowcount != 1:
                raise Problem("unavailable", headers={"Retry-After": "2"})
            await connection.execute(f"NOTIFY {JOBS_CHANNEL}")

    def check_columns(cutter: NdjsonCutter | CsvCutter, kind: Kind | None) -> bool:
        """True once the columns of a CSV have been looked at. Errors: 422 `invalid-body` naming their places."""
        if isinstance(cutter, CsvCutter) and cutter.columns is not None:
            if kind is None and "kind" not in cutter.columns:
                raise Problem("invalid-body", "Give `?kind=`, or a column `kind`.")
            faults = [] if kind is None else cells.unknown_columns(kind, cutter.columns)
            if kind is not None and faults:
                raise Problem("invalid-body", f"Known columns: {', '.join(cells.columns(kind))}.", errors=faults[:50])
        return True

    async def repeated(
        request: Request, database: Database, caller: Caller, digest: bytes | None, asked: Mapping[str, Any]
    ) -> Response:
        """The answer to a request that came before under the same key. Errors: 409, 422."""
        seen = body_digest(asked, request.headers.get("content-type", ""))
        async for part in request.stream():
            seen.update(part)
        async with database.connection() as connection:
            cursor = await connection.execute(
                f"SELECT {_COLUMNS} FROM import_job WHERE credential_id = %s AND key_digest = %s",
                [caller.credential_id, digest],
            )
            row = await cursor.fetchone()
        if row is None or row[1] == "receiving":
            raise Problem("idempotency-in-flight", headers={"Retry-After": "2"})
        if bytes(row[-1]) != seen.digest():
            raise Problem("idempotency-mismatch")
        return await answered(request, database, row[0], replayed=True)

    return router


def body_digest(asked: Mapping[str, Any], content_type: str) -> Any:
    """A digest that names what was asked; the body is added to it."""
    return sha256(orjson.dumps([asked["kind"], asked["dry_run"], asked["atomic"], content_type]))


async def answered(request: Request, database: Database, job_id: UUID, *, replayed: bool = False) -> Response:
    """The report: 200 when the import ended within ten seconds, else 202."""
    ends_at, pause = time.monotonic() + ANSWER_WITHIN_SECONDS, 0.02
    while True:
        async with database.connection() as connection:
            cursor = await connection.execute(f"SELECT {_COLUMNS} FROM import_job WHERE id = %s", [job_id])
            row = await cursor.fetchone()
        if row is None:
            raise Problem("unavailable", headers={"Retry-After": "2"})
        finished = row[1] in ("done", "failed")
        if finished or time.monotonic() >= ends_at:
            break
        await request.app.state.bell.wait(JOBS_CHANNEL, pause)
        pause = min(0.25, pause * 1.5)
    headers = {
        "Cache-Control": show.NO_STORE,
        "Location": f"{request.app.state.public_url}/v1/imports/{job_id}",
        **({"Idempotency-Replayed": "true"} if replayed else {}),
        **({} if finished else {"Retry-After": "2"}),
    }
    return json_response(_report(row), 200 if finished else 202, headers)
