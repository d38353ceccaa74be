"""Reference data: countries, regions, topics, licences and languages, read once from the files of the package.

They are part of the release, not rows of the database (docs/decisions/0002-reference-data-in-the-package.md); where
each file comes from, and under which licence, is in `data/SOURCES.md`.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType

LABEL_LANGUAGES: Mapping[str, str] = MappingProxyType(
    {"en": "en", "fr": "fr", "es": "es", "pt": "pt", "ar": "ar", "sr": "sr-Latn"}
)
"""Column suffix in the files → BCP 47 tag under which the label is served."""


@dataclass(frozen=True, slots=True)
class Country:
    """A country or area of ISO 3166-1, and Kosovo under its user-assigned code XK. Listing one states no position."""

    code: str
    iso3: str
    m49: str | None
    region: str
    names: Mapping[str, str]
    latitude: float | None
    longitude: float | None
    income: str | None


@dataclass(frozen=True, slots=True)
class Region:
    """One part of the community's partition of the world: each country lies in exactly one."""

    code: str
    names: Mapping[str, str]
    rule: str
    countries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Topic:
    """A concept of the community's vocabulary. Roots (`parent` None) are headings of the six branches."""

    id: str
    parent: str | None
    type: str
    labels: Mapping[str, str]
    alt_labels: Mapping[str, tuple[str, ...]]
    related: tuple[str, ...]
    narrower: tuple[str, ...]


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (files(__name__) / "data" / name).open(encoding="utf-8") as stream:
        yield from csv.DictReader(stream)


def _labels(row: Mapping[str, str], prefix: str) -> Mapping[str, str]:
    present = {tag: row[prefix + suffix] for suffix, tag in LABEL_LANGUAGES.items() if row[prefix + suffix]}
    return MappingProxyType(present)


def _read_countries() -> dict[str, Country]:
    return {
        row["iso2"]: Country(
            code=row["iso2"],
            iso3=row["iso3"],
            m49=row["m49"] or None,
            region=row["cop_region"],
            names=_labels(row, "name_"),
            latitude=float(row["lat"]) if row["lat"] else None,
            longitude=float(row["lon"]) if row["lon"] else None,
            income=row["income"].lower().replace(" ", "-") or None,
        )
        for row in sorted(_rows("countries.csv"), key=lambda row: row["iso2"])
    }


def _read_regions(countries: Mapping[str, Country]) -> dict[str, Region]:
    return {
        row["code"]: Region(
            code=row["code"],
            names=_labels(row, "name_"),
            rule=row["rule"],
            countries=tuple(country.code for country in countries.values() if country.region == row["code"]),
        )
        for row in _rows("regions.csv")
    }


def _alternatives(cell: str) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for entry in filter(None, cell.split(";")):
        suffix, text = entry.split(":", 1)
        found.setdefault(LABEL_LANGUAGES.get(suffix, suffix), []).append(text)
    return MappingProxyType({tag: tuple(texts) for tag, texts in found.items()})


def _read_topics() -> dict[str, Topic]:
    rows = list(_rows("topics.csv"))
    return {
        row["id"]: Topic(
            id=row["id"],
            parent=row["parent"] or None,
            type=row["type"],
            labels=_labels(row, "label_"),
            alt_labels=_alternatives(row["alt_labels"]),
            related=tuple(filter(None, row["related"].split(";"))),
            narrower=tuple(other["id"] for other in rows if other["parent"] == row["id"]),
        )
        for row in rows
    }


COUNTRIES: Mapping[str, Country] = MappingProxyType(_read_countries())
"""ISO 3166-1 alpha-2 code → country, in the order of the codes."""

REGIONS: Mapping[str, Region] = MappingProxyType(_read_regions(COUNTRIES))
"""Code → region: AFR, ASI, EUR, LAC, MENA, OTH."""

TOPICS: Mapping[str, Topic] = MappingProxyType(_read_topics())
"""Id → concept, each branch below its root."""

LICENCES: Mapping[str, str] = MappingProxyType({row["id"]: row["name"] for row in _rows("licences.csv")})
"""SPDX identifier → name of the licence; deprecated identifiers are left out."""

LANGUAGES: frozenset[str] = frozenset((files(__name__) / "data" / "languages.txt").read_text("utf-8").split())
"""Language subtags of BCP 47: ISO 639-1 where there is one, else ISO 639-3."""


def regions_of(countries: Iterable[str]) -> frozenset[str]:
    """The regions these countries lie in. Errors: KeyError for an unknown code."""
    return frozenset(COUNTRIES[code].region for code in countries)


def broader(topic: str) -> Iterator[str]:
    """The concepts above `topic`, nearest first. Errors: KeyError for an unknown concept."""
    parent = TOPICS[topic].parent
    while parent is not None:
        yield parent
        parent = TOPICS[parent].parent


def is_below(topic: str, ancestor: str) -> bool:
    """True when `ancestor` is somewhere above `topic`; a concept is not below itself."""
    return ancestor in broader(topic)


def with_narrower(topic: str) -> tuple[str, ...]:
    """`topic` and everything below it, in the order of the vocabulary. Errors: KeyError for an unknown concept."""
    return (topic, *(below for step in TOPICS[topic].narrower for below in with_narrower(step)))
