"""References between records: what may be referred to, and which readers must not see every reference.

The rule (docs/guides/marking.md, "Referring to other records"): the writer can read the target; the label is not wider
than the target's; an amber target is referred to only by records whose owner and audience are named in it. A draft is
checked for the writer alone, and again when it is published.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from app.db.pool import Connection
from app.db.readers import Reads
from app.http.problem import Fault, Problem
from app.identity.caller import Caller
from app.identity.organisations import visible_organisations
from app.records.change import targets
from app.records.kind import Kind, Status, Tlp
from app.records.marking import OPEN_LABELS, WIDTH, Marking, may_refer, narrower, parameters, visible_to
from app.records.state import State


@dataclass(frozen=True, slots=True)
class _Target:
    kind: str
    owner: UUID
    status: Status
    marking: Marking


async def examine(
    connection: Connection, caller: Caller, moves: Sequence[tuple[Kind, State | None, State]]
) -> tuple[list[bool], dict[int, Problem]]:
    """For each (kind, before, after): must its references be guarded; and the problems, by position.

    Targets are locked until the transaction ends, so that none narrows between this check and the commit.
    """
    record_ids: set[UUID] = set()
    organisation_ids: set[UUID] = set()
    for kind, _, after in moves:
        record_ids.update(target for _, _, target in targets(kind, after.body))
        organisation_ids.update(target for _, _, target in targets(kind, after.body, organisations=True))
        organisation_ids.update(after.marking.audience)
    records = await _records(connection, caller, record_ids) if record_ids else {}
    organisations = await _organisations(connection, caller, organisation_ids) if organisation_ids else {}
    guarded: list[bool] = []
    refused: dict[int, Problem] = {}
    for position, (kind, before, after) in enumerate(moves):
        problem = _judge(kind, before, after, records, organisations)
        if problem is not None:
            refused[position] = problem
        guarded.append(_needs_guard(kind, after, records, organisations))
    return guarded, refused


async def _records(connection: Connection, caller: Caller, ids: Iterable[UUID]) -> dict[UUID, _Target]:
    cursor = await connection.execute(
        f"SELECT id, kind, organisation_id, status, tlp, audience FROM record"
        f" WHERE id = ANY (%(ids)s) AND {visible_to(caller)} ORDER BY id FOR SHARE",
        {**parameters(caller), "ids": list(ids)},
    )
    return {
        id_: _Target(kind, owner, Status(status), Marking(Tlp(tlp), tuple(audience)))
        for id_, kind, owner, status, tlp, audience in await cursor.fetchall()
    }


async def _organisations(connection: Connection, caller: Caller, ids: Iterable[UUID]) -> dict[UUID, bool]:
    """Organisations the caller may see → whether everyone may; locked, so that none draws back before the commit."""
    predicate, values = visible_organisations(caller)
    cursor = await connection.execute(
        f"SELECT id, listing = 'public' OR status = 'not-claimed' FROM organisation"
        f" WHERE id = ANY (%(ids)s) AND status <> 'left' AND {predicate} ORDER BY id FOR SHARE OF organisation",
        {**values, "ids": list(ids)},
    )
    return dict(await cursor.fetchall())


def _judge(
    kind: Kind,
    before: State | None,
    after: State,
    records: dict[UUID, _Target],
    organisations: dict[UUID, bool],
) -> Problem | None:
    if after.status is Status.WITHDRAWN:
        return None
    known_audience = set() if before is None else set(before.marking.audience)
    strangers = [
        Fault(f"/audience/{index}", "audience-not-found")
        for index, entry in enumerate(after.marking.audience)
        if entry not in organisations and entry not in known_audience
    ]
    if strangers:
        return Problem("audience-not-found", errors=strangers)
    widened = before is None or _widened(before, after)
    kept = set() if before is None else {target for _, _, target in targets(kind, before.body)}
    partners = set() if before is None else {target for _, _, target in targets(kind, before.body, organisations=True)}
    wrong = [
        Fault(pointer, "reference-not-readable")
        for path in kind.refs
        for pointer, found in path.find(after.body)
        if (widened or UUID(found) not in kept) and not _allowed(after, records.get(UUID(found)), path.kind)
    ]
    wrong += [
        Fault(pointer, "reference-not-readable")
        for _, pointer, found in targets(kind, after.body, organisations=True)
        if found not in organisations and found not in partners
    ]
    return Problem("reference-not-readable", errors=wrong) if wrong else None


def _allowed(after: State, target: _Target | None, kind: str) -> bool:
    if target is None or (target.kind != kind and kind != "record"):
        return False
    if after.status is Status.DRAFT:
        return True
    return target.status is Status.PUBLISHED and may_refer(
        after.organisation_id, after.marking, target.owner, target.marking
    )


def _widened(before: State, after: State) -> bool:
    """True when somebody may read the record now who could not before."""
    if after.status is Status.PUBLISHED and before.status is not Status.PUBLISHED:
        return True
    if after.status is not Status.PUBLISHED:
        return False
    return narrower(before.marking, after.marking) or WIDTH[after.marking.tlp] > WIDTH[before.marking.tlp]


def _needs_guard(kind: Kind, after: State, records: dict[UUID, _Target], organisations: dict[UUID, bool]) -> bool:
    for _, _, found in targets(kind, after.body):
        target = records.get(found)
        if (
            target is None
            or after.status is not Status.PUBLISHED
            or target.status is not Status.PUBLISHED
            or target.marking.tlp not in OPEN_LABELS
            or WIDTH[target.marking.tlp] < WIDTH[after.marking.tlp]
        ):
            return True
    return any(not organisations.get(found, False) for _, _, found in targets(kind, after.body, organisations=True))


async def visible_ids(connection: Reads, caller: Caller, ids: Iterable[Any]) -> frozenset[str]:
    """Those of `ids` (as text) that are records the caller may read now."""
    cursor = await connection.execute(
        f"SELECT id::text FROM record WHERE id = ANY (%(ids)s::uuid[]) AND {visible_to(caller)}",
        {**parameters(caller), "ids": list(ids)},
    )
    return frozenset(row[0] for row in await cursor.fetchall())


async def visible_organisation_ids(connection: Reads, caller: Caller, ids: Iterable[Any]) -> frozenset[str]:
    """Those of `ids` (as text) that are organisations the caller may see now."""
    predicate, values = visible_organisations(caller)
    cursor = await connection.execute(
        f"SELECT id::text FROM organisation WHERE id = ANY (%(ids)s::uuid[]) AND {predicate}",
        {**values, "ids": list(ids)},
    )
    return frozenset(row[0] for row in await cursor.fetchall())
