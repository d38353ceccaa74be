"""Findings: what a gathering or an inquiry brought to light. A need, an observation, a question asked.

Body and rules only; visibility, versions, pages and the revision log come from `app.records`.
"""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field, StrictInt

from app.kinds.vocabulary import ContextTag, InstitutionId, Level, Perspective
from app.records.fields import RefTo, Text
from app.records.kind import Body, Kind


class FindingType(StrEnum):
    """A need somebody has, an observation somebody made, or a question somebody asked."""

    NEED = "need"
    OBSERVATION = "observation"
    QUESTION = "question"


class FindingBody(Body):
    """One thing brought to light, with the events it comes from."""

    finding_type: FindingType | None = Field(None, description="Needed to publish.")
    statement: Text | None = Field(None, description="What was said or seen, in full.")
    events: list[Annotated[UUID, RefTo("event")]] = Field(
        default_factory=list, max_length=50, description="Events at which it came up."
    )
    strength: StrictInt | None = Field(
        None, ge=1, le=100_000, description="Number of organisations that said so, where it was counted."
    )
    institutions: list[InstitutionId] = Field(default_factory=list, max_length=20)
    context_tags: list[ContextTag] = Field(default_factory=list, max_length=6)
    perspective: Perspective | None = None
    level: Level | None = None


FINDINGS = Kind(
    name="finding",
    plural="findings",
    body=FindingBody,
    description="Needs, observations and questions that a gathering or an inquiry brought to light.",
    filters={
        "finding_type": "finding_type",
        "event": "events",
        "institution": "institutions",
        "context_tag": "context_tags",
        "perspective": "perspective",
        "level": "level",
    },
    required=("finding_type", "regions|countries"),
    example={
        "title": "Organisations lack access to security budgets",
        "language": "en",
        "summary": "Most organisations at the meeting could not obtain the budget of the armed forces of their "
        "country, although the law provides for it.",
        "regions": ["AFR"],
        "topics": ["security-budget", "access-to-information"],
        "finding_type": "need",
        "statement": "Nine of twelve organisations asked for the budget in writing and had no answer within a year. "
        "They ask for help with formulating requests and with appeals.",
        "strength": 9,
        "institutions": ["armed-forces", "ministry-of-defence"],
        "context_tags": ["transition"],
        "perspective": "population",
        "level": "national",
    },
)
