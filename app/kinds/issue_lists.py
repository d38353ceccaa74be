"""Issue lists: issues put together, in order, as a common agenda.

Body and rules only. A list begins in the stage `draft`; rounds and adoption move it on, and once adopted it never
changes.
"""

from collections.abc import Iterator
from typing import Annotated
from uuid import UUID

from pydantic import Field, StrictBool

from app.http.problem import Fault
from app.records.fields import Name, Note, Part, Period, RefTo, RegionCode
from app.records.kind import Body, Envelope, Kind

SAMPLE_ISSUE = "01980d9e-7a00-7000-8000-000000000001"


class RegionalNote(Part):
    """How an issue of the list reads in one region."""

    region: RegionCode
    note: Note


class Item(Part):
    """One place of the list."""

    issue: Annotated[UUID, RefTo("issue")]
    note: Note | None = Field(None, description="Why it is here.")
    regional_notes: list[RegionalNote] = Field(default_factory=list, max_length=10)


class IssueListBody(Body):
    """Issues in order, each with its notes."""

    edition: Name | None = Field(None, description="How the list counts its own editions, such as `0.1`.")
    period: Period | None = Field(None, description="The time the agenda is meant for.")
    ordered: StrictBool = Field(True, description="False: the order of the items says nothing about their weight.")
    items: list[Item] = Field(
        default_factory=list,
        max_length=200,
        description="The issues, first place first.",
        examples=[[{"issue": SAMPLE_ISSUE, "note": "Named in every meeting."}]],
    )


def each_issue_once(issue_list: IssueListBody, envelope: Envelope) -> Iterator[Fault]:
    """An issue has one place in a list."""
    seen: set[UUID] = set()
    for index, item in enumerate(issue_list.items):
        if item.issue in seen:
            yield Fault(f"/items/{index}/issue", "duplicate")
        seen.add(item.issue)


def one_note_a_region(issue_list: IssueListBody, envelope: Envelope) -> Iterator[Fault]:
    """A region says one thing about an item."""
    for index, item in enumerate(issue_list.items):
        seen: set[str] = set()
        for position, note in enumerate(item.regional_notes):
            if note.region in seen:
                yield Fault(f"/items/{index}/regional_notes/{position}/region", "duplicate")
            seen.add(note.region)


ISSUE_LISTS = Kind(
    name="issue-list",
    plural="issue-lists",
    body=IssueListBody,
    description="Issues put together, in order, as a common agenda.",
    filters={"issue": "items", "stage": "stage"},
    rules=(each_issue_once, one_note_a_region),
    first_stage="draft",
    immutable_stages=frozenset({"adopted", "superseded"}),
    example={
        "title": "Common agenda of the example network",
        "language": "en",
        "summary": "What the organisations of the example network want to work on together in the coming two years.",
        "regions": ["AFR", "LAC"],
        "topics": ["civil-society-oversight"],
        "edition": "1.0",
        "period": {"start": "2027", "end": "2028"},
        "ordered": True,
        "items": [],
    },
)
