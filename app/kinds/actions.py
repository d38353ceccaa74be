"""Actions: what organisations do together about issues of an adopted list.

Body and rules only; visibility, versions, pages and the revision log come from `app.records`. Stages and the partners'
consent are in `app.deliberation.actions`.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field, StrictBool

from app.http.problem import Fault
from app.records.fields import Note, OrganisationRef, Part, Period, PeriodParts, ReducedDate, RefTo, Text
from app.records.kind import Body, Envelope, Kind, Status

PILOT_MONTHS = 12


class MilestoneStatus(StrEnum):
    """How far a milestone has come."""

    PLANNED = "planned"
    UNDER_WAY = "under-way"
    REACHED = "reached"
    MISSED = "missed"
    DROPPED = "dropped"


class Milestone(Part):
    """One thing to be reached on the way."""

    text: Note
    due_on: ReducedDate | None = None
    status: MilestoneStatus = MilestoneStatus.PLANNED


class ActionBody(Body):
    """What is to be done, about which issues, by whom, until when."""

    issues: list[Annotated[UUID, RefTo("issue")]] = Field(
        default_factory=list,
        max_length=50,
        description="Issues of an adopted list; the action is agreed only with at least one.",
    )
    issue_list: Annotated[UUID | None, RefTo("issue-list")] = Field(None, description="The adopted list.")
    purpose: Text | None = Field(None, description="What should be different afterwards.")
    period: Period | None = Field(None, description="From when to when. Needed to publish.")
    pilot: StrictBool = Field(False, description="True: a short-term pilot of at most 12 months.")
    milestones: list[Milestone] = Field(default_factory=list, max_length=50)
    partners: list[OrganisationRef] = Field(
        default_factory=list, max_length=50, description="Partner organisations; each accepts for itself."
    )
    products: list[Annotated[UUID, RefTo("resource")]] = Field(
        default_factory=list, max_length=50, description="Resources that came of it."
    )


def months(period: PeriodParts) -> int | None:
    """Calendar months a period touches; None while its end is open. A date without month stands for its whole year."""
    if period.end is None:
        return None
    first = int(period.start[:4]) * 12 + int(period.start[5:7] or 1)
    last = int(period.end[:4]) * 12 + int(period.end[5:7] or 12)
    # From the 15th to the 15th a year later touches thirteen months but lasts twelve.
    whole_days = len(period.start) == 10 and len(period.end) == 10
    return last - first + (0 if whole_days and period.end[8:] <= period.start[8:] else 1)


def pilot_is_short(action: ActionBody, envelope: Envelope) -> Iterator[Fault]:
    """A pilot has an end, at most twelve months from its start."""
    if action.pilot and envelope.status is Status.PUBLISHED and action.period is not None:
        length = months(action.period)
        if length is None or length > PILOT_MONTHS:
            yield Fault("/period", "pilot-too-long")


def no_partner_twice(action: ActionBody, envelope: Envelope) -> Iterator[Fault]:
    """A partner is named once, and the owner is no partner of itself."""
    seen: set[UUID] = {envelope.organisation_id}
    for index, partner in enumerate(action.partners):
        if partner in seen:
            yield Fault(f"/partners/{index}", "duplicate")
        seen.add(partner)


ACTIONS = Kind(
    name="action",
    plural="actions",
    body=ActionBody,
    description="What organisations do together about issues of an adopted list.",
    filters={"issue": "issues", "issue_list": "issue_list", "partner": "partners", "pilot": "pilot", "stage": "stage"},
    required=("period",),
    rules=(pilot_is_short, no_partner_twice),
    first_stage="proposed",
    immutable_stages=frozenset({"done", "stopped"}),
    settled={"agreed": frozenset({"issues", "partners"}), "running": frozenset({"issues", "partners"})},
    example={
        "title": "A common guide to security budgets",
        "language": "en",
        "summary": "Organisations of three regions write and test a guide to reading security budgets.",
        "topics": ["security-budget"],
        "purpose": "Organisations can ask for, read and compare the security budgets of their countries.",
        "period": {"start": "2027-02", "end": "2027-11"},
        "pilot": True,
        "milestones": [{"text": "First draft in three languages", "due_on": "2027-05", "status": "planned"}],
    },
)
