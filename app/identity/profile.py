"""What an organisation says about itself: the schema of its profile, checked whole at every change."""

import re
import unicodedata
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from app import reference

BIDI_CONTROLS = re.compile("[\u202a-\u202e\u2066-\u2069]")
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+", re.IGNORECASE)

KindOfOrganisation = Literal[
    "civil-society-organisation",
    "network",
    "academia",
    "think-tank",
    "international-ngo",
    "donor",
    "intergovernmental",
    "node",
]
Listing = Literal["public", "members", "unlisted"]


def _plain_name(value: str) -> str:
    if BIDI_CONTROLS.search(value):
        raise PydanticCustomError("bidi-control", "direction controls are not allowed in names")
    if not any(unicodedata.category(character)[0] not in "ZC" for character in value):
        raise PydanticCustomError("blank", "needs at least one visible character")
    if "\n" in value or "\t" in value:
        raise PydanticCustomError("line-break", "a name has one line")
    return value


def _known_country(value: str) -> str:
    if value not in reference.COUNTRIES:
        raise PydanticCustomError("unknown-country", "not a known country")
    return value


def _known_region(value: str) -> str:
    if value not in reference.REGIONS:
        raise PydanticCustomError("unknown-region", "not a known region")
    return value


def _known_language(value: str) -> str:
    if value.split("-")[0] not in reference.LANGUAGES:
        raise PydanticCustomError("unknown-language", "not a known language")
    return value


def _web_address(value: str) -> str:
    try:
        parts = urlsplit(value)
        whole = parts.scheme in ("http", "https") and _HOST.fullmatch(parts.hostname or "") and not parts.username
    except ValueError:
        whole = False
    if not whole or any(character <= " " for character in value):
        raise PydanticCustomError("not-a-web-address", "needs an http or https address with a host name")
    return value


def _full_kind(value: Any) -> Any:
    return "civil-society-organisation" if value == "cso" else value


Name = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_plain_name)]
Tag = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?$"),
    AfterValidator(_known_language),
]


class Profile(BaseModel):
    """The part of an organisation that it changes itself."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Name = Field(description="Name in the organisation's own language; shown beside its records.")
    acronym: Annotated[str, StringConstraints(min_length=1, max_length=40), AfterValidator(_plain_name)] | None = None
    names: dict[Tag, Name] = Field(default_factory=dict, max_length=40, description="Names by language tag.")
    country: Annotated[str, AfterValidator(_known_country)] | None = Field(
        None, description="ISO 3166-1 alpha-2 code, as at /v1/countries."
    )
    region: Annotated[str, AfterValidator(_known_region)] | None = Field(
        None, description="Region as at /v1/regions; the country's when left out."
    )
    listing: Listing = Field(
        "members", description="Who may know of this organisation: `public`, `members`, or `unlisted`: nobody else."
    )
    website: Annotated[str, StringConstraints(max_length=500), AfterValidator(_web_address)] | None = None
    languages: list[Tag] = Field(default_factory=list, max_length=40, description="Languages it works in.")

    @model_validator(mode="after")
    def region_of_country(self) -> Self:
        """Fills an absent region with the country's."""
        if self.region is None and self.country is not None:
            self.region = reference.COUNTRIES[self.country].region
        return self


class NewOrganisation(Profile):
    """An organisation about to be admitted."""

    kind: Annotated[KindOfOrganisation, BeforeValidator(_full_kind)] = Field(
        description="`cso` stands for `civil-society-organisation`."
    )
    network: bool = Field(False, description="Whether it can have members of its own; true for every network.")

    @model_validator(mode="after")
    def network_of_kind(self) -> Self:
        """An organisation of kind `network` is one."""
        if self.kind == "network":
            self.network = True
        return self
