"""Field types of record bodies: each name says what the value is, and refuses what it cannot be."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from app import reference

BIDI_CONTROLS = re.compile("[\u202a-\u202e\u2066-\u2069]")
LANGUAGE_TAG = re.compile(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?")
REDUCED_DATE = re.compile(r"[0-9]{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01]))?)?")


def _no_bidi(value: str) -> str:
    if BIDI_CONTROLS.search(value):
        raise PydanticCustomError("bidi-control", "direction controls are not allowed in names")
    return value


def _not_blank(value: str) -> str:
    # Nearly every text begins with a letter; only the others are looked at character by character.
    if not value[:1].isalnum() and not any(unicodedata.category(character)[0] not in "ZC" for character in value):
        raise PydanticCustomError("blank", "needs at least one visible character")
    return value


Name = Annotated[
    str, StringConstraints(min_length=1, max_length=200), AfterValidator(_not_blank), AfterValidator(_no_bidi)
]
"""A name or title: 1–200 characters, at least one of them visible, no direction controls."""

Summary = Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(_not_blank)]
"""Plain words for everyone: 1–2,000 characters."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=20_000), AfterValidator(_not_blank)]
"""Running text: 1–20,000 characters."""

Note = Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(_not_blank)]
"""A remark: 1–2,000 characters."""


def _known(kind: str, known: Any) -> AfterValidator:
    def check(value: str) -> str:
        if value not in known:
            raise PydanticCustomError(f"unknown-{kind}", f"not a known {kind}")
        return value

    return AfterValidator(check)


CountryCode = Annotated[str, Field(pattern="^[A-Z]{2}$", examples=["CD"]), _known("country", reference.COUNTRIES)]
"""ISO 3166-1 alpha-2 code (and XK), as served at /v1/countries."""

RegionCode = Annotated[str, Field(pattern="^[A-Z]{3,4}$", examples=["AFR"]), _known("region", reference.REGIONS)]
"""Code of the community's regions, as served at /v1/regions."""

TopicId = Annotated[str, Field(max_length=80, examples=["police"]), _known("topic", reference.TOPICS)]
"""Concept of /v1/vocabularies/topics."""

LicenceId = Annotated[str, Field(max_length=100, examples=["CC-BY-4.0"]), _known("licence", reference.LICENCES)]
"""SPDX licence identifier."""


def _language(value: str) -> str:
    if not LANGUAGE_TAG.fullmatch(value) or value.split("-")[0] not in reference.LANGUAGES:
        raise PydanticCustomError("unknown-language", "not a language tag such as fr, pt-BR or sr-Latn")
    return value


LanguageTag = Annotated[str, Field(max_length=12, examples=["fr"]), AfterValidator(_language)]
"""BCP 47 tag: language, optional script, optional region. Organisations declare it; nothing is detected."""


def _reduced_date(value: str) -> str:
    if not REDUCED_DATE.fullmatch(value):
        raise PydanticCustomError("invalid-date", "write a year, a month or a day: 2017, 2017-07, 2017-07-14")
    if len(value) == 10:
        import datetime

        try:
            datetime.date.fromisoformat(value)
        except ValueError:
            raise PydanticCustomError("invalid-date", "no such day") from None
    return value


ReducedDate = Annotated[str, Field(max_length=10, examples=["2017-07"]), AfterValidator(_reduced_date)]
"""A calendar date of day, month or year precision."""


class Part(BaseModel):
    """A nested object of a body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class PeriodParts(Part):
    """From a start to an optional end; reduced precision allowed."""

    start: ReducedDate
    end: ReducedDate | None = None


def _period(value: Any) -> Any:
    return {"start": value} if isinstance(value, str) else value


def _ordered(period: PeriodParts) -> PeriodParts:
    if period.end is not None and period.end[: len(period.start)] < period.start[: len(period.end)]:
        raise PydanticCustomError("period-order", "the end lies before the start")
    return period


Period = Annotated[PeriodParts, BeforeValidator(_period), AfterValidator(_ordered)]
"""A period; a bare string is taken as its start."""


@dataclass(frozen=True, slots=True)
class RefTo:
    """Marks a UUID field as a reference to a record of one kind, or (`kind="organisation"`) to an organisation.

    `Annotated[UUID, RefTo("issue")]` is the id of an issue: checked against what the writer may read, kept as a row of
    `link`. The schema tells generators so in `x-refers-to`.
    """

    kind: str

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "x-refers-to": self.kind}


OrganisationRef = Annotated[UUID, RefTo("organisation")]
"""The id of an organisation the writer may see."""

WebAddress = Annotated[str, StringConstraints(max_length=2000, pattern=r"^https?://[^\s<>\"{}|\\^`]+$")]
"""An http or https address."""


class Source(Part):
    """Where a statement comes from."""

    title: Note = Field(description="What the source is called.")
    url: WebAddress | None = None
    locator: Annotated[str, StringConstraints(max_length=200)] | None = Field(None, description="Page, lines, minute.")
    basis: str | None = Field(None, pattern="^(source|derived|external)$", description="How the fact was obtained.")
