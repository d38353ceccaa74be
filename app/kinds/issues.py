"""Issues: concerns that organisations share and want to change. They stand on findings and are gathered in lists.

Body and rules only; visibility, versions, pages and the revision log come from `app.records`.
"""

from collections.abc import Iterator
from typing import Annotated
from uuid import UUID

from pydantic import Field, StrictBool

from app.http.problem import Fault
from app.kinds.vocabulary import ContextTag, InstitutionId, Level
from app.records.fields import CountryCode, Note, Part, RefTo, RegionCode, Text
from app.records.kind import Body, Envelope, Kind


class Context(Part):
    """Where an issue applies, or where it does not, and why."""

    applies: StrictBool = Field(True, description="False: a context in which this is no issue.")
    regions: list[RegionCode] = Field(default_factory=list, max_length=10)
    countries: list[CountryCode] = Field(default_factory=list, max_length=100)
    note: Note | None = Field(None, description="What makes the difference there.")


class IssueBody(Body):
    """A shared concern: what it is, where it applies, whom it addresses, what should change."""

    description: Text | None = Field(None, description="The concern in full.")
    contexts: list[Context] = Field(default_factory=list, max_length=50, description="Where it applies or does not.")
    context_tags: list[ContextTag] = Field(default_factory=list, max_length=6)
    targets: list[InstitutionId] = Field(
        default_factory=list, max_length=20, description="Institutions that can bring the change about."
    )
    levels: list[Level] = Field(default_factory=list, max_length=5, description="Levels at which change is sought.")
    desired_change: Text | None = Field(None, description="What should be different afterwards.")
    findings: list[Annotated[UUID, RefTo("finding")]] = Field(
        default_factory=list, max_length=100, description="Findings the issue stands on."
    )


def context_says_something(issue: IssueBody, envelope: Envelope) -> Iterator[Fault]:
    """A context names a region, a country or gives a note; an empty one would mean nothing."""
    for index, context in enumerate(issue.contexts):
        if not (context.regions or context.countries or context.note):
            yield Fault(f"/contexts/{index}", "context-empty")


ISSUES = Kind(
    name="issue",
    plural="issues",
    body=IssueBody,
    description="Concerns that organisations share and want to change.",
    filters={"finding": "findings", "target": "targets", "level": "levels", "context_tag": "context_tags"},
    rules=(context_says_something,),
    example={
        "title": "Complaints against the police are not heard",
        "language": "en",
        "summary": "People who complain about police conduct seldom get an answer, and nobody outside the police "
        "follows what becomes of their complaints.",
        "countries": ["LR", "PA"],
        "topics": ["complaints-mechanism", "police"],
        "description": "Members describe complaint desks that are part of the unit complained about, have no time "
        "limit and publish no figures.",
        "contexts": [
            {"applies": True, "regions": ["AFR", "LAC"], "note": "Where complaints are handled by the police alone."},
            {"applies": False, "countries": ["DE"], "note": "Where an independent office publishes yearly figures."},
        ],
        "context_tags": ["post-conflict"],
        "targets": ["complaints-mechanism", "parliamentary-committee"],
        "levels": ["national"],
        "desired_change": "An independent office that answers each complaint in writing within a set time.",
    },
)
