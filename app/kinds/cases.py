"""Cases: documented practice. What an organisation did, with which institution, and what came of it.

Body and rules only; visibility, versions, pages and the revision log come from `app.records`. Failures are full cases:
setbacks teach as much as successes.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field, StrictInt

from app.http.problem import Fault
from app.kinds.vocabulary import ContextTag, FunctionId, InstitutionId, Level, MethodId, Perspective
from app.records.fields import LanguageTag, Name, Note, OrganisationRef, Part, Period, ReducedDate, RefTo, Text
from app.records.kind import Body, Envelope, Kind, Status, Tlp

SUMMARY_WORDS = 250


class Outcome(StrEnum):
    """What came of it: nothing, a door opened, a debate, a promise, changed rules, changed practice, or a step back."""

    NONE = "none"
    ACCESS = "access"
    DEBATE = "debate"
    COMMITMENT = "commitment"
    POLICY_CHANGE = "policy-change"
    PRACTICE_CHANGE = "practice-change"
    SETBACK = "setback"


class ActivityType(StrEnum):
    """What the work mainly consisted of."""

    ADVOCACY = "advocacy"
    DIALOGUE = "dialogue"
    RESEARCH = "research"
    MONITORING = "monitoring"
    TRAINING = "training"
    SERVICE = "service"
    LITIGATION = "litigation"
    INFORMATION = "information"
    OTHER = "other"


class Relationship(StrEnum):
    """How far relations with an institution had come; `formalised` is an agreement in writing."""

    NONE = "none"
    CONTACT = "contact"
    REGULAR = "regular"
    FORMALISED = "formalised"
    JOINT_WORK = "joint-work"
    BROKEN = "broken"


class Contribution(StrEnum):
    """What part the work had in the outcome: one cause of several, the decisive one, or unclear."""

    ONE_OF_SEVERAL = "one-of-several"
    DECISIVE = "decisive"
    UNCLEAR = "unclear"


class MoneyBand(StrEnum):
    """What it cost in all, in US dollars; a band protects the budget and is enough to plan with."""

    NOTHING = "nothing"
    UNDER_1000 = "under-1000"
    FROM_1000_TO_10000 = "1000-to-10000"
    FROM_10000_TO_50000 = "10000-to-50000"
    FROM_50000_TO_250000 = "50000-to-250000"
    OVER_250000 = "over-250000"


class Partner(Part):
    """Who worked along. `name` is for organisations without an entry here; no person is named."""

    organisation: OrganisationRef | None = None
    name: Name | None = Field(None, description="Only where the organisation has no entry.")
    part_taken: Note | None = Field(None, description="What it did.")


class Step(Part):
    """One step of the strategy, and where relations stood after it."""

    text: Note
    taken_on: ReducedDate | None = None
    relationship: Relationship | None = None


class ResourcesUsed(Part):
    """What the work took."""

    people: StrictInt | None = Field(None, ge=0, le=100_000)
    money: MoneyBand | None = None
    note: Note | None = None


class CaseBody(Body):
    """A practice from the problem to the lessons."""

    period: Period | None = Field(None, description="When it took place. Needed to publish.")
    place: Name | None = Field(None, description="Province, district or town, where it may be told.")
    level: Level | None = None
    perspective: Perspective | None = None
    context_tags: list[ContextTag] = Field(default_factory=list, max_length=6)
    civic_space: Text | None = Field(None, description="The political conditions and the room civil society had.")
    institutions: list[InstitutionId] = Field(
        default_factory=list, max_length=20, description="Institutions the work was about. Needed to publish."
    )
    functions: list[FunctionId] = Field(
        default_factory=list, max_length=6, description="Points of Section H it serves."
    )
    activity_type: ActivityType | None = None
    organisation_role: Text | None = Field(None, description="What the owner organisation itself did.")
    partners: list[Partner] = Field(default_factory=list, max_length=50)
    working_languages: list[LanguageTag] = Field(default_factory=list, max_length=20)
    problem: Text | None = Field(None, description="What was to be solved.")
    entry_point: MethodId | None = Field(None, description="How contact began.")
    steps: list[Step] = Field(default_factory=list, max_length=50, description="What was done, in order.")
    relationship: Relationship | None = Field(None, description="Where relations stood at the end.")
    resources_used: ResourcesUsed | None = None
    outcome: Outcome | None = Field(None, description="Needed to publish.")
    outcome_on: ReducedDate | None = None
    outcome_description: Text | None = Field(None, description="What changed, and how one can tell.")
    contribution: Contribution | None = None
    contribution_statement: Text | None = Field(None, description="Why the change is put down to the work.")
    did_not_work: Text | None = Field(None, description="What was tried in vain.")
    risks_and_protection: Text | None = Field(
        None, description="What could have gone wrong and what was done about it."
    )
    lessons: list[Text] = Field(default_factory=list, max_length=20)
    transfer_conditions: list[Note] = Field(
        default_factory=list, max_length=20, description="What must be given elsewhere for it to work."
    )
    issues: list[Annotated[UUID, RefTo("issue")]] = Field(
        default_factory=list, max_length=50, description="Issues this case speaks to."
    )


def published_summary_is_short(case: CaseBody, envelope: Envelope) -> Iterator[Fault]:
    """A published case is read by citizens and officials alike, so its summary has at most 250 words."""
    if envelope.status is Status.PUBLISHED and len((case.summary or "").split()) > SUMMARY_WORDS:
        yield Fault("/summary", "summary-too-long")


def partner_is_someone(case: CaseBody, envelope: Envelope) -> Iterator[Fault]:
    """A partner is an organisation with an entry or one called by its name, not both and not neither."""
    for index, partner in enumerate(case.partners):
        if (partner.organisation is None) == (partner.name is None):
            yield Fault(f"/partners/{index}", "organisation-or-name")


def outcome_follows_start(case: CaseBody, envelope: Envelope) -> Iterator[Fault]:
    """What came of the work came after it began; dates are compared as far as both are known."""
    if case.period is not None and case.outcome_on is not None:
        known = min(len(case.period.start), len(case.outcome_on))
        if case.outcome_on[:known] < case.period.start[:known]:
            yield Fault("/outcome_on", "outcome-before-start")


CASES = Kind(
    name="case",
    plural="cases",
    body=CaseBody,
    description="Documented practice: what was done, with which institution, and what came of it.",
    filters={
        "institution": "institutions",
        "outcome": "outcome",
        "issue": "issues",
        "activity_type": "activity_type",
        "context_tag": "context_tags",
        "perspective": "perspective",
        "level": "level",
        "function": "functions",
        "entry_point": "entry_point",
    },
    required=("countries", "institutions", "period", "outcome"),
    default_tlp=Tlp.AMBER_STRICT,
    rules=(published_summary_is_short, partner_is_someone, outcome_follows_start),
    example={
        "title": "Monthly talks with the district police",
        "language": "en",
        "summary": "After a year of monthly talks, the police of one district publish what becomes of complaints.",
        "countries": ["LR"],
        "topics": ["community-policing", "complaints-mechanism"],
        "licence": "CC-BY-4.0",
        "period": {"start": "2025-01", "end": "2026-02"},
        "place": "Example District",
        "level": "local",
        "perspective": "both",
        "context_tags": ["post-conflict"],
        "civic_space": "Organisations may meet freely; criticism of the police is tolerated but noted.",
        "institutions": ["police", "complaints-mechanism"],
        "functions": ["h-dialogue", "h-advocacy"],
        "activity_type": "dialogue",
        "organisation_role": "Called the talks, kept the minutes and followed each promise.",
        "partners": [{"name": "Example CSO B", "part_taken": "Brought residents of two quarters."}],
        "working_languages": ["en"],
        "problem": "Residents did not complain because no complaint had ever been answered.",
        "entry_point": "dialogue-forum",
        "steps": [
            {"text": "Letter to the district commander.", "taken_on": "2025-01", "relationship": "contact"},
            {"text": "Monthly talks with minutes.", "taken_on": "2025-03", "relationship": "regular"},
            {"text": "Written agreement on a public register.", "taken_on": "2026-01", "relationship": "formalised"},
        ],
        "relationship": "formalised",
        "resources_used": {"people": 4, "money": "1000-to-10000", "note": "Rooms were lent by the town."},
        "outcome": "practice-change",
        "outcome_on": "2026-02",
        "outcome_description": "A register at the station shows the state of each complaint without names.",
        "contribution": "one-of-several",
        "contribution_statement": "A new commander and a radio series helped as well.",
        "did_not_work": "Petitions in the first months stayed unanswered.",
        "risks_and_protection": "Complainants were never named in the talks.",
        "lessons": ["Minutes that both sides sign make promises last."],
        "transfer_conditions": ["A commander with at least a year left in the post."],
    },
)
