"""Places in the feed: how far a reader has come, and the sealed cursor that says so.

A place names a row of `revision` that is on the disk, by its numbers and by the moment it was written. Numbers of
transactions come again after a crash or in an older copy that was put back; a moment does not.

Source: rules B5, B7; safety S5.
"""

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from app.db.pool import Connection
from app.http.problem import Problem
from app.identity.caller import Caller
from app.sealing import MasterSecret, NotSealedHere

PURPOSE = "feed-cursor"
NOBODY = UUID(int=0)
NOT_WALKING = b"\xff" * 16
SHAPE = struct.Struct(">8s16sQ8sQqQ16s")

HORIZON = "pg_snapshot_xmin(pg_current_snapshot())"
"""The oldest transaction that still runs: below it no row can appear any more."""


def written_us(row: str) -> str:
    """SQL for the moment a row of `revision` was written, in microseconds since 1970."""
    return f"(extract(epoch FROM {row}.at) * 1000000)::bigint"


LAST_ROW = f"""
    (SELECT revision.xid::text::bigint AS end_xid, revision.seq AS end_seq, {written_us("revision")} AS end_us
    FROM revision WHERE revision.xid < {HORIZON}
    ORDER BY revision.xid DESC, revision.seq DESC LIMIT 1) AS last_row
"""
# The last row below the horizon, whoever may see it, and not the horizon itself: that may be the number of a
# transaction which left no trace on the disk, and after a crash the database gives such numbers out again.

_NOW = f"""
SELECT coalesce(end_xid, 0), coalesce(end_seq, -1), coalesce(end_us, 0),
    concat_ws('/', (SELECT system_identifier FROM pg_control_system()),
        (SELECT timeline_id FROM pg_control_checkpoint()),
        (SELECT oid FROM pg_database WHERE datname = current_database()),
        'revision'::regclass::oid)
FROM (SELECT 1) AS always LEFT JOIN {LAST_ROW} ON true
"""


@dataclass(frozen=True, slots=True)
class Place:
    """How far a reader has come: after the row (xid, seq), which was written at `written_us`. While it still walks
    through the records for the first time, `walked` is the last one it got. `lineage` names the history of the
    database; a restore begins another."""

    xid: int
    seq: int
    lineage: bytes
    written_us: int = 0
    walked: UUID | None = None


async def now(connection: Connection) -> Place:
    """The end of the feed: everything that is visible at this moment lies before it."""
    row = await (await connection.execute(_NOW)).fetchone()
    assert row is not None
    # A dump restored elsewhere begins other transaction ids; a restore in place makes a new table or timeline.
    return Place(row[0], row[1], sha256(row[3].encode()).digest()[:8], row[2])


async def confirm(connection: Connection, place: Place) -> None:
    """Passes when the row at a place is there. Errors: 410 `resync-required`.

    An older copy of the data folder that was put back has the same lineage, but lacks what the reader has seen since,
    or has something else under the same numbers.
    """
    if place.xid:
        cursor = await connection.execute(
            f"SELECT {written_us('revision')} FROM revision WHERE xid = %s::text::xid8 AND seq = %s",
            [str(place.xid), place.seq],
        )
        if await cursor.fetchone() != (place.written_us,):
            raise Problem("resync-required")


def sealed(secret: MasterSecret, caller: Caller, choice: bytes, place: Place) -> str:
    """The cursor for a place: always of the same length, different each time, readable by this service alone.

    `choice` is eight bytes that name the filters it belongs to.
    """
    plain = SHAPE.pack(
        choice,
        (caller.organisation_id or NOBODY).bytes,
        caller.access_epoch,
        place.lineage,
        place.xid,
        place.seq,
        place.written_us,
        NOT_WALKING if place.walked is None else place.walked.bytes,
    )
    return urlsafe_b64encode(secret.seal(PURPOSE, plain)).rstrip(b"=").decode()


def opened(secret: MasterSecret, caller: Caller, choice: bytes, cursor: str, lineage: bytes) -> Place:
    """The place a cursor names.

    Errors: 400 `invalid-cursor` for one that was not made here or for other filters; 410 `resync-required` for one of
    another organisation, from before its access changed, or from before the database was restored.
    """
    try:
        cipher = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        digest, organisation, epoch, then, xid, seq, us, walked = SHAPE.unpack(secret.unseal(PURPOSE, cipher))
    except (NotSealedHere, Error, ValueError, struct.error):
        raise Problem("invalid-cursor") from None
    if digest != choice:
        raise Problem("invalid-cursor", "The cursor belongs to other filters; use `next` as it stands.")
    if (UUID(bytes=organisation), epoch, then) != (caller.organisation_id or NOBODY, caller.access_epoch, lineage):
        raise Problem("resync-required")
    return Place(xid, seq, lineage, us, None if walked == NOT_WALKING else UUID(bytes=walked))
