"""Provenance: from an issue back to the findings and events it rests on, and on to lists and actions, by links."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from app import reference
from app.db.pool import Connection
from app.identity.caller import Caller
from app.records.marking import parameters, visible_to

ACTIVE = ("agreed", "running")
"""Stages in which an action is under way."""


@dataclass(frozen=True, slots=True)
class Stop:
    """A record on the trail."""

    id: UUID
    kind: str
    title: str
    organisation_id: UUID
    stage: str | None
    starts: str | None
    regions: list[str]
    content: dict[str, Any]
    via: UUID

    def as_json(self, public_url: str, plural: str, *names: str) -> dict[str, Any]:
        """The stop on the wire, with these fields of its content."""
        shown: dict[str, Any] = {"id": self.id, "url": f"{public_url}/v1/{plural}/{self.id}", "title": self.title}
        return shown | {name: self.content.get(name) for name in names}


async def linked(
    connection: Connection, caller: Caller, ids: list[UUID], relation: str, kind: str, *, back: bool = False
) -> list[Stop]:
    """Published records of `kind` that `ids` refer to by `relation` (that refer to them, with `back`), as far as the
    caller may read them; each once for each of `ids`, earliest first."""
    here, there = ("link.to_id", "link.from_id") if back else ("link.from_id", "link.to_id")
    cursor = await connection.execute(
        "SELECT record.id, record.kind, record.title, record.organisation_id, record.stage, record.starts,"
        f" record.regions, record.content, {here} FROM link JOIN record ON record.id = {there}"
        f" WHERE {here} = ANY (%(ids)s) AND link.relation = %(relation)s AND record.kind = %(kind)s"
        f" AND record.status = 'published' AND {visible_to(caller)}"
        " ORDER BY coalesce(record.starts, '~'), record.id",
        {**parameters(caller), "ids": ids, "relation": relation, "kind": kind},
    )
    return [Stop(*row) for row in await cursor.fetchall()]


async def consultations(connection: Connection, caller: Caller) -> int:
    """How many published consultations the caller may read."""
    cursor = await connection.execute(
        "SELECT count(*) FROM record WHERE record.kind = 'event' AND record.status = 'published'"
        f" AND record.content ->> 'event_type' = 'consultation' AND {visible_to(caller)}",
        parameters(caller),
    )
    row = await cursor.fetchone()
    return 0 if row is None else int(row[0])


async def acted_upon(connection: Connection, caller: Caller) -> set[str]:
    """Issues that an action under way names, and that an adopted list names too, both readable to the caller.

    An action is agreed on adopted issues only; one put into it afterwards is not taken up by that.
    """
    listing = visible_to(caller, of="listing")
    cursor = await connection.execute(
        "SELECT DISTINCT link.to_id::text FROM link JOIN record ON record.id = link.from_id"
        " WHERE link.relation = 'issues' AND record.kind = 'action' AND record.stage = ANY (%(active)s)"
        f" AND record.status = 'published' AND {visible_to(caller)} AND EXISTS (SELECT 1 FROM link AS item"
        " JOIN record AS listing ON listing.id = item.from_id WHERE item.to_id = link.to_id AND item.relation = 'items'"
        f" AND listing.kind = 'issue-list' AND listing.stage IN ('adopted', 'superseded') AND {listing})",
        {**parameters(caller), "active": list(ACTIVE)},
    )
    return {row[0] for row in await cursor.fetchall()}


async def trail(connection: Connection, caller: Caller, issue_id: UUID, public_url: str) -> dict[str, Any]:
    """Where an issue comes from and what became of it, for what the caller may read."""
    findings = await linked(connection, caller, [issue_id], "findings", "finding")
    events = await linked(connection, caller, [one.id for one in findings], "events", "event")
    lists = await linked(connection, caller, [issue_id], "items", "issue-list", back=True)
    actions = await linked(connection, caller, [issue_id], "issues", "action", back=True)
    cases = await linked(connection, caller, [issue_id], "issues", "case", back=True)
    held = await consultations(connection, caller)
    once = list({event.id: event for event in events}.values())
    raised_in = [event for event in once if event.content.get("event_type") == "consultation"]
    named = {region for finding in findings for region in finding.regions}
    regions = [region for region in reference.REGIONS if region in named]
    first = min((event.starts for event in once if event.starts), default=None)
    return {
        "issue": issue_id,
        "raised_in": len(raised_in),
        "consultations": held,
        "regions": regions,
        "first_on": first,
        "summary": _in_words(len(raised_in), held, regions, first),
        "events": [
            {
                **event.as_json(public_url, "events", "event_type", "period"),
                "findings": [found.via for found in events if found.id == event.id],
            }
            for event in once
        ],
        "findings": [
            {**one.as_json(public_url, "findings", "finding_type"), "regions": one.regions} for one in findings
        ],
        "cases": [one.as_json(public_url, "cases", "outcome") for one in cases],
        "issue_lists": [{**one.as_json(public_url, "issue-lists"), "stage": one.stage} for one in lists],
        "actions": [{**one.as_json(public_url, "actions"), "stage": one.stage} for one in actions],
    }


def _in_words(raised: int, held: int, regions: list[str], first: str | None) -> str:
    """`Raised in 6 of 6 consultations, by AFR and MENA, first in 2017-07.`"""
    if not raised and not regions and first is None:
        return f"Not yet raised in any of {held} consultations that you may read."
    parts = [f"Raised in {raised} of {held} consultations"]
    if regions:
        parts.append("by " + " and ".join(filter(None, (", ".join(regions[:-1]), regions[-1]))))
    if first is not None:
        parts.append(f"first {'on' if len(first) == 10 else 'in'} {first}")
    return ", ".join(parts) + "."
