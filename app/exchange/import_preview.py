"""Dry runs: what each line would do to what is stored, and which lines hang on earlier lines of the same file.

What an earlier line makes, changes or renames is not there to compare with, so a later line about it is told as
`repeated` instead of with a wrong difference. The records touched so far are remembered as digests in `import_name`,
in the transaction of the part: across parts, whoever works on them.
"""

from collections.abc import Iterable
from hashlib import blake2b
from uuid import UUID

from app.db.pool import Connection, Database
from app.exchange.import_lines import Asked, Job, Outcome, Prepared
from app.exchange.import_store import written
from app.identity.caller import Caller
from app.records.store import Written

CERTAIN = frozenset({"invalid-body", "marking-not-supported", "audience-not-found"})
"""Problems of a line that are there whatever earlier lines do."""
FORGET_AT_ONCE = 20_000
LEFT_BEHIND = (
    "SELECT id FROM import_job WHERE finished_at IS NOT NULL AND EXISTS"
    " (SELECT FROM import_name WHERE job_id = import_job.id)"
)
"""Imports that have ended with names still there: whoever was to drop them died."""


async def judged(connection: Connection, caller: Caller, job: Job, lines: Iterable[Prepared]) -> Outcome:
    """What lines would do; nothing but the names of the records they touch is stored."""
    outcome = Outcome()
    batch = list(outcome.accept(lines))
    results = await written(connection, caller, job, batch)
    named = [_given(asked, result) for (_, asked), result in zip(batch, results, strict=True)]
    before = await _touched(connection, job, set().union(*named))
    touched = set(before)
    for (number, _), result, names in zip(batch, results, named, strict=True):
        certain = result.problem is not None and result.problem.code in CERTAIN
        if certain or touched.isdisjoint(names):
            outcome.count(number, result, tell=True)
            touched |= _changed(result)
        else:
            outcome.repeat(number)
            touched |= names
    await _remember(connection, job, touched - before)
    return outcome


def _name(*words: str | UUID) -> int:
    """64 bits that stand for a record: its id, or kind and external id."""
    return int.from_bytes(blake2b("\0".join(map(str, words)).encode(), digest_size=8).digest(), signed=True)


def _given(asked: Asked, result: Written) -> set[int]:
    """The record a line is about, and the external id it claims."""
    change, found = asked.change, set()
    if change.record_id is not None:
        found.add(_name(change.record_id))
    if result.before is not None:
        found.add(_name(result.before.id))
    claimed = (change.body or {}).get("external_id")
    if isinstance(claimed, str):
        found.add(_name(change.kind.name, claimed))
    return found


def _changed(result: Written) -> set[int]:
    """What a line would change: a record that is there, external ids that come to name another or none."""
    before, after = result.before, result.state
    if not result.changed or after is None:
        return set()
    external_ids = {after.external_id} if before is None else {before.external_id} ^ {after.external_id}
    found = {_name(after.kind, one) for one in external_ids if one is not None}
    return found if before is None else found | {_name(before.id)}


async def _touched(connection: Connection, job: Job, names: set[int]) -> set[int]:
    if not names:
        return set()
    cursor = await connection.execute(
        "SELECT name FROM import_name WHERE job_id = %s AND name = ANY (%s)", [job.id, list(names)]
    )
    return {name for (name,) in await cursor.fetchall()}


async def _remember(connection: Connection, job: Job, names: set[int]) -> None:
    if names:
        await connection.execute(
            "INSERT INTO import_name (job_id, name) SELECT %s, unnest(%s::bigint[])", [job.id, list(names)]
        )


async def forget(database: Database, job_id: UUID) -> None:
    """Drops the names of an import that has ended, in statements that hold nobody back."""
    async with database.connection() as connection:
        while True:
            cursor = await connection.execute(
                "DELETE FROM import_name WHERE job_id = %(id)s AND name IN"
                f" (SELECT name FROM import_name WHERE job_id = %(id)s LIMIT {FORGET_AT_ONCE})",
                {"id": job_id},
            )
            if cursor.rowcount < FORGET_AT_ONCE:
                return
