"""What must hold, written down once more in plain Python: the reference the service is compared with.

Nothing here imports the service's own rule. Source: TLP 2.0 as profiled in docs/guides/marking.md.
"""

from collections.abc import Set
from dataclasses import dataclass, field
from uuid import UUID

OPEN, GONE, HIDDEN = "open", "gone", "hidden"


@dataclass(frozen=True, slots=True)
class Who:
    """A principal: its organisation (None: no token), the networks it is an active member of, whether it is welcome."""

    organisation: UUID | None = None
    networks: Set[UUID] = field(default_factory=frozenset)
    welcome: bool = True


@dataclass(frozen=True, slots=True)
class Marked:
    """All of a record that decides who may read it. `status` also tells `quarantined` and `erased` apart."""

    owner: UUID
    tlp: str
    audience: Set[UUID]
    status: str
    was_published: bool


def access(who: Who, record: Marked) -> str:
    """`open` (read it), `gone` (know that it was withdrawn) or `hidden` (as if it had never been)."""
    if not who.welcome:
        return HIDDEN
    if who.organisation == record.owner:
        return GONE if record.status in ("withdrawn", "erased") else OPEN
    may_read = record.tlp == "clear" or (
        who.organisation is not None
        and (
            record.tlp == "green"
            or who.organisation in record.audience
            or (record.tlp == "amber" and bool(record.audience & who.networks))
        )
    )
    if not may_read or record.status in ("draft", "quarantined"):
        return HIDDEN
    if record.status == "published":
        return OPEN
    return GONE if record.was_published else HIDDEN


def organisation_exists(who: Who, organisation: UUID, listing: str, *, claimed: bool = True) -> bool:
    """True when this principal may know of an organisation; stewards and the two sides of a membership aside."""
    if not claimed or listing == "public":
        return True
    return who.organisation is not None and (listing == "members" or who.organisation == organisation)
