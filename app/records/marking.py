"""Marking: who may read a record. The one access rule of the service, in SQL.

`visible_to` is the rule as a predicate over any columns that hold a status, a label, an audience and an owner: a
record's, or a revision's before and after a change. `branches` is the same rule cut into parts that each walk one
index in the order of a list; a test runs the visibility matrix over both forms. Source: TLP 2.0 as profiled in
docs/guides/marking.md.
"""

from dataclasses import dataclass
from uuid import UUID

from app.http.problem import Fault, Problem
from app.identity.caller import Caller
from app.records.kind import Tlp

WIDTH = {Tlp.AMBER_STRICT: 0, Tlp.AMBER: 1, Tlp.GREEN: 2, Tlp.CLEAR: 3}
"""How wide a label opens; comparable between labels."""

OPEN_LABELS = frozenset({Tlp.CLEAR, Tlp.GREEN})
MAX_AUDIENCE = 200


@dataclass(frozen=True, slots=True)
class Marking:
    """A label and the organisations named with it."""

    tlp: Tlp
    audience: tuple[UUID, ...] = ()


def parameters(caller: Caller) -> dict[str, object]:
    """The values every statement with a visibility predicate binds."""
    return {"me": caller.organisation_id, "entities": list(caller.entities)}


def visible_to(
    caller: Caller,
    *,
    of: str = "record",
    owner: str | None = None,
    suffix: str = "",
    own: str = "{status} <> 'withdrawn'",
    others: str = "published",
) -> str:
    """SQL that is true of what the caller may read now; bind `parameters(caller)`.

    `of` is the row's alias, `suffix` the ending of its columns (`_before` in a revision), `owner` the owner's column,
    `own` what else must hold of one's own records, `others` the status in which those of others are judged.
    """
    status, tlp, audience = f"{of}.status{suffix}", f"{of}.tlp{suffix}", f"{of}.audience{suffix}"
    if not caller.is_member:
        return f"({status} = '{others}' AND {tlp} = 'clear')"
    owner = owner or f"{of}.organisation_id"
    return (
        f"(({owner} = %(me)s AND {own.format(status=status)})"
        f" OR ({status} = '{others}' AND ({tlp} IN ('clear', 'green')"
        f" OR ({tlp} = 'amber' AND {audience} && %(entities)s::uuid[])"
        f" OR ({tlp} = 'amber+strict' AND %(me)s = ANY ({audience})))))"
    )


def tombstone_visible_to(caller: Caller) -> str:
    """SQL that is true of withdrawn records whose going the caller may know: once published, and marked to be read.

    The owner sees the tombstones of its drafts too.
    """
    never = visible_to(caller, others="withdrawn", own="true")
    own = "record.organisation_id = %(me)s" if caller.is_member else "false"
    return f"(record.status = 'withdrawn' AND (record.published_at IS NOT NULL OR {own}) AND {never})"


@dataclass(frozen=True, slots=True)
class Branch:
    """One part of what a caller may read: a FROM clause and a WHERE clause over `record`, walked in list order."""

    source: str
    where: str


def branches(caller: Caller, statuses: frozenset[str] | None) -> tuple[Branch, ...]:
    """The access rule as parts, each ordered by one index on (kind, created_at, id).

    `statuses` narrows to these; None means what a list shows by default: published, and one's own drafts. The parts
    may overlap, so the reader merges them without doubles. Empty when nothing can match.
    """
    wanted = statuses if statuses is not None else frozenset({"draft", "published"})
    parts: list[Branch] = []
    if "published" in wanted:
        labels = "IN ('clear', 'green')" if caller.is_member else "= 'clear'"
        parts.append(Branch("record", f"record.status = 'published' AND record.tlp {labels}"))
    if caller.is_member:
        listed = ", ".join(f"'{status}'" for status in sorted(wanted))
        # An erased record has nothing left to list.
        present = " AND record.erased_at IS NULL" if "withdrawn" in wanted else ""
        parts.append(Branch("record", f"record.organisation_id = %(me)s AND record.status IN ({listed}){present}"))
        if "published" in wanted:
            parts.append(
                Branch(
                    "unnest(%(entities)s::uuid[]) AS entity(id)",
                    "record_reader.organisation_id = entity.id"
                    " AND (record_reader.through_network OR entity.id = %(me)s) AND record.status = 'published'",
                )
            )
    return tuple(parts)


def requested_marking(given: dict[str, object], current: Marking, *, pointer: str = "") -> Marking:
    """The marking a body asks for, over the one that holds.

    `tlp` and `audience` left out stay as they are; a label that takes no audience drops it.
    Errors: 422 `marking-not-supported`, `invalid-body`, `audience-not-applicable`.
    """
    tlp = current.tlp
    if "tlp" in given:
        label = given["tlp"]
        if isinstance(label, str) and label.lower() in {"red", "tlp:red"}:
            raise Problem("marking-not-supported", errors=[Fault(f"{pointer}/tlp", "marking-not-supported")])
        if not isinstance(label, str) or label not in set(Tlp):
            labels = f"One of {', '.join(Tlp)}, in lower case."
            raise Problem("invalid-body", errors=[Fault(f"{pointer}/tlp", "unknown-marking", labels)])
        tlp = Tlp(label)
    audience = current.audience
    if "audience" in given:
        audience = _audience(given["audience"], pointer)
        if audience and tlp in OPEN_LABELS:
            raise Problem("audience-not-applicable", errors=[Fault(f"{pointer}/audience", "audience-not-applicable")])
    return Marking(tlp, () if tlp in OPEN_LABELS else audience)


def _audience(value: object, pointer: str) -> tuple[UUID, ...]:
    if not isinstance(value, list) or len(value) > MAX_AUDIENCE:
        raise Problem("invalid-body", errors=[Fault(f"{pointer}/audience", "invalid-audience")])
    found = set()
    for index, entry in enumerate(value):
        try:
            found.add(UUID(entry))
        except (ValueError, TypeError, AttributeError):
            raise Problem("invalid-body", errors=[Fault(f"{pointer}/audience/{index}", "invalid-id")]) from None
    return tuple(sorted(found))


def narrower(after: Marking, before: Marking) -> bool:
    """True when somebody who could read under `before` may not under `after`."""
    if WIDTH[after.tlp] < WIDTH[before.tlp]:
        return True
    return after.tlp not in OPEN_LABELS and not set(before.audience) <= set(after.audience)


def may_refer(owner: UUID, marking: Marking, target_owner: UUID, target: Marking) -> bool:
    """True when every reader of a record of this owner and marking may read the published record it refers to."""
    if WIDTH[marking.tlp] > WIDTH[target.tlp]:
        return False
    if target.tlp in OPEN_LABELS:
        return True
    return {owner, *marking.audience} <= {target_owner, *target.audience}
