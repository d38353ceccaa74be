"""Analysis: trends and likeness of regions, as JSON, CSV, a picture and text.

Without a token, regions with fewer than three contributing organisations are left out before anything is computed.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from app import reference
from app.db.pool import Connection, Database
from app.deliberation.contributions import DIMENSIONS, SPAN_PATTERN, Span, gather
from app.deliberation.disclosure import publishable, suppressed_regions
from app.deliberation.heatmap import Map, svg, text_table
from app.deliberation.reading import InForce, settings_in_force
from app.deliberation.tabular import TREND_COLUMNS, as_csv, trend_rows
from app.deliberation.trends import METHOD, Change, Thresholds, Trend, change, similarity, trends
from app.deliberation.wire import MEDIA_TYPES, answer_forms, computed, wanted_format
from app.http.openapi import IF_NONE_MATCH, public, responses
from app.http.query import Parser, choice, instant, integer, query_parameters, read_query
from app.identity.access import PublicReader
from app.identity.caller import Caller
from app.records.router import described

router = APIRouter(tags=["analysis"])


def _span() -> Parser:

    pattern = re.compile(SPAN_PATTERN)

    def read(text: str) -> Span:
        if len(text) > 22 or text == ".." or not pattern.fullmatch(text):
            raise ValueError
        return Span.read(text)

    schema = {"type": "string", "maxLength": 22, "pattern": f"^{SPAN_PATTERN}$", "examples": ["2017..2019"]}
    return Parser(read, "must be a period such as 2017..2019, 2017-07.. or 2018", schema)


TREND_FORMS = ("json", "csv", "svg", "text")
TABLE_FORMS = ("json", "csv")
SHARED_PARAMETERS = {
    "dimension": choice(*DIMENSIONS, default="issue").described("What is counted."),
    "period": _span().described("Contributions that begin in this period: `2017..2019`, `2017-07..`, `2018`."),
    "as_of": instant().described("Records and endorsements as they were at this instant."),
}
TREND_PARAMETERS = {
    **SHARED_PARAMETERS,
    "compare": _span().described("An earlier period: adds how each region changed since."),
    "limit": integer(1, 500, 200).described("At most this many concerns, the most raised first."),
    "format": choice(*TREND_FORMS).described("Form of the answer; otherwise Accept decides."),
}
SIMILARITY_PARAMETERS = {**SHARED_PARAMETERS, "format": choice(*TABLE_FORMS).described("Form of the answer.")}
NUMBERS: dict[str, Any] = {"type": "object", "additionalProperties": {"type": ["number", "null"]}}
TRENDS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["dimension", "method", "n", "items", "charter", "settings_source", "suppressed_regions"],
    "properties": {
        "dimension": {"enum": list(DIMENSIONS)},
        "period": {"type": ["object", "null"]},
        "as_of": {"type": ["string", "null"]},
        "method": {"type": "string"},
        "n": {"type": "object", "description": "Region → organisations that contributed anything."},
        "suppressed_regions": {"type": "array", "items": {"type": "string"}},
        "charter": {"type": ["object", "null"]},
        "settings_source": {"enum": ["charter", "defaults"]},
        "settings": {"type": "object"},
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "title", "k", "p", "P", "C", "B", "lift", "class", "regions"],
                "properties": {
                    "id": {"type": "string"},
                    "title": {"type": "string"},
                    "k": {"type": "object", "description": "Region → organisations that raised it."},
                    "p": {**NUMBERS, "description": "Prevalence (k + ½) / (n + 1)."},
                    "P": {"type": ["number", "null"], "description": "Mean prevalence, regions equal."},
                    "C": {"type": ["number", "null"], "description": "Commonality: 1 is even everywhere."},
                    "B": {"type": ["number", "null"], "description": "Share of regions that raised it."},
                    "lift": {**NUMBERS, "description": "Prevalence over the mean."},
                    "class": {
                        "enum": ["common", "uneven", "unique", "shared-subset", "scattered", "insufficient"],
                    },
                    "regions": {"type": "array", "items": {"type": "string"}},
                    "change": {"type": "object"},
                },
            },
        },
    },
}


SIMILARITY_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["method", "n", "similarity"],
    "properties": {
        "method": {"type": "string"},
        "n": {"type": "object"},
        "similarity": {"type": "object", "additionalProperties": NUMBERS},
        "concerns": {"type": "integer", "description": "Concerns it rests on."},
    },
}


@dataclass(frozen=True, slots=True)
class Reading:
    """Trends as one reader gets them, with what they were computed from."""

    organisations: dict[str, int]
    suppressed: tuple[str, ...]
    titles: dict[str, str]
    found: list[Trend]


async def read_trends(
    connection: Connection, caller: Caller, dimension: str, span: Span, as_of: datetime | None, thresholds: Thresholds
) -> Reading:
    """The trends of everything the caller may read; without a token, of the regions that may be published."""
    voices = await gather(connection, caller, dimension, span, as_of)
    organisations, counts = voices.organisations, voices.counts
    suppressed: tuple[str, ...] = ()
    if not caller.is_member:
        everywhere = {region: organisations.get(region, 0) for region in reference.REGIONS}
        suppressed = suppressed_regions(everywhere)
        organisations, kept = publishable(everywhere, counts)
        # An issue anyone may read is there whether or not it was raised; a topic only where it was.
        counts = {subject: kept.get(subject, {}) for subject in counts} if dimension == "issue" else kept
    found = trends(organisations, counts, thresholds)
    found.sort(key=lambda item: (-(item.mean or 0), -sum(item.counts.values()), voices.titles.get(item.subject, "")))
    return Reading(organisations, suppressed, voices.titles, found)


def _rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 4)


def trend_json(item: Trend, titles: dict[str, str], moved: dict[str, Change] | None) -> dict[str, Any]:
    """A trend on the wire, rounded to four decimals."""
    shown: dict[str, Any] = {
        "id": item.subject,
        "title": titles.get(item.subject, ""),
        "k": item.counts,
        "p": {region: _rounded(p) for region, p in item.prevalence.items()},
        "P": _rounded(item.mean),
        "C": _rounded(item.commonality),
        "B": _rounded(item.breadth),
        "lift": {region: _rounded(lift) for region, lift in item.lift.items()},
        "class": item.kind,
        "regions": list(item.regions),
    }
    if moved is not None:
        shown["change"] = {
            region: {"difference": _rounded(one.difference), "direction": one.direction}
            for region, one in moved.items()
        }
    return shown


def about(asked: dict[str, Any], in_force: InForce, reading: Reading) -> dict[str, Any]:
    """What every answer of analysis says of itself."""
    period: Span | None = asked["period"]
    return {
        "dimension": asked.get("dimension", "issue"),
        "period": None if period is None else period.as_json(),
        "as_of": asked["as_of"],
        "method": METHOD,
        **in_force.cited(),
        "settings": in_force.settings.trends.model_dump(mode="json"),
        "n": reading.organisations,
        "suppressed_regions": list(reading.suppressed),
    }


@router.get(
    "/v1/analysis/trends",
    operation_id="getTrends",
    summary="Which concerns are common to the regions and which belong to some",
    responses=responses(
        {200: answer_forms(TRENDS_SCHEMA, TREND_FORMS), 304: None}, "invalid-parameter", "not-acceptable"
    ),
    openapi_extra=described([*query_parameters(TREND_PARAMETERS), IF_NONE_MATCH], public("records:read")),
)
async def get_trends(request: Request, caller: PublicReader) -> Response:
    asked = read_query(request, TREND_PARAMETERS)
    form = wanted_format(request, asked["format"], TREND_FORMS)
    span: Span = asked["period"] or Span()
    database: Database = request.app.state.database
    async with database.connection() as connection:
        in_force = await settings_in_force(connection, asked["as_of"])
        thresholds = in_force.settings.trends.thresholds()
        reading = await read_trends(connection, caller, asked["dimension"], span, asked["as_of"], thresholds)
        before = None
        if asked["compare"] is not None:
            before = await read_trends(
                connection, caller, asked["dimension"], asked["compare"], asked["as_of"], thresholds
            )
    found = reading.found[: asked["limit"]]
    media_type = MEDIA_TYPES[form]
    if form == "csv":
        rows = trend_rows(found, reading.organisations, reading.suppressed, reading.titles)
        return computed(request, caller, as_csv(TREND_COLUMNS, rows), media_type=media_type)
    if form in ("svg", "text"):
        regions = [code for code in reference.REGIONS if code in {*reading.organisations, *reading.suppressed}]
        shown = Map(
            f"Concerns by region, {span.in_words()}",
            regions,
            reading.organisations,
            found,
            reading.titles,
            frozenset(reading.suppressed),
        )
        drawn = svg(shown) if form == "svg" else text_table(shown)
        return computed(request, caller, drawn.encode(), media_type=media_type)
    body = about(asked, in_force, reading)
    if before is not None:
        body["compare"] = {**asked["compare"].as_json(), "n": before.organisations}
    body["items"] = [trend_json(item, reading.titles, _moved(item, reading, before, thresholds)) for item in found]
    body["truncated"] = len(reading.found) > len(found)
    return computed(request, caller, body)


def _moved(item: Trend, reading: Reading, before: Reading | None, thresholds: Thresholds) -> dict[str, Change] | None:
    if before is None:
        return None
    earlier = next((one for one in before.found if one.subject == item.subject), None)
    if earlier is None:
        earlier = Trend(item.subject, dict.fromkeys(before.organisations, 0), item.kind)
    return change(earlier, item, before.organisations, reading.organisations, thresholds)


@router.get(
    "/v1/analysis/similarity",
    operation_id="getSimilarity",
    summary="How alike the concerns of two regions are: 1 alike, −1 opposite",
    responses=responses(
        {
            200: answer_forms(SIMILARITY_SCHEMA, TABLE_FORMS),
            304: None,
        },
        "invalid-parameter",
        "not-acceptable",
    ),
    openapi_extra=described([*query_parameters(SIMILARITY_PARAMETERS), IF_NONE_MATCH], public("records:read")),
)
async def get_similarity(request: Request, caller: PublicReader) -> Response:
    asked = read_query(request, SIMILARITY_PARAMETERS)
    form = wanted_format(request, asked["format"], TABLE_FORMS)
    database: Database = request.app.state.database
    async with database.connection() as connection:
        in_force = await settings_in_force(connection, asked["as_of"])
        thresholds = in_force.settings.trends.thresholds()
        reading = await read_trends(
            connection, caller, asked["dimension"], asked["period"] or Span(), asked["as_of"], thresholds
        )
    # Issues nobody raised are alike everywhere only because nobody raised them.
    raised = [item for item in reading.found if any(item.counts.values())]
    likeness = similarity(raised)
    if form == "csv":
        rows = [[first, *(_rounded(row[second]) for second in likeness)] for first, row in likeness.items()]
        return computed(request, caller, as_csv(["region", *likeness], rows), media_type=MEDIA_TYPES["csv"])
    body = about(asked, in_force, reading)
    body["similarity"] = {
        first: {second: _rounded(value) for second, value in row.items()} for first, row in likeness.items()
    }
    body["concerns"] = len(raised)
    return computed(request, caller, body)
