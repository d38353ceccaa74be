"""Resources: documents, tools, data and products that organisations make and others can use.

Body and rules only; the files themselves are another matter.
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from app.http.problem import Fault
from app.kinds.vocabulary import InstitutionId, ProductTypeId
from app.records.fields import LanguageTag, Name, Note, OrganisationRef, Part, ReducedDate, RefTo, Text, WebAddress
from app.records.kind import Body, Envelope, Kind

DOI = re.compile(r"10\.[0-9]{4,9}/\S+")
ISBN = re.compile(r"[0-9]{9}[0-9X]|[0-9]{13}")


class ResourceType(StrEnum):
    """What the resource is."""

    DOCUMENT = "document"
    TOOL = "tool"
    DATASET = "dataset"
    TRAINING_MATERIAL = "training-material"
    METHOD = "method"
    PRODUCT = "product"
    REPORT = "report"


class IdentifierScheme(StrEnum):
    """The registry an identifier comes from; `other` for any not listed."""

    DOI = "doi"
    ISBN = "isbn"
    ISSN = "issn"
    HANDLE = "handle"
    URN = "urn"
    OTHER = "other"


class Readership(StrEnum):
    """For whom a resource is made."""

    CITIZENS = "citizens"
    AUTHORITIES = "authorities"
    CIVIL_SOCIETY = "civil-society"
    RESEARCHERS = "researchers"
    MEDIA = "media"


class AccessFeature(StrEnum):
    """What makes a resource usable for more people; `light-version` is one for slow connections."""

    ALT_TEXT = "alt-text"
    CAPTIONS = "captions"
    TRANSCRIPT = "transcript"
    TAGGED_DOCUMENT = "tagged-document"
    PLAIN_LANGUAGE = "plain-language"
    LIGHT_VERSION = "light-version"


class ResourceRelation(StrEnum):
    """How a resource stands to another, in the words of DataCite."""

    IS_TRANSLATION_OF = "is-translation-of"
    IS_NEW_VERSION_OF = "is-new-version-of"
    IS_SUPPLEMENT_TO = "is-supplement-to"
    CITES = "cites"


class UptakeType(StrEnum):
    """How a resource was used: quoted, heard in parliament, put into policy, taught, reported, or as a door opener."""

    CITATION = "citation"
    HEARING = "hearing"
    POLICY = "policy"
    TRAINING = "training"
    MEDIA = "media"
    ENTRY_POINT = "entry-point"
    OTHER = "other"


class Creator(Part):
    """Who made it. `name` is for makers without an entry here."""

    organisation: OrganisationRef | None = None
    name: Name | None = Field(None, description="Only where the maker has no entry.")


class Identifier(Part):
    """A name the resource has in a registry."""

    scheme: IdentifierScheme
    value: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(description="Without prefix or URL.")


class RelatedResource(Part):
    """Another resource and how this one stands to it."""

    relation: ResourceRelation
    resource: Annotated[UUID, RefTo("resource")]


class Uptake(Part):
    """One known use of the resource."""

    uptake_type: UptakeType
    note: Note
    used_on: ReducedDate | None = None
    institution: InstitutionId | None = None
    source_url: WebAddress | None = None


class ResourceBody(Body):
    """Something made to be used by others, described by the elements of DataCite and Dublin Core."""

    resource_type: ResourceType | None = Field(None, description="Needed to publish, as is `licence`.")
    product_type: ProductTypeId | None = Field(None, description="The form of an information product.")
    description: Text | None = None
    creators: list[Creator] = Field(default_factory=list, max_length=50)
    publisher: Name | None = None
    issued_on: ReducedDate | None = Field(None, description="When it came out; a year is enough.")
    languages: list[LanguageTag] = Field(
        default_factory=list, max_length=50, description="Languages the resource itself exists in."
    )
    identifiers: list[Identifier] = Field(default_factory=list, max_length=20)
    available_at: list[WebAddress] = Field(default_factory=list, max_length=20, description="Where it can be had.")
    intended_for: list[Readership] = Field(default_factory=list, max_length=5)
    accessibility: list[AccessFeature] = Field(default_factory=list, max_length=6)
    related_resources: list[RelatedResource] = Field(default_factory=list, max_length=50)
    uptake: list[Uptake] = Field(default_factory=list, max_length=100, description="Known uses.")


def creator_is_someone(resource: ResourceBody, envelope: Envelope) -> Iterator[Fault]:
    """A creator is an organisation with an entry or one called by its name, not both and not neither."""
    for index, creator in enumerate(resource.creators):
        if (creator.organisation is None) == (creator.name is None):
            yield Fault(f"/creators/{index}", "organisation-or-name")


def _isbn_adds_up(value: str) -> bool:
    """True when the check digit fits. Source: ISO 2108."""
    digits = [10 if digit == "X" else int(digit) for digit in value]
    if len(digits) == 10:
        return sum(weight * digit for weight, digit in zip(range(10, 0, -1), digits, strict=True)) % 11 == 0
    return sum(digit * (3 if place % 2 else 1) for place, digit in enumerate(digits)) % 10 == 0


def identifier_fits_scheme(resource: ResourceBody, envelope: Envelope) -> Iterator[Fault]:
    """A DOI has the form of one; the check digit of an ISBN fits (hyphens and spaces may be left in)."""
    for index, identifier in enumerate(resource.identifiers):
        if identifier.scheme is IdentifierScheme.DOI:
            fits = DOI.fullmatch(identifier.value) is not None
        elif identifier.scheme is IdentifierScheme.ISBN:
            plain = re.sub("[- ]", "", identifier.value)
            fits = ISBN.fullmatch(plain) is not None and _isbn_adds_up(plain)
        else:
            fits = True
        if not fits:
            yield Fault(f"/identifiers/{index}/value", "invalid-identifier")


RESOURCES = Kind(
    name="resource",
    plural="resources",
    body=ResourceBody,
    description="Documents, tools, data and products that others can use.",
    filters={
        "resource_type": "resource_type",
        "product_type": "product_type",
        "resource_language": "languages",
        "intended_for": "intended_for",
        "accessibility": "accessibility",
    },
    required=("resource_type", "licence"),
    rules=(creator_is_someone, identifier_fits_scheme),
    example={
        "title": "How to read a defence budget",
        "language": "en",
        "summary": "A short guide with worksheets for organisations that look into military spending for the first "
        "time.",
        "regions": ["LAC"],
        "topics": ["security-budget", "budget-analysis"],
        "licence": "CC-BY-4.0",
        "resource_type": "training-material",
        "product_type": "curriculum",
        "description": "Six lessons, each with a worksheet and an answer key, on proposals, execution and pensions.",
        "creators": [{"name": "Example CSO A"}],
        "publisher": "Example CSO A",
        "issued_on": "2026-02",
        "languages": ["en", "es", "pt-BR"],
        "identifiers": [{"scheme": "isbn", "value": "978-3-16-148410-0"}],
        "available_at": ["https://example.org/budget-guide"],
        "intended_for": ["civil-society", "media"],
        "accessibility": ["alt-text", "light-version"],
        "uptake": [
            {
                "uptake_type": "hearing",
                "note": "Quoted in a committee session on the yearly budget.",
                "used_on": "2026-05",
                "institution": "parliamentary-committee",
            }
        ],
    },
)
