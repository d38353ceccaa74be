"""Storing the lines of an import in order, as if each had been sent alone: same rules, revisions and problems."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import errors

from app.db.pool import Connection
from app.exchange.import_lines import Asked, Job, Outcome, Prepared
from app.http.problem import Problem
from app.identity.caller import Caller
from app.records import store
from app.records.store import Written

Line = tuple[int, Asked]


async def stored(connection: Connection, caller: Caller, job: Job, lines: Sequence[Prepared]) -> Outcome:
    """Stores lines, and says what became of each."""
    outcome = Outcome()
    batch: list[Line] = []
    named: set[Any] = set()
    for number, asked in outcome.accept(lines):
        change = asked.change
        name = change.record_id or (change.external_id and (change.kind.name, change.external_id))
        if name is not None and name in named:
            # One call changes a record once; a line about the same record is for the next call.
            await _store(connection, caller, job, batch, outcome)
            batch, named = [], set()
        named.add(name)
        batch.append((number, asked))
    await _store(connection, caller, job, batch, outcome)
    return outcome


async def _store(connection: Connection, caller: Caller, job: Job, batch: Sequence[Line], outcome: Outcome) -> None:
    results = await written(connection, caller, job, batch)
    changed: set[UUID] = set()
    for (number, asked), result in zip(batch, results, strict=True):
        if result.before is not None and result.before.id in changed and _is_stale(result):
            # One line named the record by id, the other by external id, and the call saw it as it was before both.
            (result,) = await written(connection, caller, job, [(number, asked)])
        if result.changed and result.state is not None:
            changed.add(result.state.id)
        outcome.count(number, result, tell=False)


def _is_stale(result: Written) -> bool:
    return result.problem is not None and result.problem.code == "stale-version"


async def written(connection: Connection, caller: Caller, job: Job, batch: Sequence[Line]) -> list[Written]:
    """What became of each line: of all in one call when that works, else of each in a call of its own."""
    if not batch:
        return []
    try:
        async with connection.transaction():
            results = await store.write(
                connection, caller, [asked.change for _, asked in batch], keep_going=True, dry_run=job.dry_run
            )
            for (_, asked), result in zip(batch, results, strict=True):
                if result.state is not None and not job.dry_run:
                    for language, texts in asked.translations.items():
                        await store.put_translation(connection, result.state.id, language, texts)
            return results
    except (Problem, errors.UniqueViolation, errors.CardinalityViolation, errors.DataError) as error:
        # One of them breaks a constraint that only the database sees: each is tried alone to find out which.
        if len(batch) == 1:
            return [Written(None, problem=error if isinstance(error, Problem) else Problem("conflict"))]
        return [result for one in batch for result in await written(connection, caller, job, [one])]
