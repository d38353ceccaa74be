"""Reading records for deliberation: every statement here carries the access rule. Nothing is written.

Beside `records.read`, this module, `contributions` and `provenance` are the only ones of this room that name the record
tables.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from app.db.pool import Connection
from app.deliberation.charter_settings import DEFAULTS, CharterSettings
from app.http.problem import Problem
from app.identity.caller import ANONYMOUS, Caller
from app.records import read
from app.records.kind import Status
from app.records.marking import parameters, visible_to
from app.records.state import COLUMNS, State, from_row


@dataclass(frozen=True, slots=True)
class Round:
    """A round as stored."""

    id: UUID
    issue_list_id: UUID
    owner_id: UUID
    stage: str
    ballot_display: str
    status: str
    issues: list[UUID]
    settings: CharterSettings
    charter_id: UUID | None
    charter_version: int | None
    opened_at: datetime
    closed_at: datetime | None
    tlp: str


_ROUND = (
    "round.id, round.issue_list_id, record.organisation_id, round.stage, round.ballot_display, round.status,"
    " round.issues, round.settings, round.charter_id, round.charter_version, round.opened_at, round.closed_at,"
    " record.tlp FROM round JOIN record ON record.id = round.issue_list_id AND record.status = 'published'"
)


def _round(row: tuple[Any, ...]) -> Round:
    values = dict(zip(Round.__slots__, row, strict=True))
    return Round(**{**values, "settings": CharterSettings.model_validate(values["settings"])})


async def round_by_id(connection: Connection, caller: Caller, round_id: UUID, lock: str = "") -> Round:
    """The round, whose list the caller may read; `lock` is `FOR SHARE` or `FOR UPDATE`. Errors: 404 `not-found`."""
    cursor = await connection.execute(
        f"SELECT {_ROUND} WHERE round.id = %(id)s AND {visible_to(caller)} {lock + ' OF round' if lock else ''}",
        {**parameters(caller), "id": round_id},
    )
    row = await cursor.fetchone()
    if row is None:
        raise Problem("not-found")
    return _round(row)


async def rounds_of(connection: Connection, caller: Caller, issue_list_id: UUID) -> list[Round]:
    """The rounds of a list the caller may read, oldest first."""
    cursor = await connection.execute(
        f"SELECT {_ROUND} WHERE round.issue_list_id = %(id)s AND {visible_to(caller)} ORDER BY round.id",
        {**parameters(caller), "id": issue_list_id},
    )
    return [_round(row) for row in await cursor.fetchall()]


async def record_for(
    connection: Connection, caller: Caller, kind: str, record_id: UUID, *, own: bool = False, lock: bool = False
) -> State:
    """A record the caller may read, drafts of its own included. With `own`, it must be the caller's.

    Errors: 404 `not-found`, 410 `withdrawn`, 403 `not-owner`.
    """
    if lock:
        cursor = await connection.execute(
            f"SELECT {COLUMNS} FROM record WHERE id = %(id)s AND kind = %(kind)s AND {visible_to(caller)}"
            " FOR NO KEY UPDATE",
            {**parameters(caller), "id": record_id, "kind": kind},
        )
        row = await cursor.fetchone()
        state = None if row is None else from_row(row)
    else:
        state = await read.state(connection, caller, kind, record_id)
    if state is None:
        # A tombstone is not locked by the statement above, and is answered as elsewhere.
        gone = await read.state(connection, caller, kind, record_id) if lock else None
        raise Problem("not-found" if gone is None else "withdrawn")
    if state.status is Status.WITHDRAWN:
        raise Problem("withdrawn")
    if own and state.organisation_id != caller.organisation_id:
        raise Problem("not-owner")
    return state


async def titles(connection: Connection, caller: Caller, ids: Iterable[Any]) -> dict[str, str]:
    """Id → title of those of `ids` that the caller may read now."""
    cursor = await connection.execute(
        f"SELECT id::text, title FROM record WHERE id = ANY (%(ids)s::uuid[]) AND {visible_to(caller)}",
        {**parameters(caller), "ids": list(ids)},
    )
    return dict(await cursor.fetchall())


async def without_finding(connection: Connection, caller: Caller, issues: Iterable[str]) -> set[str]:
    """Those of `issues` that cite no published finding the caller may read."""
    wanted = list(issues)
    cursor = await connection.execute(
        "SELECT DISTINCT link.from_id::text FROM link JOIN record ON record.id = link.to_id"
        " WHERE link.from_id = ANY (%(ids)s::uuid[]) AND link.relation = 'findings' AND record.kind = 'finding'"
        f" AND record.status = 'published' AND {visible_to(caller)}",
        {**parameters(caller), "ids": wanted},
    )
    return set(wanted) - {row[0] for row in await cursor.fetchall()}


async def in_adopted_lists(connection: Connection, caller: Caller, issues: Iterable[str]) -> set[str]:
    """Those of `issues` that stand in an adopted list the caller may read."""
    cursor = await connection.execute(
        "SELECT DISTINCT link.to_id::text FROM link JOIN record ON record.id = link.from_id"
        " WHERE link.to_id = ANY (%(ids)s::uuid[]) AND link.relation = 'items' AND record.kind = 'issue-list'"
        f" AND record.stage = 'adopted' AND record.status = 'published' AND {visible_to(caller)}",
        {**parameters(caller), "ids": list(issues)},
    )
    return {row[0] for row in await cursor.fetchall()}


async def stage_since(connection: Connection, caller: Caller, record_id: UUID, stage: str) -> datetime | None:
    """When a record the caller may read first came to `stage`; None when it never did."""
    cursor = await connection.execute(
        "SELECT min(revision.at) FROM revision JOIN record ON record.id = revision.record_id"
        f" WHERE revision.record_id = %(id)s AND revision.envelope ->> 'stage' = %(stage)s AND {visible_to(caller)}",
        {**parameters(caller), "id": record_id, "stage": stage},
    )
    row = await cursor.fetchone()
    return None if row is None else row[0]


@dataclass(frozen=True, slots=True)
class InForce:
    """The settings that hold, and the adopted charter they come from; None for the defaults."""

    settings: CharterSettings
    charter_id: UUID | None = None
    version: int | None = None
    adopted_on: date | str | None = None

    def cited(self) -> dict[str, Any]:
        """How an answer says which settings it used."""
        return cited(self.charter_id, self.version)


def cited(charter_id: UUID | None, version: int | None) -> dict[str, Any]:
    """The members `charter` and `settings_source` of an answer."""
    if charter_id is None:
        return {"charter": None, "settings_source": "defaults"}
    return {"charter": {"id": charter_id, "version": version}, "settings_source": "charter"}


async def settings_in_force(connection: Connection, at: datetime | None = None) -> InForce:
    """The settings of the working mechanisms adopted last (until `at`); the defaults before the first.

    Only a charter everyone may read governs, so this is the same for every caller.
    """
    cursor = await connection.execute(
        "SELECT record.id, record.version, record.content ->> 'adopted_on', record.content -> 'settings' FROM record"
        " WHERE record.kind = 'charter' AND record.stage = 'adopted'"
        " AND record.content ->> 'part' = 'working-mechanisms'"
        " AND (record.content ->> 'recorded_at')::timestamptz <= coalesce(%(at)s::timestamptz, now())"
        f" AND {visible_to(ANONYMOUS)} ORDER BY (record.content ->> 'recorded_at')::timestamptz DESC, record.id DESC"
        " LIMIT 1",
        {"at": at},
    )
    row = await cursor.fetchone()
    if row is None:
        return InForce(DEFAULTS)
    return InForce(CharterSettings.model_validate(row[3] or {}), row[0], row[1], row[2])
