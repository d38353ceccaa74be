"""The store: the one way to write a record.

`write` takes any number of changes, in the caller's transaction, and for each that changes something stores the
record, its documents, words, links and readers, and appends exactly one row to `revision`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from app.db.ids import new_id
from app.db.pool import Connection, ring_after_commit
from app.http.problem import Problem
from app.identity.caller import Caller
from app.records import references, storing
from app.records.change import STEWARD_ACTIONS, Action, Change, next_state
from app.records.kind import Status
from app.records.marking import OPEN_LABELS, parameters, tombstone_visible_to, visible_to
from app.records.state import COLUMNS, State, from_row
from app.records.storing import Move

CHANGES_CHANNEL = "minga_changes"
"""NOTIFY channel that wakes those who wait for changes; the message is empty."""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one change: the state now, the one before (None for a create), or the problem that refused it."""

    state: State | None
    before: State | None = None
    problem: Problem | None = None

    @property
    def changed(self) -> bool:
        """True when a revision was written."""
        return self.state is not None and self.state is not self.before


async def write(
    connection: Connection,
    caller: Caller,
    changes: Sequence[Change],
    *,
    keep_going: bool = False,
    dry_run: bool = False,
) -> list[Written]:
    """Carries out `changes` for `caller` and returns one `Written` for each, in order.

    A problem ends the call, unless `keep_going`: then the change that caused it is left out and reported. No record
    may occur twice in one call. With `dry_run` each change is checked by itself, over what is stored, and nothing is
    stored; then a record may occur again.

    **Errors:** 404 `not-found`; 403 `not-owner`; 409 `external-id-taken`, `owner-unlisted`, `illegal-transition`,
    `quarantined`; 410 `withdrawn`; 412 `stale-version`; 422 as the body deserves.
    """
    now, unlisted, found = await _present(connection, caller, changes)
    written: list[Written] = []
    moves: list[tuple[int, Change, State | None, State]] = []
    for change in changes:
        before = None
        try:
            before = _addressed(caller, change, found)
            if change.record_id is not None and before is None:
                raise Problem("not-found")
            assert caller.organisation_id is not None
            after = next_state(change, before, new_id=new_id(), owner=caller.organisation_id, now=now)
            if unlisted and after is not before and _is_open(after):
                raise Problem("owner-unlisted")
        except Problem as problem:
            if not keep_going:
                raise
            written.append(Written(None, before, problem))
            continue
        if after is not before:
            moves.append((len(written), change, before, after))
        written.append(Written(after, before))
    if not moves:
        return written
    guarded, refused = await references.examine(connection, caller, [(c.kind, b, a) for _, c, b, a in moves])
    if dry_run:
        for position in await _taken(connection, caller, [(before, after) for _, _, before, after in moves]):
            refused.setdefault(position, Problem("external-id-taken"))
    for position, (index, _, before, _) in enumerate(moves):
        if position in refused:
            if not keep_going:
                raise refused[position]
            written[index] = Written(None, before, refused[position])
    going = [
        Move(change.kind, change, before, after, guarded[position])
        for position, (_, change, before, after) in enumerate(moves)
        if position not in refused
    ]
    if going and not dry_run:
        await storing.carry_out(connection, caller, going)
        ring_after_commit(connection, CHANGES_CHANNEL)
    return written


def _is_open(state: State) -> bool:
    return state.status is Status.PUBLISHED and state.marking.tlp in OPEN_LABELS


async def _present(
    connection: Connection, caller: Caller, changes: Sequence[Change]
) -> tuple[datetime, bool, Mapping[Any, tuple[State, bool, bool]]]:
    """The database's time, whether the caller is unlisted, and the records the changes name, locked.

    The records are keyed by id and by (kind, external id): (state, visible to the caller, tombstone visible).
    """
    by_id = [change.record_id for change in changes if change.record_id is not None]
    by_external = [
        (change.kind.name, change.external_id)
        for change in changes
        if change.record_id is None and change.external_id is not None
    ]
    if by_external:
        # Two creates under one external_id must not pass each other between look-up and insert.
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('external_id ' || %s::text, 0))", [caller.organisation_id]
        )
    async with connection.pipeline():
        # The owner must not become unlisted between this look and the commit; the trigger `organisation_hides` takes
        # the same lock for itself alone.
        await connection.execute(
            "SELECT pg_advisory_xact_lock_shared(hashtextextended('listing ' || %s::text, 0))", [caller.organisation_id]
        )
        cursor = await connection.execute(
            "SELECT clock_timestamp(), coalesce((SELECT listing = 'unlisted' FROM organisation WHERE id = %s), false)",
            [caller.organisation_id],
        )
    row = await cursor.fetchone()
    assert row is not None
    found: dict[Any, tuple[State, bool, bool]] = {}
    visible, tombstone = visible_to(caller, own="true"), tombstone_visible_to(caller)
    select = f"SELECT {COLUMNS}, {visible}, {tombstone} FROM record WHERE "
    # What the caller may not know of is not locked either: waiting for it would tell.
    known = f"({visible} OR {tombstone}" + (" OR quarantined_at IS NOT NULL)" if caller.is_steward else ")")
    lock = f" AND {known} ORDER BY id FOR NO KEY UPDATE"
    rows: list[tuple[Any, ...]] = []
    if by_id:
        cursor = await connection.execute(
            f"{select} id = ANY (%(ids)s) {lock}", {**parameters(caller), "ids": sorted(by_id)}
        )
        rows += await cursor.fetchall()
    if by_external:
        cursor = await connection.execute(
            f"{select} organisation_id = %(me)s AND (kind, external_id) IN"
            f" (SELECT * FROM unnest(%(kinds)s::text[], %(external_ids)s::text[])) {lock}",
            {
                **parameters(caller),
                "kinds": [kind for kind, _ in by_external],
                "external_ids": [external_id for _, external_id in by_external],
            },
        )
        rows += await cursor.fetchall()
    for *columns, is_visible, has_tombstone in rows:
        state = from_row(tuple(columns))
        found[state.id] = (state, is_visible, has_tombstone)
        if state.organisation_id == caller.organisation_id and state.external_id is not None:
            found[state.kind, state.external_id] = (state, is_visible, has_tombstone)
    return row[0], row[1], found


def _addressed(caller: Caller, change: Change, found: Mapping[Any, tuple[State, bool, bool]]) -> State | None:
    """The record a change names, if the caller may do this to it; None for a create."""
    if change.record_id is None:
        entry = None if change.external_id is None else found.get((change.kind.name, change.external_id))
        return None if entry is None else entry[0]
    entry = found.get(change.record_id)
    if entry is None or entry[0].kind != change.kind.name:
        raise Problem("not-found")
    state, visible, tombstone = entry
    # A quarantined record is a draft, which a steward does not read; ending the quarantine shows none of it.
    released = change.action is Action.RELEASE and caller.is_steward and state.quarantined_at is not None
    if not visible and not released:
        raise Problem("withdrawn" if tombstone else "not-found")
    if change.action in STEWARD_ACTIONS:
        if not caller.is_steward:
            raise Problem("not-permitted")
    elif state.organisation_id != caller.organisation_id:
        raise Problem("not-owner")
    return state


async def _taken(connection: Connection, caller: Caller, moves: Sequence[tuple[State | None, State]]) -> list[int]:
    """Which moves take an external id that another record of the caller has; in earnest the database refuses them."""
    wanted = {
        position: (after.kind, after.external_id)
        for position, (before, after) in enumerate(moves)
        if after.external_id is not None and (before is None or before.external_id != after.external_id)
    }
    if not wanted:
        return []
    cursor = await connection.execute(
        f"SELECT kind, external_id FROM record WHERE organisation_id = %(me)s AND {visible_to(caller, own='true')}"
        " AND (kind, external_id) IN (SELECT * FROM unnest(%(kinds)s::text[], %(external_ids)s::text[]))",
        {
            **parameters(caller),
            "kinds": [kind for kind, _ in wanted.values()],
            "external_ids": [external_id for _, external_id in wanted.values()],
        },
    )
    held = set(await cursor.fetchall())
    return [position for position, name in wanted.items() if name in held]


async def put_translation(connection: Connection, record_id: UUID, language: str, body: Mapping[str, Any]) -> None:
    """Stores the texts of a record in another language; the same texts again change nothing."""
    await connection.execute(
        "INSERT INTO translation (record_id, language, version, body, updated_at) VALUES (%s, %s, 1, %s, now())"
        " ON CONFLICT (record_id, language) DO UPDATE SET version = translation.version + 1, body = excluded.body,"
        " updated_at = now() WHERE translation.body <> excluded.body",
        [record_id, language, orjson.dumps(body).decode()],
    )
