"""The feed: what changed for one reader since a place in the order of transactions.

`revision` is read in order of (xid, seq), below the oldest transaction that is still running, so no row can appear
behind a reader. A row counts if its marking before or after is visible to the reader; what is sent is the record's
state at reading: `upsert` if it may be read now, else `removed`. Reading from nothing walks through the records that
may be read now, never `removed`, and goes on from where the log stood when the walk began.

Source: rules B4 to B7; docs/guides/exchange.md.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson

from app.db.pool import Connection
from app.exchange.feed_place import HORIZON, LAST_ROW, Place, written_us
from app.identity.caller import Caller
from app.records.marking import parameters, tombstone_visible_to, visible_to
from app.records.read import Row

RECORD_BYTES = 4_000_000
"""A page with records ends with the document that passes this: a thousand documents may be a gigabyte."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a reader follows. Empty tuples mean everything; `owners` and `kinds` never change for a record."""

    kinds: tuple[str, ...] = ()
    owners: tuple[UUID, ...] = ()
    regions: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()

    @property
    def digest(self) -> bytes:
        """Eight bytes that name this choice in a cursor."""
        parts = [
            sorted(map(str, part)) for part in (self.kinds, self.owners, self.regions, self.topics, self.languages)
        ]
        return sha256(orjson.dumps(parts)).digest()[:8]

    def matching(self) -> list[tuple[str, str]]:
        """(condition on a record now, condition on the body of a revision) for each filter that may change."""
        found = []
        if self.regions:
            found.append(("record.regions && %(regions)s::text[]", "was.body -> 'regions' ?| %(regions)s::text[]"))
        if self.topics:
            found.append(("record.topics && %(topics)s::text[]", "was.body -> 'topics' ?| %(topics)s::text[]"))
        if self.languages:
            found.append(("record.language = ANY (%(languages)s)", "was.body ->> 'language' = ANY (%(languages)s)"))
        return found

    def values(self) -> dict[str, Any]:
        """What the conditions bind."""
        return {
            "kinds": list(self.kinds),
            "owners": list(self.owners),
            "regions": list(self.regions),
            "topics": list(self.topics),
            "languages": list(self.languages),
        }


@dataclass(frozen=True, slots=True)
class Item:
    """One change as the reader gets it. `row` is there for an upsert only; its document only when asked for."""

    type: str
    kind: str
    id: UUID
    version: int
    at: datetime
    erased: bool
    row: Row | None


@dataclass(frozen=True, slots=True)
class Page:
    """Changes in order, one for each record, and the place after them."""

    items: Sequence[Item]
    place: Place
    more: bool


_SHOWN = (
    "record.id, record.kind, record.version, record.organisation_id, record.tlp, record.status, record.refs_guarded,"
    " record.external_id, record.audience"
)


_WALKING = "SELECT set_config('max_parallel_workers_per_gather', '0', true), " + ", ".join(
    f"set_config('enable_{plan}', 'off', true)" for plan in ("sort", "bitmapscan", "mergejoin", "hashjoin")
)


@asynccontextmanager
async def walking(connection: Connection) -> AsyncIterator[None]:
    """A transaction whose statements walk an index from where they are told to, and stop after a page.

    Where statistics are old or a filter looks rare, the planner would read and sort the whole rest for each page; and
    it would merge with a table that it walks from its beginning, because it carries `id > …` over to no other table.
    """
    async with connection.pipeline(), connection.transaction():  # one journey to the database instead of four
        await connection.execute(_WALKING)
        yield


async def page(
    connection: Connection, caller: Caller, wanted: Wanted, place: Place, limit: int, *, documents: bool = False
) -> Page:
    """At most `limit` changes after `place`. A page that is not full ends at the horizon."""
    if place.walked is None:
        return await _changed(connection, caller, wanted, place, limit, documents=documents)
    walk = await _walked(connection, caller, wanted, place, place.walked, limit, documents=documents)
    if walk.more:
        return walk
    # The walk is over; what changed since it began follows at once.
    room = limit - len(walk.items)
    since = await _changed(connection, caller, wanted, walk.place, max(1, room), documents=documents)
    if not room:
        return Page(walk.items, walk.place, bool(since.items))
    items = {item.id: item for item in (*walk.items, *since.items)}
    return Page(list(items.values()), since.place, since.more)


_UNMEASURED = ("true", "NULL::bytea")


def _measured(order: str) -> tuple[str, str]:
    """SQL in rows of this order: whether a document still has room on the page, and the document if it has.

    How long a stored document is stands in front of it; those without room are never fetched.
    """
    size = "coalesce(octet_length(document.full_view), 0)"
    fits = f"sum({size}) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) - {size} < {RECORD_BYTES}"
    return fits, f"CASE WHEN {fits} THEN document.full_view END"


def _narrowed(wanted: Wanted, row: str) -> list[str]:
    """Conditions on what never changes for a record, over `record` or `revision`."""
    conditions = []
    if wanted.kinds:
        conditions.append(f"{row}.kind = ANY (%(kinds)s)")
    if wanted.owners:
        conditions.append(f"{row}.organisation_id = ANY (%(owners)s)")
    return conditions


async def _walked(
    connection: Connection,
    caller: Caller,
    wanted: Wanted,
    place: Place,
    after: UUID,
    limit: int,
    *,
    documents: bool,
) -> Page:
    """The next records by id that may be read now."""
    conditions = ["record.id > %(after)s", visible_to(caller), *_narrowed(wanted, "record")]
    conditions += [matches for matches, _ in wanted.matching()]
    fits, document = _measured("record.id") if documents else _UNMEASURED
    joined = (
        "LEFT JOIN document ON document.record_id = record.id AND document.language = record.language"
        if documents
        else ""
    )
    async with walking(connection):
        cursor = await connection.execute(
            f"SELECT {fits}, record.updated_at, {_SHOWN}, {document} FROM record {joined}"
            f" WHERE {' AND '.join(conditions)} ORDER BY record.id LIMIT {limit + 1}",
            {**parameters(caller), **wanted.values(), "after": after},
            binary=True,
        )
        rows = await cursor.fetchall()
    found = [(updated_at, Row(*columns)) for _, updated_at, *columns in rows]
    limit = min(limit, sum(fits for fits, *_ in rows))
    items = [Item("upsert", row.kind, row.id, row.version, at, False, row) for at, row in found[:limit]]
    more = len(found) > limit
    return Page(items, replace(place, walked=items[-1].id if more else None), more)


async def _changed(
    connection: Connection, caller: Caller, wanted: Wanted, place: Place, limit: int, *, documents: bool
) -> Page:
    """The next changes in the order of transactions."""
    after = visible_to(caller, of="revision")
    before = f"(revision.status_before IS NOT NULL AND {visible_to(caller, of='revision', suffix='_before')})"
    visible_now = visible_to(caller)
    matching = wanted.matching()
    matches_now = " AND ".join(now for now, _ in matching) or "true"
    conditions = [
        "(revision.xid, revision.seq) > (%(xid)s::text::xid8, %(seq)s)",
        f"revision.xid < {HORIZON}",
        f"({after} OR {before})",
        *_narrowed(wanted, "revision"),
    ]
    if matching:
        # Whoever follows a part hears of a record that left it, if what they could read of it belonged to the part.
        was = visible_to(caller, of="was", own="true")
        matched = " AND ".join(then for _, then in matching)
        known = f"EXISTS (SELECT FROM revision AS was WHERE was.record_id = record.id AND {was} AND {matched})"
        conditions.append(f"(({visible_now} AND {matches_now}) OR record.erased_at IS NOT NULL OR {known})")
    fits, document = _measured("changed.xid, changed.seq") if documents else _UNMEASURED
    joined = (
        "LEFT JOIN document ON shown AND document.record_id = record.id AND document.language = record.language"
        if documents
        else ""
    )
    statement = f"""
WITH changed AS MATERIALIZED (
    SELECT revision.xid, revision.seq, {written_us("revision")} AS us, revision.record_id FROM revision
    {"JOIN record ON record.id = revision.record_id" if matching else ""}
    WHERE {" AND ".join(conditions)} ORDER BY revision.xid, revision.seq LIMIT {limit + 1}),
told AS (
    SELECT changed.xid::text::bigint AS xid, changed.seq, changed.us, {fits} AS fits, shown, record.updated_at,
        {_erased_to(caller)} AS erased, last.version AS last_version, last.at AS last_at,
        {_SHOWN}, {document} AS document
    FROM changed
    -- One look-up by key for each row: the planner would rather read the whole table, and that grows.
    CROSS JOIN LATERAL (SELECT * FROM record WHERE record.id = changed.record_id OFFSET 0) AS record
    CROSS JOIN LATERAL (SELECT coalesce({visible_now} AND {matches_now}, false) AS shown) AS judged
    LEFT JOIN LATERAL (
        SELECT was.version, was.at FROM revision AS was
        WHERE NOT shown AND was.record_id = record.id AND {_once_visible_to(caller)}
        ORDER BY was.version DESC LIMIT 1) AS last ON true
    {joined})
SELECT end_xid, end_seq, end_us, told.*
FROM (SELECT 1) AS always LEFT JOIN {LAST_ROW} ON true LEFT JOIN told ON true ORDER BY told.xid, told.seq
"""
    values = {**parameters(caller), **wanted.values(), "xid": str(place.xid), "seq": place.seq}
    rows = await (await connection.execute(statement, values, binary=True)).fetchall()
    found = [row[3:] for row in rows if row[3] is not None]
    end = max((place.xid, place.seq, place.written_us), rows[0][:3] if rows[0][0] else (0, -1, 0))
    limit = min(limit, sum(fits for _, _, _, fits, *_ in found))
    more = len(found) > limit
    items: dict[UUID, Item] = {}
    for _, _, _, _, shown, updated_at, erased, last_version, last_at, *columns in found[:limit]:
        row = Row(*columns)
        if shown:
            items[row.id] = Item("upsert", row.kind, row.id, row.version, updated_at, False, row)
        elif last_version is not None:
            items[row.id] = Item("removed", row.kind, row.id, last_version, last_at, erased, None)
    xid, seq, us = found[limit - 1][:3] if more else end
    return Page(list(items.values()), replace(place, xid=xid, seq=seq, written_us=us), more)


def _once_visible_to(caller: Caller) -> str:
    """SQL that is true of a row `was` of `revision` whose state, before or after, the caller could have read."""
    after = visible_to(caller, of="was", own="true")
    return f"({after} OR (was.status_before IS NOT NULL AND {visible_to(caller, of='was', suffix='_before')}))"


def _erased_to(caller: Caller) -> str:
    """SQL that is true of a record that was erased, for those its last marking let read; others knew it hidden."""
    return f"(record.erased_at IS NOT NULL AND {tombstone_visible_to(caller)})"


async def present(connection: Connection, caller: Caller, record_id: UUID) -> Item | None:
    """What the feed would say of one record now: `upsert` if the caller may read it, `removed` if it once could.

    None when the caller may not know that it exists.
    """
    cursor = await connection.execute(
        f"""
SELECT coalesce({visible_to(caller)}, false), record.kind, record.version, record.updated_at,
    {_erased_to(caller)}, last.version, last.at
FROM record LEFT JOIN LATERAL (
    SELECT was.version, was.at FROM revision AS was
    WHERE was.record_id = record.id AND {_once_visible_to(caller)}
    ORDER BY was.version DESC LIMIT 1) AS last ON true
WHERE record.id = %(id)s
""",
        {**parameters(caller), "id": record_id},
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    shown, kind, version, updated_at, erased, last_version, last_at = row
    if shown:
        return Item("upsert", kind, record_id, version, updated_at, False, None)
    return None if last_version is None else Item("removed", kind, record_id, last_version, last_at, erased, None)


async def known(connection: Connection, caller: Caller, record_ids: Iterable[UUID]) -> set[UUID]:
    """Those of the records that the caller may read now or could once, under the names it has now."""
    cursor = await connection.execute(
        "SELECT record.id FROM record WHERE record.id = ANY (%(ids)s) AND"
        f" ({visible_to(caller)} OR EXISTS (SELECT FROM revision AS was WHERE was.record_id = record.id"
        f" AND {_once_visible_to(caller)}))",
        {**parameters(caller), "ids": list(set(record_ids))},
    )
    return {row[0] for row in await cursor.fetchall()}
