"""The store: the one way to write a record.

`write` takes any number of changes, in the caller's transaction, and for each that changes something stores the
record, its documents, words, links and readers, and appends exactly one row to `revision`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from psycopg import errors

from app.db.ids import new_id
from app.db.pool import Connection, ring_after_commit
from app.http.problem import Problem
from app.http.transact import forget as forget_answers
from app.identity.caller import Caller
from app.records import references, render
from app.records.change import STEWARD_ACTIONS, Action, Change, next_state, targets
from app.records.kind import Kind, Status
from app.records.marking import OPEN_LABELS, narrower, parameters, tombstone_visible_to, visible_to
from app.records.state import COLUMNS, State, as_row, envelope, from_row
from app.records.words import words_of

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


@dataclass(frozen=True, slots=True)
class _Move:
    """A change that goes through: the kind, what was asked, the states before and after."""

    kind: Kind
    change: Change
    before: State | None
    after: State
    refs_guarded: bool


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
    if not dry_run:
        await _store(
            connection,
            caller,
            [
                _Move(change.kind, change, before, after, guarded[position])
                for position, (_, change, before, after) in enumerate(moves)
                if position not in refused
            ],
        )
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


_RECORD_FIELDS = (
    "kind, organisation_id, external_id, status, stage, tlp, audience, language, title, summary, countries, regions,"
    " topics, licence, content, starts, version, refs_guarded, quarantined_at, erased_at, created_at, updated_at,"
    " published_at"
)

_INSERT_RECORDS = f"""
INSERT INTO record (id, {_RECORD_FIELDS})
SELECT id, {_RECORD_FIELDS} FROM jsonb_populate_recordset(NULL::public.record, %(records)s)
"""
_UPDATE_RECORDS = f"""
UPDATE record SET ({_RECORD_FIELDS}) = ({", ".join("new." + name.strip() for name in _RECORD_FIELDS.split(","))})
FROM jsonb_populate_recordset(NULL::public.record, %(records)s) AS new WHERE record.id = new.id
"""
_WITH_AROUND = """
documents AS (
    INSERT INTO document (record_id, language, brief, full_view, render_version)
    SELECT *, %(render_version)s
    FROM unnest(%(shown)s::uuid[], %(languages)s::text[], %(briefs)b::bytea[], %(fulls)b::bytea[])
    ON CONFLICT (record_id, language) DO UPDATE
    SET brief = excluded.brief, full_view = excluded.full_view, render_version = excluded.render_version),
searched AS (
    INSERT INTO search_text (record_id, language, words)
    SELECT id, language, array_to_tsvector(string_to_array(words, ' '))
    FROM unnest(%(worded)s::uuid[], %(worded_languages)s::text[], %(words)b::text[]) AS t (id, language, words)
    ON CONFLICT (record_id, language) DO UPDATE SET words = excluded.words),
linked AS (
    INSERT INTO link (from_id, relation, to_id)
    SELECT * FROM unnest(%(linking)s::uuid[], %(relations)s::text[], %(linked)s::uuid[]) ON CONFLICT DO NOTHING),
named AS (
    INSERT INTO organisation_link (from_id, relation, organisation_id)
    SELECT * FROM unnest(%(naming)s::uuid[], %(roles)s::text[], %(named)s::uuid[]) ON CONFLICT DO NOTHING),
opened AS (
    INSERT INTO record_reader (organisation_id, record_id, kind, created_at, through_network)
    SELECT * FROM unnest(
        %(readers)s::uuid[], %(read)s::uuid[], %(kinds)s::text[], %(dates)s::timestamptz[], %(networks)s::bool[]))
"""
_INSERT_REVISIONS = """
INSERT INTO revision (record_id, kind, version, action, organisation_id, actor_organisation_id, actor_credential_id,
    status_before, tlp_before, audience_before, status, tlp, audience, envelope, body, at)
SELECT record_id, kind, version, action, organisation_id, actor_organisation_id, actor_credential_id,
    status_before, tlp_before, audience_before, status, tlp, audience, envelope, body, at
FROM jsonb_populate_recordset(NULL::revision, %(revisions)s)
"""
# A record, and everything that stands around it, in one statement: four in a pipeline took half as much time again.
_CREATE = f"WITH stored AS ({_INSERT_RECORDS}), {_WITH_AROUND} {_INSERT_REVISIONS}"
_ADD_AROUND = f"WITH {_WITH_AROUND} {_INSERT_REVISIONS}"
_CLEAR_AROUND = (
    "DELETE FROM record_reader WHERE record_id = ANY (%(changed)s)",
    "DELETE FROM link WHERE from_id = ANY (%(rewritten)s)",
    "DELETE FROM organisation_link WHERE from_id = ANY (%(rewritten)s)",
    # A changed original language leaves a document behind; its row goes before the new one comes.
    "DELETE FROM document USING unnest(%(rewritten)s::uuid[], %(rewritten_languages)s::text[]) AS kept (id, language)"
    " WHERE record_id = kept.id AND document.language <> kept.language",
    "DELETE FROM search_text"
    " USING unnest(%(rewritten)s::uuid[], %(rewritten_languages)s::text[]) AS kept (id, language)"
    " WHERE record_id = kept.id AND search_text.language <> kept.language",
)


def _json(rows: Iterable[Mapping[str, Any]]) -> str:
    return orjson.dumps(list(rows)).decode()


def _revision_row(caller: Caller, move: _Move) -> dict[str, Any]:
    before, after = move.before, move.after
    return {
        "record_id": after.id,
        "kind": after.kind,
        "version": after.version,
        "action": move.change.action if before is not None else Action.CREATE,
        "organisation_id": after.organisation_id,
        "actor_organisation_id": caller.organisation_id,
        "actor_credential_id": caller.credential_id,
        "status_before": before and before.status,
        "tlp_before": before and before.marking.tlp,
        "audience_before": before and before.marking.audience,
        "status": after.status,
        "tlp": after.marking.tlp,
        "audience": after.marking.audience,
        "envelope": envelope(after),
        "body": after.body,
        "at": envelope(after)["updated_at"],
    }


async def _store(connection: Connection, caller: Caller, moves: Sequence[_Move]) -> None:
    """Writes what the moves amount to."""
    created = [move for move in moves if move.before is None]
    altered = [move for move in moves if move.before is not None]
    try:
        if created:
            await connection.execute(_CREATE, _rows(caller, created))
        if altered:
            await _alter(connection, caller, altered)
    except errors.UniqueViolation as error:
        if error.diag.constraint_name == "record_external_id":
            raise Problem("external-id-taken") from None
        raise
    if moves:
        ring_after_commit(connection, CHANGES_CHANNEL)


async def _alter(connection: Connection, caller: Caller, moves: Sequence[_Move]) -> None:
    rewritten = [move.after for move in moves if _is_rewritten(move)]
    hiding = [move.after.id for move in moves if move.before is not None and _hides(move.before, move.after)]
    erased = [move.after.id for move in moves if move.after.erased_at is not None]
    values = {
        **_rows(caller, moves),
        "changed": [move.after.id for move in moves],
        "rewritten": [state.id for state in rewritten],
        "rewritten_languages": [state.body["language"] for state in rewritten],
    }
    async with connection.pipeline():
        await connection.execute(_UPDATE_RECORDS, values)
        for statement in _CLEAR_AROUND if rewritten else _CLEAR_AROUND[:1]:
            await connection.execute(statement, values)
        await connection.execute(_ADD_AROUND, values)
        if hiding:
            # Whoever refers to a record that fewer may read is parsed again when read.
            await connection.execute(
                "UPDATE record SET refs_guarded = true WHERE NOT refs_guarded"
                " AND id IN (SELECT from_id FROM link WHERE to_id = ANY (%s))",
                [hiding],
            )
        if erased:
            await _forget(connection, erased)


def _rows(caller: Caller, moves: Sequence[_Move]) -> dict[str, Any]:
    """What `_CREATE` and `_ADD_AROUND` bind: rows as JSON, or as one list for each column."""
    shown = [move for move in moves if move.after.erased_at is None]
    worded = [move for move in shown if _is_rewritten(move)]
    rewritten = [move for move in moves if _is_rewritten(move)]
    columns: dict[str, Any] = {
        "records": _json(as_row(move.after, refs_guarded=move.refs_guarded) for move in moves),
        "revisions": _json(_revision_row(caller, move) for move in moves),
        "render_version": render.RENDER_VERSION,
        "shown": [move.after.id for move in shown],
        "languages": [move.after.body["language"] for move in shown],
        "briefs": [render.brief(move.kind, move.after) for move in shown],
        "fulls": [render.full(move.after) for move in shown],
        "worded": [move.after.id for move in worded],
        "worded_languages": [move.after.body["language"] for move in worded],
        "words": [" ".join(words_of(move.kind, move.after.body)) for move in worded],
    }
    for names, rows in (
        (("linking", "relations", "linked"), [row for move in rewritten for row in _links(move, organisations=False)]),
        (("naming", "roles", "named"), [row for move in rewritten for row in _links(move, organisations=True)]),
        (("readers", "read", "kinds", "dates", "networks"), [row for move in moves for row in _readers(move.after)]),
    ):
        columns |= zip(names, map(list, zip(*rows, strict=True)) if rows else ([] for _ in names), strict=True)
    return columns


def _is_rewritten(move: _Move) -> bool:
    """True when the body is another than before; verbs leave it as it is."""
    return move.before is None or move.before.body is not move.after.body


def _links(move: _Move, *, organisations: bool) -> list[tuple[UUID, str, UUID]]:
    found = targets(move.kind, move.after.body, organisations=organisations)
    return [(move.after.id, relation, target) for relation, _, target in found]


def _readers(state: State) -> Iterable[tuple[UUID, UUID, str, datetime, bool]]:
    if state.status is Status.PUBLISHED:
        through_network = state.marking.tlp == "amber"
        for reader in state.marking.audience:
            yield reader, state.id, state.kind, state.created_at, through_network


def _hides(before: State, after: State) -> bool:
    return before.status is Status.PUBLISHED and (
        after.status is not Status.PUBLISHED or narrower(after.marking, before.marking)
    )


async def _forget(connection: Connection, record_ids: list[UUID]) -> None:
    """Erases content wherever the record machinery keeps it; id, kind and times stay."""
    for statement in (
        "DELETE FROM document WHERE record_id = ANY (%s)",
        "DELETE FROM search_text WHERE record_id = ANY (%s)",
        "DELETE FROM translation WHERE record_id = ANY (%s)",
        "DELETE FROM link WHERE from_id = ANY (%s)",
        "DELETE FROM organisation_link WHERE from_id = ANY (%s)",
        "UPDATE revision SET body = '{}', envelope = envelope - 'external_id' || '{\"erased\": true}'"
        " WHERE record_id = ANY (%s)",
    ):
        await connection.execute(statement, [record_ids])
    await forget_answers(connection, record_ids)


async def put_translation(connection: Connection, record_id: UUID, language: str, body: Mapping[str, Any]) -> None:
    """Stores the texts of a record in another language; the same texts again change nothing."""
    await connection.execute(
        "INSERT INTO translation (record_id, language, version, body, updated_at) VALUES (%s, %s, 1, %s, now())"
        " ON CONFLICT (record_id, language) DO UPDATE SET version = translation.version + 1, body = excluded.body,"
        " updated_at = now() WHERE translation.body <> excluded.body",
        [record_id, language, orjson.dumps(body).decode()],
    )
