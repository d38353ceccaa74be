"""What becomes of an organisation's records when it leaves: drafts and amber go, what is open to all members stays."""

from collections.abc import Iterable

from app.db.pool import Connection
from app.identity.caller import Caller
from app.records import store
from app.records.change import Action, Change
from app.records.kind import Kind

BATCH = 200


async def withdraw_confidential(connection: Connection, caller: Caller, kinds: Iterable[Kind]) -> int:
    """Withdraws the caller's drafts and amber records in the caller's transaction; the number withdrawn.

    Source: docs/guides/members.md, "Leaving".
    """
    named = {kind.name: kind for kind in kinds}
    cursor = await connection.execute(
        "SELECT id, kind FROM record WHERE organisation_id = %s AND erased_at IS NULL"
        " AND (status = 'draft' OR (status = 'published' AND tlp LIKE 'amber%%')) ORDER BY id",
        [caller.organisation_id],
    )
    found = await cursor.fetchall()
    for start in range(0, len(found), BATCH):
        changes = [Change(named[kind], Action.WITHDRAW, id_) for id_, kind in found[start : start + BATCH]]
        # An adopted list never changes; it stays, as everything open to all members does.
        await store.write(connection, caller, changes, keep_going=True)
    return len(found)


async def widely_read(connection: Connection, caller: Caller) -> bool:
    """True when readers who may not know of an unlisted organisation can read a record of the caller's."""
    cursor = await connection.execute(
        "SELECT EXISTS (SELECT 1 FROM record WHERE organisation_id = %s AND status = 'published'"
        " AND tlp IN ('clear', 'green') AND erased_at IS NULL)",
        [caller.organisation_id],
    )
    row = await cursor.fetchone()
    return row is not None and bool(row[0])
