"""Working an import through: part by part, each in one short transaction together with the progress.

Whoever dies in the middle leaves the part undone and the progress where it was; whoever comes next goes on there. The
records are stored as if each had been sent alone: same rules, same revisions, same problems.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
from psycopg import errors
from psycopg.types.json import Jsonb

from app.db import tasks
from app.db.pool import Connection, Database, ring_after_commit
from app.exchange import cells, standing
from app.exchange.wake import JOBS_CHANNEL
from app.http import strict_json
from app.http.problem import Fault, Problem
from app.identity.caller import Caller
from app.records import store
from app.records.change import Action, Change
from app.records.diff import changes as differences
from app.records.kind import Kind
from app.records.state import State
from app.records.store import Written

LEASE_SECONDS = 30
TURN_PARTS = 20
PROBLEMS_KEPT = 1000
LINES_KEPT = 1000
SLICE_LINES = 8
SCOPES = frozenset({"exchange:bulk", "records:write"})

log = logging.getLogger("minga.exchange")


@dataclass(slots=True)
class Outcome:
    """What became of the lines of one part."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    failed: int = 0
    problems: list[dict[str, Any]] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)

    def refuse(self, number: int, code: str, pointer: str = "", detail: str | None = None) -> None:
        """Notes that a line was refused, and why; never what stood in it."""
        entry = {"line": number, "pointer": pointer, "code": code}
        self.problems.append(entry if detail is None else {**entry, "detail": detail})

    def refuse_with(self, number: int, problem: Problem) -> None:
        """Notes a line refused by the store."""
        self.failed += 1
        if not problem.errors:
            self.refuse(number, problem.code, detail=problem.detail)
        for fault in problem.errors:
            self.refuse(number, fault.code, fault.pointer)


@dataclass(frozen=True, slots=True)
class Job:
    """An import as its worker needs it."""

    id: UUID
    organisation_id: UUID
    credential_id: UUID
    kind: str | None
    format: str
    dry_run: bool
    atomic: bool
    next_part: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What a line asks for: a change, and texts in other languages to go with it."""

    change: Change
    translations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


Prepared = tuple[int, Asked | Fault | Problem | None]
"""The number of a line, and what it asks for: None for the head of an export, else why it cannot be."""


_CLAIM = f"""
UPDATE import_job SET status = 'running', leased_until = now() + interval '{LEASE_SECONDS} seconds'
WHERE id = (SELECT id FROM import_job WHERE status IN ('queued', 'running')
    AND (leased_until IS NULL OR leased_until < now()) ORDER BY lines_done, created_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, organisation_id, credential_id, kind, format, dry_run, atomic, next_part
"""


async def claim(database: Database) -> Job | None:
    """The next import that nobody works on, leased for half a minute: the one that had least so far."""
    async with database.connection() as connection:
        row = await (await connection.execute(_CLAIM)).fetchone()
    return None if row is None else Job(*row)


async def work(database: Database, kinds: Mapping[str, Kind], job: Job) -> None:
    """Works on a claimed import for a turn, which ends with the import or after 20 parts, so that a long one delays
    nobody else's. Errors: those of the database; the import then goes on later."""
    if job.atomic:
        await _all_or_nothing(database, kinds, job)
        return
    number = job.next_part
    ready = asyncio.create_task(_prepared(database, kinds, job, number))
    storing: asyncio.Task[None] | None = None
    overlapping = False
    try:
        while (lines := await ready) is not None:
            if number == job.next_part + TURN_PARTS:
                if storing is not None:
                    await storing
                await _give_back(database, job)
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
        async with database.transaction() as connection:
            await _finish(connection, job, "done", None)
    except _EndedError as ended:
        async with database.transaction() as connection:
            await _finish(connection, job, "failed", ended.reason)
    except _TakenOverError:
        log.info("another worker goes on with an import")
    finally:
        await tasks.end([ready, *([storing] if storing is not None else [])])


async def _give_back(database: Database, job: Job) -> None:
    """Ends the lease before its time: whoever claims next may take another import first."""
    async with database.connection() as connection:
        await connection.execute("UPDATE import_job SET leased_until = NULL WHERE id = %s", [job.id])


def _only_new(lines: Sequence[Prepared]) -> bool:
    """True when the lines make records and touch none: two such parts never wait for each other's rows, so the second
    may be worked on before the first is committed. It is committed after it all the same."""
    return all(
        not isinstance(asked, Asked) or (asked.change.record_id is None and asked.change.external_id is None)
        for _, asked in lines
    )


async def _one_part(
    database: Database, job: Job, number: int, lines: Sequence[Prepared], before: asyncio.Task[None] | None
) -> None:
    """Stores one part, and commits it once the part before is. Errors: _EndedError, _TakenOverError; those of the
    database after three more attempts."""
    for last in (False, False, False, True):
        try:
            async with database.transaction() as connection:
                caller = await _caller(connection, job)
                outcome = await import_lines(connection, caller, job, lines)
                if before is not None:
                    await before
                await _advance(connection, job, number, len(lines), outcome)
                return
        except (errors.SerializationFailure, errors.DeadlockDetected):
            if last:
                raise


async def _prepared(database: Database, kinds: Mapping[str, Kind], job: Job, number: int) -> list[Prepared] | None:
    """What the lines of a part ask for; None when there is no such part (any more)."""
    async with database.connection() as connection:
        part = await _part(connection, job, number)
    if part is None:
        return None
    prepared = []
    for place, line in enumerate(part):
        prepared.append(_taken_apart(kinds, job, line))
        if place % SLICE_LINES == 0:
            await asyncio.sleep(0)
    return prepared


async def _all_or_nothing(database: Database, kinds: Mapping[str, Kind], job: Job) -> None:
    total = Outcome()
    done = 0
    try:
        async with database.transaction() as connection:
            caller = await _caller(connection, job)
            while (part := await _part(connection, job, done)) is not None:
                lines = [_taken_apart(kinds, job, line) for line in part]
                outcome = await import_lines(connection, caller, job, lines)
                await _advance(connection, job, done, len(lines), outcome)
                for name in ("created", "updated", "unchanged", "failed"):
                    setattr(total, name, getattr(total, name) + getattr(outcome, name))
                total.problems += outcome.problems
                done += 1
            if total.failed:
                raise _EndedError("lines-refused")
            await connection.execute("DELETE FROM import_part WHERE job_id = %s", [job.id])
            await _finish(connection, job, "done", None)
    except _EndedError as ended:
        # Nothing was stored; what was wrong is told all the same.
        async with database.transaction() as connection:
            await connection.execute(
                "UPDATE import_job SET failed = %s, problems = %s WHERE id = %s",
                [total.failed, Jsonb(total.problems[:PROBLEMS_KEPT]), job.id],
            )
            await _finish(connection, job, "failed", ended.reason)


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


async def _advance(connection: Connection, job: Job, number: int, lines: int, outcome: Outcome) -> None:
    """Moves the import on in the transaction of its records. Errors: _TakenOverError."""
    cursor = await connection.execute(
        f"""
UPDATE import_job SET next_part = next_part + 1, lines_done = lines_done + %(done)s, created = created + %(created)s,
    updated = updated + %(updated)s, unchanged = unchanged + %(unchanged)s, failed = failed + %(failed)s,
    problems = CASE WHEN jsonb_array_length(problems) < {PROBLEMS_KEPT} THEN problems || %(problems)s ELSE problems END,
    lines = CASE WHEN jsonb_array_length(lines) < {LINES_KEPT} THEN lines || %(lines)s ELSE lines END,
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
            "problems": Jsonb(outcome.problems),
            "lines": Jsonb(outcome.lines),
        },
    )
    if cursor.rowcount != 1:
        raise _TakenOverError
    if not job.atomic:
        await connection.execute("DELETE FROM import_part WHERE job_id = %s AND number = %s", [job.id, number])


async def _finish(connection: Connection, job: Job, status: str, reason: str | None) -> None:
    """Ends an import. It is done only when no part waits: one that is missing may be with another worker."""
    cursor = await connection.execute(
        "UPDATE import_job SET status = %(status)s, reason = %(reason)s, finished_at = now(), leased_until = NULL"
        " WHERE id = %(id)s AND status = 'running'"
        " AND (%(status)s = 'failed' OR NOT EXISTS (SELECT FROM import_part WHERE job_id = %(id)s))",
        {"status": status, "reason": reason, "id": job.id},
    )
    if cursor.rowcount and status == "failed":
        await connection.execute("DELETE FROM import_part WHERE job_id = %s", [job.id])
    ring_after_commit(connection, JOBS_CHANNEL)  # whoever waits for the report


async def give_up(database: Database, job: Job) -> None:
    """Ends an import that a fault of ours stands in the way of; what was stored before stays."""
    async with database.transaction() as connection:
        await _finish(connection, job, "failed", "internal")


def _taken_apart(kinds: Mapping[str, Kind], job: Job, line: Sequence[Any]) -> Prepared:
    number, value, code = line
    if code is not None:
        return number, Fault("", code)
    try:
        return number, _asked(kinds, job, value)
    except Problem as problem:
        return number, problem


async def import_lines(connection: Connection, caller: Caller, job: Job, lines: Sequence[Prepared]) -> Outcome:
    """Stores lines in order, and says what became of each."""
    outcome = Outcome()
    batch: list[tuple[int, Asked]] = []
    named: set[Any] = set()
    for number, asked in lines:
        if asked is None:
            continue
        if isinstance(asked, Fault):
            outcome.failed += 1
            outcome.refuse(number, asked.code)
            continue
        if isinstance(asked, Problem):
            outcome.refuse_with(number, asked)
            continue
        change = asked.change
        name = change.record_id or (change.external_id and (change.kind.name, change.external_id))
        if name is not None and name in named:
            # One call changes a record once; a line about the same record is for the next call.
            await _store(connection, caller, job, batch, outcome)
            batch, named = [], set()
        named.add(name)
        batch.append((number, asked))
    await _store(connection, caller, job, batch, outcome)
    outcome.problems.sort(key=lambda entry: entry["line"])
    outcome.lines.sort(key=lambda entry: entry["line"])
    return outcome


def _asked(kinds: Mapping[str, Kind], job: Job, value: Any) -> Asked | None:
    """What a line asks for; None for the head of an export. Errors: Problem."""
    # Cells go the way of JSON too, so that what no body may hold is refused in both forms alike.
    given = strict_json.parse(value.encode() if job.format == "ndjson" else orjson.dumps(value))
    if not isinstance(given, dict):
        raise Problem("invalid-body", errors=[Fault("", "object-required")])
    if given.keys() == {"feed"}:
        return None
    by_name = {name: kind for kind in kinds.values() for name in (kind.name, kind.plural)}
    named = given.get("kind") or job.kind
    kind = by_name.get(named) if isinstance(named, str) else None
    if kind is None:
        code = "unknown-kind" if named else "required"
        raise Problem("invalid-body", errors=[Fault("/kind", code)])
    translations: Mapping[str, Mapping[str, Any]] = {}
    if job.format == "csv":
        given, translations = cells.read(kind, given)
    given["kind"] = kind.name
    if given.get("id") is not None:
        return Asked(Change(kind, Action.REPLACE, _id(given["id"]), given), translations)
    given.pop("id", None)
    external_id = given.get("external_id")
    if isinstance(external_id, str) and external_id:
        return Asked(Change(kind, Action.REPLACE, body=given, external_id=external_id), translations)
    body = {name: part for name, part in given.items() if name != "kind"}
    return Asked(Change(kind, Action.CREATE, body=body), translations)


def _id(value: Any) -> UUID:
    try:
        return UUID(value)
    except (ValueError, TypeError, AttributeError):
        raise Problem("invalid-body", errors=[Fault("/id", "invalid-id")]) from None


async def _store(
    connection: Connection, caller: Caller, job: Job, batch: Sequence[tuple[int, Asked]], outcome: Outcome
) -> None:
    if not batch:
        return
    try:
        async with connection.transaction():
            written = await store.write(
                connection, caller, [asked.change for _, asked in batch], keep_going=True, dry_run=job.dry_run
            )
            for (_, asked), result in zip(batch, written, strict=True):
                if result.state is not None and not job.dry_run:
                    for language, texts in asked.translations.items():
                        await store.put_translation(connection, result.state.id, language, texts)
    except (Problem, errors.UniqueViolation, errors.DataError) as error:
        # One of them breaks a constraint that only the database sees: each is tried alone to find out which.
        if len(batch) == 1:
            problem = error if isinstance(error, Problem) else Problem("conflict")
            outcome.refuse_with(batch[0][0], problem)
            return
        for one in batch:
            await _store(connection, caller, job, [one], outcome)
        return
    for (number, _), result in zip(batch, written, strict=True):
        _count(job, number, result, outcome)


def _count(job: Job, number: int, result: Written, outcome: Outcome) -> None:
    if result.problem is not None:
        outcome.refuse_with(number, result.problem)
        return
    if not result.changed:
        action = "unchanged"
        outcome.unchanged += 1
    elif result.before is None:
        action = "create"
        outcome.created += 1
    else:
        action = "update"
        outcome.updated += 1
    if job.dry_run:
        entry: dict[str, Any] = {"line": number, "action": action}
        if action == "update" and result.before is not None and result.state is not None:
            entry["id"] = str(result.state.id)
            entry["changes"] = list(differences(_shown(result.before), _shown(result.state)))
        outcome.lines.append(entry)


def _shown(state: State) -> dict[str, Any]:
    audience = [str(one) for one in state.marking.audience]
    return {**state.body, "tlp": state.marking.tlp, "audience": audience, "external_id": state.external_id}
