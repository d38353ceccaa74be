"""Vocabularies: countries, regions and topics, as lists and one by one; topics as SKOS too.

They change with a release only, so every answer is made of bytes prepared once, with an ETag, and anybody may keep it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from app import reference
from app.discovery import skos
from app.http import etag
from app.http.openapi import answer, public, responses
from app.http.problem import Problem
from app.http.query import Parser, choice, many, query_parameters, read_query, text
from app.http.responses import bytes_response, empty_response
from app.identity.access import PublicReader
from app.records.words import fold

KEEP_SECONDS = 3600
JSON_LD = "application/ld+json"

Labels = dict[str, str]


class CountryView(BaseModel):
    """A country or area. Naming it states no position on its status."""

    code: str = Field(description="ISO 3166-1 alpha-2; XK is user-assigned.")
    url: str
    iso3: str
    m49: str | None = Field(description="Code of the United Nations' M49, where there is one.")
    region: str = Field(description="Community region it lies in.")
    names: Labels = Field(description="BCP 47 tag → name.")
    latitude: float | None
    longitude: float | None
    income: str | None = Field(description="World Bank income group.")


class RegionView(BaseModel):
    """One part of the community's partition of the world: each country lies in exactly one."""

    code: str
    names: Labels = Field(description="BCP 47 tag → name.")
    rule: str = Field(description="Which countries it holds, in codes of M49 and ISO 3166-1.")
    countries: list[str]


class TopicView(BaseModel):
    """A concept of the vocabulary."""

    id: str
    url: str
    parent: str | None = Field(description="The next broader concept; null for the heading of a branch.")
    type: str
    labels: Labels = Field(description="BCP 47 tag → preferred label.")
    alt_labels: dict[str, list[str]] = Field(description="BCP 47 tag → other words for it.")
    narrower: list[str]
    related: list[str]


class VocabularyView(BaseModel):
    """A vocabulary that bodies are checked against."""

    id: str
    url: str
    title: str
    entries: int


class CountryList(BaseModel):
    """All countries that match."""

    items: list[CountryView]
    next: None


class RegionList(BaseModel):
    """All regions."""

    items: list[RegionView]
    next: None


class TopicList(BaseModel):
    """All concepts that match, each branch below its heading."""

    items: list[TopicView]
    next: None


class VocabularyList(BaseModel):
    """All vocabularies."""

    items: list[VocabularyView]
    next: None


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is sent for one service address: each entry as bytes, and the topics as SKOS."""

    countries: Mapping[str, bytes]
    regions: Mapping[str, bytes]
    topics: Mapping[str, bytes]
    vocabularies: Mapping[str, bytes]
    skos: Mapping[str, bytes]
    skos_scheme: bytes


@lru_cache(maxsize=4)
def prepared(public_url: str) -> Prepared:
    """Everything this module serves, as bytes, for the service at `public_url`."""
    topics_url = f"{public_url}/v1/vocabularies/topics"
    countries = {
        country.code: CountryView(
            code=country.code,
            url=f"{public_url}/v1/countries/{country.code}",
            iso3=country.iso3,
            m49=country.m49,
            region=country.region,
            names=dict(country.names),
            latitude=country.latitude,
            longitude=country.longitude,
            income=country.income,
        )
        for country in reference.COUNTRIES.values()
    }
    regions = {
        region.code: RegionView(
            code=region.code, names=dict(region.names), rule=region.rule, countries=list(region.countries)
        )
        for region in reference.REGIONS.values()
    }
    topics = {
        topic.id: TopicView(
            id=topic.id,
            url=f"{topics_url}/{topic.id}",
            parent=topic.parent,
            type=topic.type,
            labels=dict(topic.labels),
            alt_labels={tag: list(words) for tag, words in topic.alt_labels.items()},
            narrower=list(topic.narrower),
            related=list(topic.related),
        )
        for topic in reference.TOPICS.values()
    }
    vocabularies = {
        name: VocabularyView(id=name, url=url, title=title, entries=entries)
        for name, url, title, entries in (
            ("countries", f"{public_url}/v1/countries", "Countries and areas", len(countries)),
            ("regions", f"{public_url}/v1/regions", "Regions of the community", len(regions)),
            ("topics", topics_url, "Topics of security sector reform", len(topics)),
        )
    }
    skos_scheme, skos_concepts = skos.documents(topics_url)
    return Prepared(
        countries=_as_bytes(countries),
        regions=_as_bytes(regions),
        topics=_as_bytes(topics),
        vocabularies=_as_bytes(vocabularies),
        skos=skos_concepts,
        skos_scheme=skos_scheme,
    )


def _as_bytes(views: Mapping[str, BaseModel]) -> Mapping[str, bytes]:
    return {name: view.model_dump_json().encode() for name, view in views.items()}


def _listing(entries: Iterable[bytes]) -> bytes:
    return b'{"items":[' + b",".join(entries) + b'],"next":null}'


def _conditional(request: Request, body: bytes, media_type: str = "application/json") -> Response:
    """`body` with its ETag, or 304 where If-None-Match names it. Source: RFC 9110 §13.1.2."""
    tag = etag.of_parts([body.decode()])
    headers = {"ETag": tag, "Cache-Control": f"public, max-age={KEEP_SECONDS}", "Vary": "Accept"}
    if etag.matches(request, tag):
        return empty_response(304, headers)
    return bytes_response(body, headers=headers, media_type=media_type)


def _wants_json_ld(request: Request) -> bool:
    """True when Accept names JSON-LD and ranks it above plain JSON. Source: RFC 9110 §12.5.1."""
    weights: dict[str, float] = {}
    for choice_ in request.headers.get("accept", "").split(","):
        media_type, *parameters = (part.strip().lower() for part in choice_.split(";"))
        quality = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        try:
            weights[media_type] = float(quality)
        except ValueError:
            weights[media_type] = 0.0
    fallback = weights.get("application/*", weights.get("*/*", 0.0))
    wanted = weights.get(JSON_LD, 0.0)
    return wanted > 0 and wanted >= weights.get("application/json", fallback if JSON_LD not in weights else 0.0)


def _matching(names: Mapping[str, str], others: Iterable[str], wanted: str | None) -> bool:
    return wanted is None or any(fold(wanted) in fold(name) for name in (*names.values(), *others))


def _described(known: Mapping[str, Parser], operation_id: str, ok: Any, *codes: str) -> dict[str, Any]:
    """What the decorators below have in common."""
    if_none_match = {"name": "If-None-Match", "in": "header", "required": False, "schema": {"type": "string"}}
    return {
        "operation_id": operation_id,
        "responses": responses({200: ok}, *codes),
        "openapi_extra": {**public("records:read"), "parameters": [*query_parameters(known), if_none_match]},
    }


def _skos_or(model: type[BaseModel], description: str) -> dict[str, Any]:
    plain = answer(model, description, headers=["ETag"])
    linked = {"schema": {"type": "object", "description": "SKOS as JSON-LD 1.1."}}
    return {**plain, "content": {**plain["content"], JSON_LD: linked}}


SEARCH = text(100).described("Part of a name in any language; case and accents do not matter.")
COUNTRY_PARAMETERS = {
    "region": many(choice(*reference.REGIONS)).described("In any of these regions."),
    "q": SEARCH,
}
TOPIC_PARAMETERS = {
    "type": many(choice(*dict.fromkeys(topic.type for topic in reference.TOPICS.values()))).described(
        "Of any of these types."
    ),
    "below": choice(*reference.TOPICS).described("Below this concept, at any depth."),
    "q": SEARCH,
}

router = APIRouter(prefix="/v1", tags=["Reference data"])


@router.get(
    "/countries",
    summary="List countries",
    **_described(COUNTRY_PARAMETERS, "listCountries", answer(CountryList, "The countries.", headers=["ETag"])),
)
async def list_countries(request: Request, caller: PublicReader) -> Response:
    """All countries that match, in one answer, in the order of their codes."""
    wanted = read_query(request, COUNTRY_PARAMETERS)
    entries = prepared(request.app.state.public_url).countries
    return _conditional(
        request,
        _listing(
            entries[country.code]
            for country in reference.COUNTRIES.values()
            if (not wanted["region"] or country.region in wanted["region"])
            and _matching(country.names, (), wanted["q"])
        ),
    )


@router.get(
    "/countries/{code}",
    summary="Get a country",
    **_described({}, "getCountry", answer(CountryView, "The country.", headers=["ETag"]), "not-found"),
)
async def get_country(request: Request, code: str, caller: PublicReader) -> Response:
    """The country of this ISO 3166-1 alpha-2 code. **Errors:** 404 `not-found`."""
    read_query(request, {})
    return _conditional(request, _entry(prepared(request.app.state.public_url).countries, code))


@router.get(
    "/regions",
    summary="List regions",
    **_described({}, "listRegions", answer(RegionList, "The regions.", headers=["ETag"])),
)
async def list_regions(request: Request, caller: PublicReader) -> Response:
    """The community's regions with their countries; each country is in exactly one."""
    read_query(request, {})
    return _conditional(request, _listing(prepared(request.app.state.public_url).regions.values()))


@router.get(
    "/vocabularies",
    summary="List vocabularies",
    **_described({}, "listVocabularies", answer(VocabularyList, "The vocabularies.", headers=["ETag"])),
)
async def list_vocabularies(request: Request, caller: PublicReader) -> Response:
    """The vocabularies that bodies are checked against, and where to read them."""
    read_query(request, {})
    return _conditional(request, _listing(prepared(request.app.state.public_url).vocabularies.values()))


@router.get(
    "/vocabularies/topics",
    summary="List topics",
    **_described(TOPIC_PARAMETERS, "listTopics", _skos_or(TopicList, "The concepts.")),
)
async def list_topics(request: Request, caller: PublicReader) -> Response:
    """The concepts that match, in one answer. `Accept: application/ld+json` gives the whole vocabulary as SKOS."""
    wanted = read_query(request, TOPIC_PARAMETERS)
    ready = prepared(request.app.state.public_url)
    if _wants_json_ld(request):
        return _conditional(request, ready.skos_scheme, JSON_LD)
    return _conditional(
        request,
        _listing(
            ready.topics[topic.id]
            for topic in reference.TOPICS.values()
            if (not wanted["type"] or topic.type in wanted["type"])
            and (wanted["below"] is None or reference.is_below(topic.id, wanted["below"]))
            and _matching(topic.labels, (word for words in topic.alt_labels.values() for word in words), wanted["q"])
        ),
    )


@router.get(
    "/vocabularies/topics/{topic_id}",
    summary="Get a topic",
    **_described({}, "getTopic", _skos_or(TopicView, "The concept."), "not-found"),
)
async def get_topic(request: Request, topic_id: str, caller: PublicReader) -> Response:
    """The concept of this id; as SKOS with `Accept: application/ld+json`. **Errors:** 404 `not-found`."""
    read_query(request, {})
    ready = prepared(request.app.state.public_url)
    if _wants_json_ld(request):
        return _conditional(request, _entry(ready.skos, topic_id), JSON_LD)
    return _conditional(request, _entry(ready.topics, topic_id))


def _entry(entries: Mapping[str, bytes], name: str) -> bytes:
    if name not in entries:
        raise Problem("not-found")
    return entries[name]
