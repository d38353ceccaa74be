"""Taking an import in: its lines are kept in parts before anything is stored, so a broken upload leaves nothing."""

from collections.abc import AsyncIterator, Mapping
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson
from fastapi import Request
from psycopg import errors

from app.db.ids import new_id
from app.db.pool import Database, ring_after_commit
from app.exchange import cells, upload_lease
from app.exchange.lines import MAXIMUM_LINES, CsvCutter, Line, NdjsonCutter, inflated, limited
from app.exchange.wake import JOBS_CHANNEL
from app.http.problem import Problem
from app.identity import audit
from app.identity.caller import Caller
from app.records.kind import Kind

PART_LINES = 500
PART_BYTES = 1_000_000
ATOMIC_LINES = 5_000
OPEN_AT_ONCE = 5


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
        texts = (line.value or "",) if not isinstance(line.value, dict) else (*line.value, *line.value.values())
        self._bytes += 64 + sum(map(len, texts))
        if len(self._lines) >= PART_LINES or self._bytes >= PART_BYTES:
            await self.close_part()

    async def close_part(self) -> None:
        """Writes what was taken since the last part. Errors: 507 `insufficient-storage`, 503."""
        if not self._lines:
            return
        packed = orjson.dumps([[line.number, line.value, line.code] for line in self._lines])
        values = [self._job_id, self._number, len(self._lines), packed]
        try:
            async with self._database.transaction() as connection:  # which asks whether there is room
                await connection.execute(
                    "INSERT INTO import_part (job_id, number, count, lines) VALUES (%s, %s, %s, %s)", values
                )
        except errors.ForeignKeyViolation:
            # The database was away for longer than the lease, and the same upload has begun anew meanwhile.
            raise Problem("unavailable", headers={"Retry-After": "2"}) from None
        self._lines, self._bytes, self._number = [], 0, self._number + 1


async def opened(
    database: Database, caller: Caller, kind: Kind | None, form: str, asked: Mapping[str, Any], digest: bytes | None
) -> UUID | None:
    """The id of a new import; None when one was made under this key before. Errors: 409 `conflict`."""
    job_id = new_id()
    async with database.transaction() as connection:
        # The organisation's row keeps two uploads from passing the limit together.
        await connection.execute("SELECT 1 FROM organisation WHERE id = %s FOR NO KEY UPDATE", [caller.organisation_id])
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
        await audit.record(connection, "import.create", actor, organisation_id=caller.organisation_id, details=details)
    return job_id


async def receive(
    request: Request, database: Database, job_id: UUID, kind: Kind | None, form: str, asked: Mapping[str, Any]
) -> None:
    """Takes the body in and queues the import. Errors: 400, 413, 415 and 422 of `lines`, 503, 507."""
    cutter = NdjsonCutter() if form == "ndjson" else CsvCutter()
    receiver = _Receiver(database, job_id, atomic=asked["atomic"])
    digest = begun_digest(request, asked)
    checked = False
    async for part in inflated(digested(request, digest), request.headers.get("content-encoding", "").strip().lower()):
        for line in cutter.feed(part):
            checked = checked or _check_columns(cutter, kind)
            await receiver.take(line)
    for line in cutter.end():
        checked = checked or _check_columns(cutter, kind)
        await receiver.take(line)
    _check_columns(cutter, kind)
    await receiver.close_part()
    async with database.transaction(vital=True) as connection:
        cursor = await connection.execute(
            "UPDATE import_job SET status = 'queued', lines_total = %s, body_digest = %s, leased_until = NULL"
            " WHERE id = %s AND status = 'receiving'",
            [receiver.count, digest.digest(), job_id],
        )
        if cursor.rowcount != 1:
            raise Problem("unavailable", headers={"Retry-After": "2"})
        ring_after_commit(connection, JOBS_CHANNEL)


def _check_columns(cutter: NdjsonCutter | CsvCutter, kind: Kind | None) -> bool:
    """True once the columns of a CSV have been looked at. Errors: 422 `invalid-body` naming their places."""
    if isinstance(cutter, CsvCutter) and cutter.columns is not None:
        if kind is None and "kind" not in cutter.columns:
            raise Problem("invalid-body", "Give `?kind=`, or a column `kind`.")
        faults = [] if kind is None else cells.unknown_columns(kind, cutter.columns)
        if kind is not None and faults:
            raise Problem("invalid-body", f"Known columns: {', '.join(cells.columns(kind))}.", errors=faults[:50])
    return True


def begun_digest(request: Request, asked: Mapping[str, Any]) -> Any:
    """A digest that names what was asked; `digested` adds the body to it."""
    content_type = request.headers.get("content-type", "")
    return sha256(orjson.dumps([asked["kind"], asked["dry_run"], asked["atomic"], content_type]))


async def digested(request: Request, digest: Any) -> AsyncIterator[bytes]:
    """The body as it comes in, added to the digest. Errors: 413 `body-too-large` beyond 2 GB; ClientDisconnect."""
    async for part in limited(request.stream()):
        digest.update(part)
        yield part
