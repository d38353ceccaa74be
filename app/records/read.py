"""Reading: every statement that selects records, each with the access rule in it. Rows hold bytes, not objects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from app.db.pool import Connection
from app.db.readers import Reads
from app.identity.caller import Caller
from app.records.filters import SORTS, Filter, Order
from app.records.marking import Branch, branches, parameters, tombstone_visible_to, visible_to
from app.records.state import COLUMNS, State, from_row

COUNT_AT_MOST = 10_000
"""Totals are counted over at most this many of the newest matches."""


class Row(NamedTuple):
    """A record as selected: what the wire needs, and its stored document. `key` is its place in a list."""

    id: UUID
    kind: str
    version: int
    organisation_id: UUID
    tlp: str
    status: str
    refs_guarded: bool
    external_id: str | None
    audience: list[UUID]
    document: bytes | None
    key: Any = None


_ROW = (
    "record.id, record.kind, record.version, record.organisation_id, record.tlp, record.status, record.refs_guarded,"
    " record.external_id, record.audience"
)
_DOCUMENT = "document ON document.record_id = record.id AND document.language = record.language"


async def one(connection: Reads, caller: Caller, kind: str, record_id: UUID, known_version: int = 0) -> Row | None:
    """The record, or None where the caller may not even know of it; a tombstone has status `withdrawn`.

    The document is left out when the caller already holds `known_version`.
    """
    cursor = await connection.execute(
        f"SELECT {_ROW}, CASE WHEN record.version = %(known)s THEN NULL ELSE document.full_view END"
        f" FROM record LEFT JOIN {_DOCUMENT}"
        f" WHERE record.id = %(id)s AND record.kind = '{kind}'"
        f" AND ({visible_to(caller)} OR {tombstone_visible_to(caller)})",
        {**parameters(caller), "id": record_id, "known": known_version},
        binary=True,
    )
    row = await cursor.fetchone()
    return None if row is None else Row(*row)


async def page(
    connection: Reads,
    caller: Caller,
    kind: str,
    *,
    filters: Filter,
    sort: str,
    after: tuple[Any, UUID] | None,
    limit: int,
    full: bool = False,
) -> list[Row]:
    """At most `limit` visible records in the order asked for, after the given place."""
    order = SORTS[sort]
    direction = "DESC" if order.descending else "ASC"
    where, values = [filters.sql], dict(filters.values)
    if after is not None:
        comparison = "<" if order.descending else ">"
        where.append(f"({{key}}, {{id}}) {comparison} (%(after_key)s::{order.type}, %(after_id)s)")
        values |= {"after_key": after[0], "after_id": after[1]}
    parts = [
        _part(branch, kind, order, direction, limit, " AND ".join(part for part in where if part))
        for branch in branches(caller, filters.statuses)
    ]
    if not parts:
        return []
    merged = (
        parts[0]
        if len(parts) == 1
        else f"({') UNION ('.join(parts)}) ORDER BY key {direction}, id {direction} LIMIT {limit}"
    )
    document = "document.full_view" if full else "document.brief"
    cursor = await connection.execute(
        f"WITH page AS ({merged}) SELECT {_ROW}, {document}, page.key FROM page JOIN record ON record.id = page.id"
        f" JOIN {_DOCUMENT} ORDER BY page.key {direction}, page.id {direction}",
        {**parameters(caller), **values},
        binary=True,
    )
    return [Row(*row) for row in await cursor.fetchall()]


def _part(branch: Branch, kind: str, order: Order, direction: str, limit: int, where: str) -> str:
    """One branch as a SELECT of (id, key) that stops after `limit`."""
    if branch.source == "record":
        named = where.replace("{key}", order.key).replace("{id}", "record.id")
        condition = f"record.kind = '{kind}' AND {branch.where}{' AND ' + named if named else ''}"
        return (
            f"SELECT record.id, {order.key} AS key FROM record WHERE {condition}"
            f" ORDER BY {order.key} {direction}, record.id {direction} LIMIT {limit}"
        )
    key = order.key.replace("record.created_at", "record_reader.created_at")
    named = where.replace("{key}", key).replace("{id}", "record_reader.record_id")
    condition = f"record_reader.kind = '{kind}' AND {branch.where}{' AND ' + named if named else ''}"
    return (
        f"SELECT DISTINCT reached.id, reached.key FROM {branch.source} CROSS JOIN LATERAL ("
        f"SELECT record.id, {key} AS key"
        f" FROM record_reader JOIN record ON record.id = record_reader.record_id WHERE {condition}"
        f" ORDER BY {key} {direction}, record_reader.record_id {direction} LIMIT {limit}) AS reached"
        f" ORDER BY key {direction}, id {direction} LIMIT {limit}"
    )


async def total(connection: Reads, caller: Caller, kind: str, filters: Filter) -> tuple[int, bool]:
    """How many visible records match, and whether counting stopped at 10,000."""
    where = f" AND {filters.sql}" if filters.sql else ""
    parts = []
    for branch in branches(caller, filters.statuses):
        if branch.source == "record":
            source, named = "record", "record"
        else:
            source = f"{branch.source} JOIN record_reader ON true JOIN record ON record.id = record_reader.record_id"
            named = "record_reader"
        parts.append(
            f"(SELECT record.id FROM {source} WHERE {named}.kind = '{kind}' AND {branch.where}{where}"
            f" ORDER BY {named}.created_at DESC LIMIT {COUNT_AT_MOST + 1})"
        )
    if not parts:
        return 0, False
    cursor = await connection.execute(
        f"SELECT count(*) FROM (SELECT * FROM ({' UNION '.join(parts)}) AS matches"
        f" LIMIT {COUNT_AT_MOST + 1}) AS counted",
        {**parameters(caller), **filters.values},
    )
    row = await cursor.fetchone()
    counted = 0 if row is None else row[0]
    return min(counted, COUNT_AT_MOST), counted > COUNT_AT_MOST


async def state(connection: Connection, caller: Caller, kind: str, record_id: UUID) -> State | None:
    """The state of a record the caller may know of, tombstones included, else None."""
    cursor = await connection.execute(
        f"SELECT {COLUMNS} FROM record WHERE id = %(id)s AND kind = '{kind}'"
        f" AND ({visible_to(caller)} OR {tombstone_visible_to(caller)})",
        {**parameters(caller), "id": record_id},
    )
    row = await cursor.fetchone()
    return None if row is None else from_row(row)


@dataclass(frozen=True, slots=True)
class Version:
    """One revision as a reader gets it."""

    version: int
    action: str
    at: datetime
    status: str
    tlp: str
    envelope: Mapping[str, Any]
    body: Mapping[str, Any]
    status_now: str
    tlp_now: str

    @property
    def marked(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """(tlp, status) then and now: an answer that shows the version heeds the stricter."""
        return (self.tlp, self.status), (self.tlp_now, self.status_now)


async def owner_of(connection: Connection, caller: Caller, kind: str, record_id: UUID) -> tuple[UUID, bool] | None:
    """(owner, withdrawn) of a record the caller may know of, else None."""
    cursor = await connection.execute(
        f"SELECT organisation_id, status = 'withdrawn' FROM record WHERE id = %(id)s AND kind = '{kind}'"
        f" AND ({visible_to(caller)} OR {tombstone_visible_to(caller)})",
        {**parameters(caller), "id": record_id},
    )
    row = await cursor.fetchone()
    return None if row is None else (row[0], row[1])


async def versions(
    connection: Connection,
    caller: Caller,
    record_id: UUID,
    *,
    only: Sequence[int] | None = None,
    below: int = 0,
    limit: int = 200,
) -> list[Version]:
    """Readable versions, newest first: those that today's marking and their own both let the caller read.

    The owner reads every version, also of a withdrawn record.
    """
    then = visible_to(caller, of="revision", own="true")
    today = visible_to(caller, own="true")
    cursor = await connection.execute(
        "SELECT revision.version, revision.action, revision.at, revision.status, revision.tlp, revision.envelope,"
        " revision.body, record.status, record.tlp FROM revision JOIN record ON record.id = revision.record_id"
        f" WHERE revision.record_id = %(id)s AND {today} AND {then}"
        " AND (%(only)s::bigint[] IS NULL OR revision.version = ANY (%(only)s))"
        " AND (%(below)s = 0 OR revision.version < %(below)s) AND record.erased_at IS NULL"
        f" ORDER BY revision.version DESC LIMIT {limit}",
        {**parameters(caller), "id": record_id, "only": None if only is None else list(only), "below": below},
    )
    return [Version(*row) for row in await cursor.fetchall()]


async def backlinks(
    connection: Connection,
    caller: Caller,
    record_id: UUID,
    *,
    kind: str | None,
    relation: str | None,
    after: tuple[str, UUID] | None,
    limit: int,
) -> list[tuple[str, Row]]:
    """(relation, record) for each visible record that refers to this one, newest first, after the given place."""
    cursor = await connection.execute(
        f"SELECT link.relation, {_ROW}, document.brief, link.from_id FROM link JOIN record ON record.id = link.from_id"
        f" JOIN {_DOCUMENT} WHERE link.to_id = %(id)s AND record.status = 'published' AND {visible_to(caller)}"
        " AND (%(kind)s::text IS NULL OR record.kind = %(kind)s)"
        " AND (%(relation)s::text IS NULL OR link.relation = %(relation)s)"
        " AND (%(after)s::uuid IS NULL OR link.from_id < %(after)s"
        " OR (link.from_id = %(after)s AND link.relation > %(after_relation)s))"
        f" ORDER BY link.from_id DESC, link.relation LIMIT {limit}",
        {
            **parameters(caller),
            "id": record_id,
            "kind": kind,
            "relation": relation,
            "after": after and after[1],
            "after_relation": after and after[0],
        },
        binary=True,
    )
    return [(row[0], Row(*row[1:])) for row in await cursor.fetchall()]


async def kind_and_owner(connection: Connection, record_id: UUID) -> tuple[str, UUID] | None:
    """The kind and owner of a record whoever may see it, for the operator's command line; None when there is none."""
    cursor = await connection.execute("SELECT kind, organisation_id FROM record WHERE id = %s", [record_id])
    row = await cursor.fetchone()
    return None if row is None else (row[0], row[1])
