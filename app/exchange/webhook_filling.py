"""Filling: from the feed into the log of each webhook.

Each active webhook follows the feed from its own place; new rows of the log and the new place are one transaction, so a
change is noted once, whoever dies. What a message says is found when it is sent.

Source: safety H5; docs/decisions/0402-webhooks-follow-the-feed.md.
"""

from collections.abc import Sequence
from uuid import UUID

from app.db.ids import new_id
from app.db.pool import Connection, Database, ring_after_commit
from app.exchange import feed, feed_place, webhook_rows
from app.exchange.feed import Wanted
from app.exchange.feed_place import Place
from app.exchange.wake import JOBS_CHANNEL

PAGE_CHANGES = 200
MOST_PENDING = 10_000
STRIDE = 1000
"""A webhook that nothing concerns moves its place on after so many transactions, not with each."""

Looked = dict[UUID, tuple[int, int, int]]
"""Up to which row, and under which access epoch, a process has looked for each webhook: all that concerned it before
that row is noted."""

_ACTIVE = """
SELECT webhook.id, organisation.access_epoch FROM webhook JOIN organisation ON organisation.id = organisation_id
WHERE webhook.status = 'active' AND organisation.status = 'active' ORDER BY webhook.id
"""
_PLACE = """
SELECT organisation_id, credential_id, kinds, place_xid, place_seq, lineage, access_epoch, (SELECT count(*)
    FROM webhook_delivery WHERE webhook_id = webhook.id AND status = 'pending')
FROM webhook WHERE id = %s
"""


async def fill(database: Database, looked: Looked) -> bool:
    """Brings every active webhook's log up to the feed; True when some webhook has more to take.

    `looked` is kept from call to call: where nothing has been written since, nothing is asked for each webhook.
    """
    async with database.transaction() as connection:
        await webhook_rows.disable(connection, "credential-ended", f"NOT {webhook_rows.VOUCHED_FOR}")
    async with database.connection() as connection:
        end = await feed_place.now(connection)
        found = await (await connection.execute(_ACTIVE)).fetchall()
    now = {webhook_id: (end.xid, end.seq, epoch) for webhook_id, epoch in found}
    for gone in looked.keys() - now.keys():
        del looked[gone]
    more = False
    for webhook_id in [one for one in now if looked.get(one) != now[one]]:
        more = await _fill_one(database, webhook_id, end, looked) or more
    return more


async def _fill_one(database: Database, webhook_id: UUID, end: Place, looked: Looked) -> bool:
    async with database.connection() as connection:
        row = await (await connection.execute(_PLACE, [webhook_id])).fetchone()
        if row is None or row[7] >= MOST_PENDING:
            return False
        organisation_id, credential_id, kinds, xid, seq, lineage, epoch, _ = row
        caller = await webhook_rows.acting(connection, organisation_id, credential_id)
        if caller is None:
            return False
        restored = bytes(lineage) != end.lineage
        begin = _begin((xid, seq), looked.get(webhook_id), end, caller.access_epoch)
        place = end if restored else Place(*begin, end.lineage)
        found = await feed.page(connection, caller, Wanted(tuple(kinds)), place, PAGE_CHANGES)
    events: list[tuple[str, UUID | None]] = [("record.changed", item.id) for item in found.items]
    if restored or epoch != caller.access_epoch:
        events.insert(0, ("access.changed", None))
    if events or found.place.xid - xid >= STRIDE:
        async with database.transaction() as connection:
            cursor = await connection.execute(
                "UPDATE webhook SET place_xid = %s, place_seq = %s, lineage = %s, access_epoch = %s"
                " WHERE id = %s AND status = 'active' AND place_xid = %s AND place_seq = %s",
                [found.place.xid, found.place.seq, end.lineage, caller.access_epoch, webhook_id, xid, seq],
            )
            if cursor.rowcount == 0:
                return False  # another worker was faster, maybe not as far as here: it is looked at again
            await _note(connection, webhook_id, events)
    if not found.more:
        # Only now: what could not be noted is looked for again. The page may reach further than `end` did.
        looked[webhook_id] = (found.place.xid, found.place.seq, caller.access_epoch)
    return found.more


def _begin(noted: tuple[int, int], seen: tuple[int, int, int] | None, end: Place, epoch: int) -> tuple[int, int]:
    """Where to go on: behind the place of the webhook, or behind what this process has looked at in vain since. Without
    that a long import which concerns nobody would be read from its beginning again with each of its parts."""
    if seen is None or seen[2] != epoch or seen[:2] > (end.xid, end.seq):
        return noted
    return max(noted, seen[:2])


async def _note(connection: Connection, webhook_id: UUID, events: Sequence[tuple[str, UUID | None]]) -> None:
    for event, record_id in events:
        # What waits to be sent for the first time will tell the newest state anyway; what is on its way may not.
        await connection.execute(
            "INSERT INTO webhook_delivery (id, webhook_id, event, record_id, status)"
            " SELECT %(id)s, %(webhook)s, %(event)s, %(record)s, 'pending' WHERE NOT EXISTS ("
            "SELECT FROM webhook_delivery WHERE webhook_id = %(webhook)s AND status = 'pending' AND attempts = 0"
            " AND last_outcome IS NULL AND event = %(event)s AND record_id IS NOT DISTINCT FROM %(record)s)",
            {"id": new_id(), "webhook": webhook_id, "event": event, "record": record_id},
        )
    ring_after_commit(connection, JOBS_CHANNEL)
