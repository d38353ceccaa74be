"""Charters: what the community has agreed on for itself, one record for each version of each part.

Body and rules only; visibility, versions, pages and the revision log come from `app.records`. A steward's organisation
records that a version was adopted (`app.deliberation.charters`); from then on it never changes.
"""

from collections.abc import Iterator
from datetime import date
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field

from app.deliberation.charter_settings import CharterSettings
from app.http.problem import Fault
from app.records.fields import Name, RefTo, Text
from app.records.kind import Body, Envelope, Kind, Tlp


class CharterPart(StrEnum):
    """Which part of the charter: what for, how, and what first."""

    MISSION_VISION = "mission-vision"
    WORKING_MECHANISMS = "working-mechanisms"
    ACTIONS_PRIORITIES = "actions-priorities"


class CharterBody(Body):
    """One version of one part of the charter."""

    part: CharterPart | None = Field(None, description="Needed to publish.")
    text: Text | None = Field(None, description="The text in full. Needed to publish.")
    edition: Name | None = Field(None, description="How the community counts its versions, such as `2`.")
    settings: CharterSettings | None = Field(None, description="Machine-read settings, of working mechanisms only.")
    issue_lists: list[Annotated[UUID, RefTo("issue-list")]] = Field(
        default_factory=list, max_length=20, description="Adopted lists the priorities refer to."
    )
    adopted_on: date | None = Field(None, description="Day of the adoption; recorded by `adopt`.")
    minutes: Text | None = Field(None, description="Who adopted it, where and how; recorded by `adopt`.")
    recorded_at: AwareDatetime | None = Field(None, description="When the adoption was recorded; set by `adopt`.")


def adoption_is_recorded_by_its_verb(charter: CharterBody, envelope: Envelope) -> Iterator[Fault]:
    """A draft claims no adoption."""
    if envelope.stage == "draft":
        for name in ("adopted_on", "minutes", "recorded_at"):
            if getattr(charter, name) is not None:
                yield Fault(f"/{name}", "use-verb")


def settings_belong_to_working_mechanisms(charter: CharterBody, envelope: Envelope) -> Iterator[Fault]:
    """Votes and analysis read the settings of one part only, so the others have none."""
    if charter.settings is not None and charter.part is not CharterPart.WORKING_MECHANISMS:
        yield Fault("/settings", "working-mechanisms-only")


CHARTERS = Kind(
    name="charter",
    plural="charters",
    body=CharterBody,
    description="What the community has agreed on for itself: mission and vision, working mechanisms, priorities.",
    filters={"part": "part", "stage": "stage"},
    required=("part", "text"),
    default_tlp=Tlp.CLEAR,
    rules=(adoption_is_recorded_by_its_verb, settings_belong_to_working_mechanisms),
    first_stage="draft",
    immutable_stages=frozenset({"adopted"}),
    example={
        "title": "Working mechanisms",
        "language": "en",
        "summary": "How the community consults, votes and decides, with regions of equal weight.",
        "topics": ["civil-society-oversight"],
        "part": "working-mechanisms",
        "text": "Lists are consulted on for three weeks. Each region has the same weight in a vote.",
        "edition": "1",
        "settings": {"alpha": 0, "q": 2, "quorum_regions": 3, "consultation_days": 21},
    },
)
