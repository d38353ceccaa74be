"""Views: the shapes of a kind on the wire, for the OpenAPI document. Nothing is built from them at run time."""

from datetime import datetime
from functools import cache
from typing import Any, Literal, Union
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, create_model

from app.records.fields import Name, PeriodParts
from app.records.kind import SHARED_COLUMNS, Body, Kind, Status, Tlp


class Owner(BaseModel):
    """The organisation that owns a record."""

    id: UUID
    name: str


class Readers(BaseModel):
    """Who may read a record, as named: networks and the community are not expanded."""

    model_config = ConfigDict(extra="forbid")
    public: bool
    members: bool
    organisations: list[UUID]
    networks: list[UUID]
    in_force: bool = Field(description="False while only the owner reads: a draft, or withdrawn.")


class DryRun(BaseModel):
    """What a create would do."""

    valid: Literal[True]
    readers: Readers


class VersionEntry(BaseModel):
    """One version in the history of a record."""

    version: int
    action: str
    at: datetime
    status: Status
    tlp: Tlp


class VersionPage(BaseModel):
    """Versions, newest first."""

    items: list[VersionEntry]
    next: str | None


class Backlink(BaseModel):
    """A record that refers to this one, and through which field."""

    relation: str
    record: dict[str, Any] = Field(description="The brief view of its kind.")


class BacklinkPage(BaseModel):
    """Backlinks, newest first."""

    items: list[Backlink]
    next: str | None


class Difference(BaseModel):
    """One difference between two versions."""

    op: Literal["add", "remove", "replace"]
    pointer: str
    before: Any = None
    after: Any = None


class Diff(BaseModel):
    """What changed between two versions."""

    model_config = ConfigDict(populate_by_name=True)
    from_version: int = Field(alias="from")
    to: int
    changes: list[Difference]


def _envelope(kind: Kind) -> dict[str, Any]:
    return {
        "url": (str, Field(json_schema_extra={"format": "uri"})),
        "organisation": (Owner, ...),
        "external_id": (str | None, Field(default=None, description="Shown to the owner only.")),
        "audience": (list[UUID], Field(default_factory=list, description="Shown to the owner only.")),
        "id": (UUID, ...),
        "kind": (str, Field(json_schema_extra={"const": kind.name})),
        "tlp": (Tlp, ...),
        "status": (Status, ...),
        "stage": (str | None, ...),
        "version": (int, Field(ge=1)),
        "created_at": (datetime, ...),
        "updated_at": (datetime, ...),
        "published_at": (datetime | None, ...),
    }


def _optional_owner_fields(schema: dict[str, Any]) -> None:
    schema["required"] = [name for name in schema.get("required", ()) if name not in ("external_id", "audience")]


def _shown(base: type[BaseModel]) -> type[BaseModel]:
    """`base` with a schema in which what only the owner sees may be missing."""

    class Shown(base):  # type: ignore[valid-type, misc]
        model_config = ConfigDict(extra="forbid", json_schema_extra=_optional_owner_fields)

    return Shown


@cache
def full_view(kind: Kind) -> type[BaseModel]:
    """The whole record."""
    fields = _envelope(kind)
    return create_model(kind.operation, __base__=_shown(kind.body), __doc__=kind.description, **fields)


@cache
def brief_view(kind: Kind) -> type[BaseModel]:
    """The shared fields, as lists give them."""
    extra: dict[str, Any] = {"period": (PeriodParts | None, None)} if kind.sort.endswith("period") else {}
    shared: dict[str, Any] = {
        name: (Body.model_fields[name].rebuild_annotation(), Field(description=Body.model_fields[name].description))
        for name in SHARED_COLUMNS
    }
    return create_model(
        f"{kind.operation}Brief",
        __base__=_shown(BaseModel),
        __doc__=f"The shared fields of a record of kind {kind.name}.",
        **_envelope(kind),
        **shared,
        **extra,
    )


class _Counted(BaseModel):
    model_config = ConfigDict(json_schema_extra=lambda schema: schema.__setitem__("required", ["items", "next"]))

    total: int | None = Field(default=None, description="With `count=true`: matches, counted to 10,000 at most.")
    approximate: bool | None = Field(default=None, description="With `count=true`: counting stopped there.")


@cache
def page_view(kind: Kind) -> type[BaseModel]:
    """A page of a list. With `fields` items hold just those; with `view=full` everything."""
    item: Any = Union[brief_view(kind), full_view(kind), dict[str, Any]]  # noqa: UP007
    fields: dict[str, Any] = {
        "items": (list[item], ...),
        "next": (str | None, Field(description="Absolute address of the next page.")),
    }
    return create_model(f"{kind.operation}Page", __base__=_Counted, __doc__=f"A page of {kind.plural}.", **fields)


@cache
def input_view(kind: Kind) -> type[BaseModel]:
    """What a client sends to create or replace a record."""
    fields: dict[str, Any] = {
        "external_id": (Name | None, Field(default=None, description="Your own id for it, at most 200 characters.")),
        "tlp": (Tlp, Field(default=kind.default_tlp, description="Who may read it once published.")),
        "audience": (
            list[UUID],
            Field(default_factory=list, max_length=200, description="With amber and amber+strict: who else may read."),
        ),
        "status": (
            Literal["draft", "published"],
            Field(default="draft", description="On create only; later by the verbs publish, restore and DELETE."),
        ),
    }
    doc = f"{kind.description} As sent: the body with its marking."
    return create_model(f"{kind.operation}Input", __base__=kind.body, __doc__=doc, **fields)
