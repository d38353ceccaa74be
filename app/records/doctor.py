"""Whether what is stored is sound, and bringing stored documents up to date when the rendering has changed."""

from collections.abc import AsyncIterator, Iterable
from uuid import UUID

import orjson

from app.db.pool import Connection, Database
from app.http.problem import Problem
from app.records import render
from app.records.change import checked_body, targets
from app.records.kind import Kind, Status
from app.records.state import COLUMNS, State, from_row

BATCH = 500


async def _batches(connection: Connection, where: str = "true") -> AsyncIterator[list[State]]:
    """Every record that is not erased, in batches by id; each batch is one short statement."""
    after = UUID(int=0)
    while True:
        cursor = await connection.execute(
            f"SELECT {COLUMNS} FROM record WHERE id > %s AND erased_at IS NULL AND {where} ORDER BY id LIMIT {BATCH}",
            [after],
        )
        found = [from_row(row) for row in await cursor.fetchall()]
        if not found:
            return
        yield found
        after = found[-1].id


async def examine(connection: Connection, kinds: Iterable[Kind]) -> AsyncIterator[dict[str, str]]:
    """What is wrong with stored records: `{"record", "kind", "detail"}`, ids and codes only, never content.

    Each body is validated against today's schema, each document compared with a fresh rendering, each set of links
    with the body's references, the readers with the marking, and the newest revision with the record. Run it in one
    snapshot (repeatable read), or a write between two statements looks like a fault.
    """
    named = {kind.name: kind for kind in kinds}
    async for batch in _batches(connection):
        ids = [state.id for state in batch]
        cursor = await connection.execute(
            "SELECT document.record_id, brief, full_view FROM document JOIN record ON record.id = document.record_id"
            " AND document.language = record.language WHERE record_id = ANY (%s)",
            [ids],
        )
        documents = {id_: (bytes(brief), bytes(full)) for id_, brief, full in await cursor.fetchall()}
        cursor = await connection.execute("SELECT from_id, relation, to_id FROM link WHERE from_id = ANY (%s)", [ids])
        links: dict[UUID, set[tuple[str, UUID]]] = {}
        for from_id, relation, to_id in await cursor.fetchall():
            links.setdefault(from_id, set()).add((relation, to_id))
        cursor = await connection.execute(
            "SELECT record_id, organisation_id FROM record_reader WHERE record_id = ANY (%s)", [ids]
        )
        readers: dict[UUID, set[UUID]] = {}
        for record_id, organisation_id in await cursor.fetchall():
            readers.setdefault(record_id, set()).add(organisation_id)
        cursor = await connection.execute(
            "SELECT record_id, max(version) FROM revision WHERE record_id = ANY (%s) GROUP BY record_id", [ids]
        )
        newest: dict[UUID, int] = dict(await cursor.fetchall())
        for state in batch:
            for detail in _faults(
                state, named.get(state.kind), documents.get(state.id), links.get(state.id, set()), newest.get(state.id)
            ):
                yield {"record": str(state.id), "kind": state.kind, "detail": detail}
            named_readers = set(state.marking.audience) if state.status is Status.PUBLISHED else set()
            if readers.get(state.id, set()) != named_readers:
                yield {"record": str(state.id), "kind": state.kind, "detail": "readers-differ"}


def _faults(
    state: State,
    kind: Kind | None,
    documents: tuple[bytes, bytes] | None,
    links: set[tuple[str, UUID]],
    newest: int | None,
) -> list[str]:
    if kind is None:
        return ["unknown-kind"]
    found = []
    try:
        if checked_body(kind, state.body) != state.body:
            found.append("body-not-normal")
    except Problem as problem:
        found += [f"invalid-body {fault.pointer} {fault.code}" for fault in problem.errors]
    if state.status is not Status.WITHDRAWN or documents is not None:
        if documents is None:
            found.append("no-document")
        elif [orjson.loads(stored) for stored in documents] != [
            # Compared as values: JSONB keeps no order of members, so a body read back renders in another order.
            orjson.loads(fresh)
            for fresh in (render.brief(kind, state), render.full(state))
        ]:
            found.append("document-differs")
    if links != {(relation, target) for relation, _, target in targets(kind, state.body)}:
        found.append("links-differ")
    if newest != state.version:
        found.append("revision-missing")
    return found


async def render_stale(database: Database, kinds: Iterable[Kind]) -> int:
    """Renders again, in short transactions, what an older rendering made; the number of records. No revisions.

    A process that still runs the older release may write older documents meanwhile; the next start renders those.
    """
    named = {kind.name: kind for kind in kinds}
    rendered = 0
    while True:
        async with database.transaction() as connection:
            cursor = await connection.execute(
                f"SELECT {COLUMNS} FROM record WHERE id IN (SELECT record_id FROM document WHERE render_version < %s"
                f" LIMIT {BATCH}) ORDER BY id FOR NO KEY UPDATE",
                [render.RENDER_VERSION],
            )
            states = [from_row(row) for row in await cursor.fetchall()]
            if not states:
                return rendered
            for state in states:
                await connection.execute(
                    "UPDATE document SET brief = %s, full_view = %s, render_version = %s"
                    " WHERE record_id = %s AND language = %s",
                    [
                        render.brief(named[state.kind], state),
                        render.full(state),
                        render.RENDER_VERSION,
                        state.id,
                        state.body["language"],
                    ],
                )
        rendered += len(states)
