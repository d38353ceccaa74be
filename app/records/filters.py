"""Filters and orders of lists: query parameters turned into SQL over `record`.

A filter never tells more than the list itself would: what compares with another record or an organisation matches
only those the caller may see.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import orjson

from app import reference
from app.http import query
from app.http.query import Parser
from app.identity.caller import Caller
from app.identity.organisations import visible_organisations
from app.records.fields import LANGUAGE_TAG
from app.records.kind import Kind, Status, Tlp
from app.records.marking import visible_to
from app.records.words import search

VIEWS = ("brief", "full")


@dataclass(frozen=True, slots=True)
class Order:
    """An order of lists: the SQL of its key, its type for the cursor, and its direction."""

    key: str
    type: str
    descending: bool


SORTS = {
    "-created_at": Order("record.created_at", "timestamptz", True),
    "created_at": Order("record.created_at", "timestamptz", False),
    "-updated_at": Order("record.updated_at", "timestamptz", True),
    "updated_at": Order("record.updated_at", "timestamptz", False),
    "title": Order("record.title", "text", False),
    "-title": Order("record.title", "text", True),
    # Records without a date come last, whichever way the others run.
    "period": Order("coalesce(record.starts, '~')", "text", False),
    "-period": Order("coalesce(record.starts, ' ')", "text", True),
}


@dataclass(frozen=True, slots=True)
class Filter:
    """SQL conditions over `record` (empty: none), what they bind, and the statuses asked for (None: the default)."""

    sql: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    statuses: frozenset[str] | None = None


@cache
def list_parameters(kind: Kind) -> Mapping[str, Parser]:
    """Every query parameter that lists of this kind know."""
    sorts = [name for name in SORTS if "period" not in name or "period" in kind.body.model_fields]
    shared = {
        "limit": query.integer(1, 200, 20).described("Number of items on a page."),
        "cursor": query.text(2000).described("Where the page starts, as `next` names it."),
        "view": query.choice(*VIEWS, default="brief").described("`full` gives whole documents."),
        "fields": query.listed(query.text(60, pattern="[a-z_]+")).described("Only these fields of each item."),
        "count": query.boolean().described("Adds `total`, counted over at most 10,000 matches."),
        "sort": query.choice(*sorts, default=kind.sort).described("Order of the list."),
    }
    return {**shared, **filter_parameters(kind)}


@cache
def filter_parameters(kind: Kind) -> Mapping[str, Parser]:
    """The query parameters that narrow a set of records of this kind: the shared ones and the kind's own."""
    shared = {
        "organisation": query.many(query.uuid()).described("Owner organisation."),
        "country": query.many(query.choice(*reference.COUNTRIES)).described("ISO 3166-1 alpha-2."),
        "region": query.many(query.choice(*reference.REGIONS)).described("Region of the community's partition."),
        "topic": query.many(query.choice(*reference.TOPICS)).described("Concept of the vocabulary."),
        "language": query.many(query.text(12, pattern=LANGUAGE_TAG.pattern)).described("Language of the original."),
        "status": query.many(query.choice(*Status)).described(
            "Default: published, and your own drafts. `withdrawn` shows your own."
        ),
        "tlp": query.many(query.choice(*Tlp)).described("Marking."),
        "updated_since": query.instant().described("Changed at or after this instant."),
        "q": query.text(200).described(
            "Words to find, all of them; `-word` leaves out. Accents and case do not matter."
        ),
    }
    return shared | {
        name: query.many(_parser(kind, body_field)).described(f"Records whose `{body_field}` has this value.")
        for name, body_field in kind.filters.items()
    }


def _parser(kind: Kind, body_field: str) -> Parser:
    if body_field == "stage" or body_field not in kind.body.model_fields:
        return query.text(60, pattern="[a-z-]+")
    if any(path.relation == body_field for path in (*kind.refs, *kind.organisation_refs)):
        return query.uuid()
    for choice in _members(kind.body.model_fields[body_field].annotation):
        if isinstance(choice, type) and issubclass(choice, StrEnum):
            return query.choice(*choice)
        if choice is bool:
            return query.boolean()
    return query.text(200)


def _members(annotation: Any) -> list[Any]:
    """The plain types an annotation is made of."""
    origin = get_origin(annotation)
    if origin in (Annotated,):
        return _members(get_args(annotation)[0])
    if origin in (Union, UnionType, list, tuple):
        return [member for inner in get_args(annotation) for member in _members(inner)]
    return [annotation]


def narrowed(caller: Caller, kind: Kind, asked: Mapping[str, Any]) -> Filter:
    """The filter that query values (of `filter_parameters`) amount to, for this caller."""
    conditions: list[str] = []
    values: dict[str, Any] = {}
    for name in ("country", "region", "topic"):
        if asked[name]:
            # Codes of closed lists stand in the text, so that the planner knows how rare they are.
            listed = ", ".join(f"'{code}'" for code in asked[name])
            column = {"country": "countries", "region": "regions", "topic": "topics"}[name]
            conditions.append(f"record.{column} && ARRAY[{listed}]::text[]")
    for name, column in (("organisation", "organisation_id"), ("language", "language"), ("tlp", "tlp")):
        if asked[name]:
            conditions.append(f"record.{column} = ANY (%({name})s)")
            values[name] = list(asked[name])
    if asked["updated_since"] is not None:
        conditions.append("record.updated_at >= %(updated_since)s")
        values["updated_since"] = asked["updated_since"]
    if asked["q"] is not None:
        values["q"] = search(asked["q"])
        conditions.append("record.id IN (SELECT record_id FROM search_text WHERE words @@ %(q)s::tsquery)")
    for name, body_field in kind.filters.items():
        if asked[name]:
            sql, value = _particular(caller, kind, name, body_field, asked[name])
            conditions.append(sql)
            values |= value
    statuses = frozenset(asked["status"]) or None
    return Filter(" AND ".join(conditions), values, statuses)


def _particular(
    caller: Caller, kind: Kind, name: str, body_field: str, wanted: tuple[Any, ...]
) -> tuple[str, dict[str, Any]]:
    if body_field == "stage":
        return f"record.stage = ANY (%(own_{name})s)", {f"own_{name}": list(wanted)}
    if any(path.relation == body_field for path in kind.refs):
        return (
            f"EXISTS (SELECT 1 FROM link JOIN record AS target ON target.id = link.to_id"
            f" WHERE link.from_id = record.id AND link.relation = '{body_field}' AND link.to_id = ANY (%(own_{name})s)"
            f" AND {visible_to(caller, of='target')})",
            {f"own_{name}": list(wanted)},
        )
    if any(path.relation == body_field for path in kind.organisation_refs):
        predicate, values = visible_organisations(caller)
        return (
            f"EXISTS (SELECT 1 FROM organisation_link JOIN organisation"
            f" ON organisation.id = organisation_link.organisation_id"
            f" WHERE organisation_link.from_id = record.id AND organisation_link.relation = '{body_field}'"
            f" AND organisation.id = ANY (%(own_{name})s) AND {predicate})",
            {f"own_{name}": list(wanted), **values},
        )
    is_list = get_origin(kind.body.model_fields[body_field].annotation) is list
    alternatives = [f"record.content @> %(own_{name}_{index})s::jsonb" for index in range(len(wanted))]
    return "(" + " OR ".join(alternatives) + ")", {
        f"own_{name}_{index}": orjson.dumps({body_field: [value] if is_list else value}).decode()
        for index, value in enumerate(wanted)
    }
