"""Working an import through: part by part, each in one short transaction together with the progress.

Whoever dies in the middle leaves the part undone and the progress where it was; whoever comes next goes on there. The
records are stored as if each had been sent alone: same rules, same revisions, same problems.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
from psycopg import errors

from app.db import tasks
from app.db.pool import Connection, Database, ring_after_commit
from app.exchange import import_entries, import_preview, import_store, standing
from app.exchange.import_entries import Kept, Share
from app.exchange.import_lines import Asked, Job, Outcome, Prepared, taken_apart
from app.exchange.wake import JOBS_CHANNEL
from app.identity.caller import Caller
from app.records.kind import Kind

LEASE_SECONDS = 30
FAILED_REST_SECONDS = 10.0
"""An import on which the database failed is left alone for so long, so that it never stands before all others."""
TURN_PARTS = 20
SLICE_LINES = 8
SCOPES = frozenset({"exchange:bulk", "records:write"})

log = logging.getLogger("minga.exchange")


_CLAIM = f"""
UPDATE import_job SET status = 'running', leased_until = now() + interval '{LEASE_SECONDS} seconds', lease_owner = %s
WHERE id = (SELECT id FROM import_job WHERE status IN ('queued', 'running')
    AND (leased_until IS NULL OR leased_until < now()) ORDER BY lines_done, created_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, organisation_id, credential_id, kind, format, dry_run, atomic, next_part, lease_owner,
    problems_kept, problems_left_out, problem_bytes, lines_kept, lines_left_out, line_bytes
"""


async def claim(database: Database, owner: UUID) -> Job | None:
    """The next import that nobody works on, leased to `owner` for half a minute: the one that had least so far."""
    async with database.connection() as connection:
        row = await (await connection.execute(_CLAIM, [owner])).fetchone()
    if row is None:
        return None
    *named, problems, left_problems, problem_bytes, lines, left_lines, line_bytes = row
    kept = Kept(Share(problems, left_problems, problem_bytes), Share(lines, left_lines, line_bytes))
    return Job(*[*named, kept])


async def work(database: Database, kinds: Mapping[str, Kind], job: Job) -> None:
    """Works on a claimed import for a turn, which ends with the import or after 20 parts, so that a long one delays
    nobody else's. Errors: those of the database; the import then goes on later."""
    if job.atomic:
        await _all_or_nothing(database, kinds, job)
        return
    number = job.next_part
    ready = asyncio.create_task(_prepared(database, kinds, job, number))
    storing: asyncio.Task[Kept] | None = None
    overlapping = False
    try:
        while (lines := await ready) is not None:
            if number == job.next_part + TURN_PARTS:
                if storing is not None:
                    await storing
                await give_back(database, job.owner)
                return
            # The next part is taken apart while the database stores this one.
            ready = asyncio.create_task(_prepared(database, kinds, job, number + 1))
            before, overlaps = storing, _only_new(lines)
            if before is not None and not (overlaps and overlapping):
                await before
            storing = asyncio.create_task(_one_part(database, job, number, lines, before))
            if before is not None:
                await before
            overlapping, number = overlaps, number + 1
        if storing is not None:
            await storing
        await _end(database, job, "done", None)
    except _EndedError as ended:
        await _end(database, job, "failed", ended.reason)
    except _TakenOverError:
        log.info("another worker goes on with an import")
    finally:
        await tasks.end([ready, *([storing] if storing is not None else [])])


async def give_back(database: Database, owner: UUID, rest_seconds: float | None = None) -> None:
    """Ends the lease of a claim before its time, if there is one. Whoever claims next may take another import; with
    `rest_seconds` nobody takes this one for so long."""
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE import_job SET leased_until = now() + make_interval(secs => %s), lease_owner = NULL"
            " WHERE lease_owner = %s AND status = 'running'",
            [rest_seconds, owner],
        )
        await connection.execute(f"NOTIFY {JOBS_CHANNEL}")


def _only_new(lines: Sequence[Prepared]) -> bool:
    """True when the lines make records and touch none: two such parts never wait for each other's rows, so the second
    may be worked on before the first is committed. It is committed after it all the same."""
    return all(
        not isinstance(asked, Asked) or (asked.change.record_id is None and asked.change.external_id is None)
        for _, asked in lines
    )


async def _one_part(
    database: Database, job: Job, number: int, lines: Sequence[Prepared], before: asyncio.Task[Kept] | None
) -> Kept:
    """Stores one part, and commits it once the part before is; what has been told by then. Errors: _EndedError,
    _TakenOverError; those of the database after three more attempts."""
    for last in (False, False, False, True):
        try:
            async with database.transaction() as connection:
                caller = await _caller(connection, job)
                outcome = await _carried_out(connection, caller, job, lines)
                kept = job.kept if before is None else await before
                kept, told = await import_entries.fitted(kept, outcome.problems, outcome.lines)
                await _advance(connection, job, number, len(lines), outcome, kept)
                if told is not None:
                    await import_entries.keep(connection, job.id, number, told)
            return kept
        except (errors.SerializationFailure, errors.DeadlockDetected):
            if last:
                raise
    raise AssertionError("unreachable")


async def _carried_out(connection: Connection, caller: Caller, job: Job, lines: Sequence[Prepared]) -> Outcome:
    carry_out = import_preview.judged if job.dry_run else import_store.stored
    return await carry_out(connection, caller, job, lines)


async def _prepared(database: Database, kinds: Mapping[str, Kind], job: Job, number: int) -> list[Prepared] | None:
    """What the lines of a part ask for; None when there is no such part (any more)."""
    async with database.connection() as connection:
        part = await _part(connection, job, number)
    return None if part is None else await _all_taken_apart(kinds, job, part)


async def _all_taken_apart(kinds: Mapping[str, Kind], job: Job, part: Sequence[Any]) -> list[Prepared]:
    """What the lines of a part ask for; requests get their turn in between."""
    prepared = []
    for place, line in enumerate(part):
        prepared.append(taken_apart(kinds, job, line))
        if place % SLICE_LINES == 0:
            await asyncio.sleep(0)
    return prepared


async def _all_or_nothing(database: Database, kinds: Mapping[str, Kind], job: Job) -> None:
    failed, done, kept = 0, 0, job.kept
    told: list[tuple[int, import_entries.Told]] = []
    try:
        async with database.transaction() as connection:
            caller = await _caller(connection, job)
            while (part := await _part(connection, job, done)) is not None:
                lines = await _all_taken_apart(kinds, job, part)
                outcome = await _carried_out(connection, caller, job, lines)
                kept, of_part = await import_entries.fitted(kept, outcome.problems, outcome.lines)
                await _advance(connection, job, done, len(lines), outcome, kept)
                told += [] if of_part is None else [(done, of_part)]
                failed += outcome.failed
                done += 1
            if failed:
                raise _EndedError("lines-refused")
            await connection.execute("DELETE FROM import_part WHERE job_id = %s", [job.id])
            await _keep(connection, job, told, kept)
            await _finish(connection, job, "done", None)
    except _EndedError as ended:
        # Nothing was stored; what was wrong is told all the same, and what a dry run found.
        async with database.transaction() as connection:
            if await _finish(connection, job, "failed", ended.reason, failed):
                await _keep(connection, job, told, kept)
    except _TakenOverError:
        log.info("another worker goes on with an import")
        return
    await _forget(database, job)


async def _keep(connection: Connection, job: Job, told: Sequence[tuple[int, import_entries.Told]], kept: Kept) -> None:
    """Keeps what is told of all parts at once."""
    for number, of_part in told:
        await import_entries.keep(connection, job.id, number, of_part)
    await connection.execute(f"UPDATE import_job SET {_SHARES} WHERE id = %(id)s", {"id": job.id, **_shares(kept)})


class _EndedError(Exception):
    """The import cannot go on."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _TakenOverError(Exception):
    """Another worker has done this part: the lease had ended before the work did."""


async def _part(connection: Connection, job: Job, number: int) -> list[Any] | None:
    cursor = await connection.execute(
        "SELECT lines FROM import_part WHERE job_id = %s AND number = %s", [job.id, number]
    )
    row = await cursor.fetchone()
    return None if row is None else orjson.loads(row[0])


async def _caller(connection: Connection, job: Job) -> Caller:
    """Who imports, with the rights of now. Errors: _EndedError when the credential or its scopes have ended."""
    caller = await standing.organisation(connection, job.organisation_id, job.credential_id)
    if caller is None or not caller.scopes >= SCOPES:
        raise _EndedError("credential-ended")
    return caller


_SHARES = (
    "problems_kept = %(problems_kept)s, problems_left_out = %(problems_left_out)s, problem_bytes = %(problem_bytes)s,"
    " lines_kept = %(lines_kept)s, lines_left_out = %(lines_left_out)s, line_bytes = %(line_bytes)s"
)


def _shares(kept: Kept) -> dict[str, int]:
    """What `_SHARES` binds."""
    return {
        "problems_kept": kept.problems.kept,
        "problems_left_out": kept.problems.left_out,
        "problem_bytes": kept.problems.size_bytes,
        "lines_kept": kept.lines.kept,
        "lines_left_out": kept.lines.left_out,
        "line_bytes": kept.lines.size_bytes,
    }


async def _advance(connection: Connection, job: Job, number: int, lines: int, outcome: Outcome, kept: Kept) -> None:
    """Moves the import on in the transaction of its records. Errors: _TakenOverError."""
    cursor = await connection.execute(
        f"""
UPDATE import_job SET next_part = next_part + 1, lines_done = lines_done + %(done)s, created = created + %(created)s,
    updated = updated + %(updated)s, unchanged = unchanged + %(unchanged)s, failed = failed + %(failed)s,
    repeated = repeated + %(repeated)s, {_SHARES},
    leased_until = now() + interval '{LEASE_SECONDS} seconds'
WHERE id = %(id)s AND next_part = %(number)s AND status = 'running'
""",
        {
            "id": job.id,
            "number": number,
            "done": lines,
            "created": outcome.created,
            "updated": outcome.updated,
            "unchanged": outcome.unchanged,
            "failed": outcome.failed,
            "repeated": outcome.repeated,
            **_shares(kept),
        },
    )
    if cursor.rowcount != 1:
        raise _TakenOverError
    if not job.atomic:
        await connection.execute("DELETE FROM import_part WHERE job_id = %s AND number = %s", [job.id, number])


async def _finish(connection: Connection, job: Job, status: str, reason: str | None, failed: int = 0) -> bool:
    """Ends an import; True when nobody had ended it before. It is done only when no part waits: one that is missing
    may be with another worker. `failed` counts lines refused that no part has counted."""
    cursor = await connection.execute(
        "UPDATE import_job SET status = %(status)s, reason = %(reason)s, failed = failed + %(failed)s,"
        " finished_at = now(), leased_until = NULL, lease_owner = NULL WHERE id = %(id)s AND status = 'running'"
        " AND (%(status)s = 'failed' OR NOT EXISTS (SELECT FROM import_part WHERE job_id = %(id)s))",
        {"status": status, "reason": reason, "failed": failed, "id": job.id},
    )
    if cursor.rowcount and status == "failed":
        await connection.execute("DELETE FROM import_part WHERE job_id = %s", [job.id])
    ring_after_commit(connection, JOBS_CHANNEL)  # whoever waits for the report
    return cursor.rowcount == 1


async def _end(database: Database, job: Job, status: str, reason: str | None) -> None:
    async with database.transaction() as connection:
        ended = await _finish(connection, job, status, reason)
    if ended:
        await _forget(database, job)


async def _forget(database: Database, job: Job) -> None:
    if job.dry_run:
        await import_preview.forget(database, job.id)


async def give_up(database: Database, job: Job) -> None:
    """Ends an import that a fault of ours stands in the way of; what was stored before stays."""
    await _end(database, job, "failed", "internal")
