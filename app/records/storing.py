"""Storing: the rows that changes amount to, in as few statements as may be. Only the store decides what comes here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from psycopg import errors

from app.db.pool import Connection
from app.http.problem import Problem
from app.http.transact import forget as forget_answers
from app.identity.caller import Caller
from app.records import render
from app.records.change import Action, Change, targets
from app.records.kind import Kind, Status
from app.records.marking import narrower
from app.records.state import State, as_row, envelope
from app.records.words import words_of


@dataclass(frozen=True, slots=True)
class Move:
    """A change that goes through: the kind, what was asked, the states before and after."""

    kind: Kind
    change: Change
    before: State | None
    after: State
    refs_guarded: bool


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


def _revision_row(caller: Caller, move: Move) -> dict[str, Any]:
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


async def carry_out(connection: Connection, caller: Caller, moves: Sequence[Move]) -> None:
    """Writes what the moves amount to. Errors: 409 `external-id-taken`."""
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


async def _alter(connection: Connection, caller: Caller, moves: Sequence[Move]) -> None:
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


def _rows(caller: Caller, moves: Sequence[Move]) -> dict[str, Any]:
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


def _is_rewritten(move: Move) -> bool:
    """True when the body is another than before; verbs leave it as it is."""
    return move.before is None or move.before.body is not move.after.body


def _links(move: Move, *, organisations: bool) -> list[tuple[UUID, str, UUID]]:
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
