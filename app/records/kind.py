"""Kinds: a kind is one frozen declaration. `Body` holds the fields every kind's body shares."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.http.problem import Fault
from app.records.fields import CountryCode, LanguageTag, LicenceId, Name, RefTo, RegionCode, Source, Summary, TopicId


class Status(StrEnum):
    """With the marking, this alone decides who may read a record."""

    DRAFT = "draft"
    PUBLISHED = "published"
    WITHDRAWN = "withdrawn"


class Tlp(StrEnum):
    """Labels of the Traffic Light Protocol 2.0 that tokens of organisations can honour."""

    CLEAR = "clear"
    GREEN = "green"
    AMBER = "amber"
    AMBER_STRICT = "amber+strict"


class Body(BaseModel):
    """The fields every kind's body shares. All but title and language may be missing in a draft."""

    model_config = ConfigDict(extra="forbid")

    title: Name = Field(description="What the record is called.")
    language: LanguageTag = Field(description="Language the texts are written in, as declared by the owner.")
    summary: Summary | None = Field(None, description="Plain words, at most 2,000 characters; needed to publish.")
    countries: list[CountryCode] = Field(default_factory=list, max_length=100)
    regions: list[RegionCode] = Field(
        default_factory=list, max_length=10, description="Given regions; those of the countries are added."
    )
    topics: list[TopicId] = Field(default_factory=list, max_length=50)
    licence: LicenceId | None = Field(None, description="SPDX identifier.")
    sources: list[Source] = Field(default_factory=list, max_length=50)


SHARED_COLUMNS = ("title", "language", "summary", "countries", "regions", "topics", "licence")
"""Body fields kept in real columns of `record`; the others are kept in `content`."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a record carries around its body, as rules of a kind may need it."""

    status: Status
    stage: str | None
    tlp: Tlp
    audience: tuple[UUID, ...]
    organisation_id: UUID


@dataclass(frozen=True, slots=True)
class RefPath:
    """Where a body holds references: the steps to them (`*` = each element of a list) and what they name."""

    steps: tuple[str, ...]
    kind: str

    @property
    def relation(self) -> str:
        """Name of the relation: the top-level field."""
        return self.steps[0]

    def find(self, value: Any) -> list[tuple[str, str]]:
        """(JSON Pointer, id as text) of each reference below `value`, the JSON form of a body."""
        found: list[tuple[str, Any]] = [("", value)]
        for step in self.steps:
            if step == "*":
                found = [(f"{at}/{index}", one) for at, inner in found for index, one in enumerate(inner)]
            else:
                found = [(f"{at}/{step}", inner.get(step)) for at, inner in found]
            found = [(at, inner) for at, inner in found if inner is not None]
            if not found:
                return []  # most paths of most bodies: a body is searched several times for each write
        return [(at, str(one)) for at, one in found]


def ref_paths(model: type[BaseModel], before: tuple[str, ...] = ()) -> tuple[RefPath, ...]:
    """Every place in bodies of this model that holds a typed reference."""
    found: list[RefPath] = []

    def walk(annotation: Any, steps: tuple[str, ...]) -> None:
        origin = get_origin(annotation)
        if origin is Annotated:
            inner, *marks = get_args(annotation)
            for mark in marks:
                if isinstance(mark, RefTo):
                    found.append(RefPath(steps, mark.kind))
                    return
            walk(inner, steps)
        elif origin in (list, tuple, set):
            walk(get_args(annotation)[0], (*steps, "*"))
        elif origin in (Union, UnionType):
            for choice in get_args(annotation):
                walk(choice, steps)
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found.extend(ref_paths(annotation, steps))

    for name, info in model.model_fields.items():
        if any(isinstance(mark, RefTo) for mark in info.metadata):
            found.extend(RefPath((*before, name), mark.kind) for mark in info.metadata if isinstance(mark, RefTo))
        else:
            walk(info.annotation, (*before, name))
    return tuple(found)


Rule = Callable[[Any, Envelope], Iterator[Fault] | None]
"""A kind's own rule: looks at a validated body and its envelope, yields what is wrong."""


@dataclass(frozen=True, eq=False)
class Kind:
    """The declaration of a kind: everything the machinery needs to know about it.

    `filters` maps a query parameter to the body field it compares with (a scalar, a list of scalars, or a reference).
    `required` are the fields publishing needs besides title, language and summary; `("regions|countries",)` means one
    of them. `sort` is the order of lists when none is asked for. In `immutable_stages` no body
    and no verb of all kinds changes the record any more; in the stages of `settled` the named fields keep their values.
    """

    name: str
    plural: str
    body: type[Body]
    description: str
    filters: Mapping[str, str] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    default_tlp: Tlp = Tlp.GREEN
    rules: tuple[Rule, ...] = ()
    sort: str = "-created_at"
    first_stage: str | None = None
    immutable_stages: frozenset[str] = frozenset()
    settled: Mapping[str, frozenset[str]] = field(default_factory=dict)
    example: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def refs(self) -> tuple[RefPath, ...]:
        """Where bodies of this kind hold references to records."""
        return tuple(path for path in ref_paths(self.body) if path.kind != "organisation")

    @cached_property
    def organisation_refs(self) -> tuple[RefPath, ...]:
        """Where bodies of this kind hold references to organisations."""
        return tuple(path for path in ref_paths(self.body) if path.kind == "organisation")

    @cached_property
    def particular(self) -> tuple[str, ...]:
        """Names of the body fields kept in `content`."""
        return tuple(name for name in self.body.model_fields if name not in SHARED_COLUMNS)

    @cached_property
    def operation(self) -> str:
        """The kind's name as used in operation ids: `issue-list` → `IssueList`."""
        return "".join(part.capitalize() for part in self.name.split("-"))

    @cached_property
    def plural_operation(self) -> str:
        """The plural as used in operation ids: `issue-lists` → `IssueLists`."""
        return "".join(part.capitalize() for part in self.plural.split("-"))
