"""The state of a record: envelope and body as the store writes them and the renderer shows them."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from app.records.kind import SHARED_COLUMNS, Body, Kind, Status, Tlp
from app.records.marking import Marking


@dataclass(frozen=True, slots=True)
class State:
    """A record at one version. `body` is the JSON form of the kind's body model."""

    id: UUID
    kind: str
    organisation_id: UUID
    external_id: str | None
    status: Status
    stage: str | None
    marking: Marking
    version: int
    body: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    published_at: datetime | None
    quarantined_at: datetime | None = None
    erased_at: datetime | None = None
    checked: Body | None = field(default=None, compare=False, repr=False)
    """The validated body, where this state was just made from one; rules look at it."""

    def same_as(self, other: "State") -> bool:
        """True when nothing a reader or the owner could see differs."""
        return replace(self, version=other.version, updated_at=other.updated_at) == other


COLUMNS = (
    "id, kind, organisation_id, external_id, status, stage, tlp, audience, version, title, language, summary,"
    " countries, regions, topics, licence, content, created_at, updated_at, published_at, quarantined_at, erased_at"
)
"""What `from_row` needs, in this order."""


def from_row(row: tuple[Any, ...]) -> State:
    """The state in a row of `COLUMNS`."""
    (
        id_,
        kind,
        organisation_id,
        external_id,
        status,
        stage,
        tlp,
        audience,
        version,
        title,
        language,
        summary,
        countries,
        regions,
        topics,
        licence,
        content,
        created_at,
        updated_at,
        published_at,
        quarantined_at,
        erased_at,
    ) = row
    shared = (title, language, summary, countries, regions, topics, licence)
    return State(
        id=id_,
        kind=kind,
        organisation_id=organisation_id,
        external_id=external_id,
        status=Status(status),
        stage=stage,
        marking=Marking(Tlp(tlp), tuple(audience)),
        version=version,
        body={**dict(zip(SHARED_COLUMNS, shared, strict=True)), **content},
        created_at=created_at,
        updated_at=updated_at,
        published_at=published_at,
        quarantined_at=quarantined_at,
        erased_at=erased_at,
    )


@lru_cache(maxsize=1024)  # the records of a batch share one moment, which is written a dozen times for each
def instant(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC with `Z`, to the microsecond."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def starts(state: State) -> str | None:
    """Start of the body's period, when the kind has one."""
    period = state.body.get("period")
    return period.get("start") if isinstance(period, dict) else None


def as_row(state: State, *, refs_guarded: bool) -> dict[str, Any]:
    """The row of `record` for this state, as `jsonb_populate_recordset` reads it."""
    return {
        "id": state.id,
        "kind": state.kind,
        "organisation_id": state.organisation_id,
        "external_id": state.external_id,
        "status": state.status,
        "stage": state.stage,
        "tlp": state.marking.tlp,
        "audience": state.marking.audience,
        **{name: state.body[name] for name in SHARED_COLUMNS},
        "content": {name: value for name, value in state.body.items() if name not in SHARED_COLUMNS},
        "starts": starts(state),
        "version": state.version,
        "refs_guarded": refs_guarded,
        "quarantined_at": instant(state.quarantined_at),
        "erased_at": instant(state.erased_at),
        "created_at": instant(state.created_at),
        "updated_at": instant(state.updated_at),
        "published_at": instant(state.published_at),
    }


def envelope(state: State) -> dict[str, Any]:
    """What surrounds the body, as kept in `revision`."""
    return {
        "external_id": state.external_id,
        "status": state.status,
        "stage": state.stage,
        "tlp": state.marking.tlp,
        "audience": state.marking.audience,
        "created_at": instant(state.created_at),
        "updated_at": instant(state.updated_at),
        "published_at": instant(state.published_at),
        "quarantined_at": instant(state.quarantined_at),
    }


def from_revision(kind: Kind, record_id: UUID, owner: UUID, version: int, kept: dict[str, Any], body: Any) -> State:
    """The state a revision holds."""

    def moment(name: str) -> datetime | None:
        return None if kept.get(name) is None else datetime.fromisoformat(kept[name])

    created, updated = moment("created_at"), moment("updated_at")
    assert created is not None
    assert updated is not None
    return State(
        id=record_id,
        kind=kind.name,
        organisation_id=owner,
        external_id=kept.get("external_id"),
        status=Status(kept["status"]),
        stage=kept.get("stage"),
        marking=Marking(Tlp(kept["tlp"]), tuple(UUID(entry) for entry in kept["audience"])),
        version=version,
        body=body,
        created_at=created,
        updated_at=updated,
        published_at=moment("published_at"),
        quarantined_at=moment("quarantined_at"),
    )
