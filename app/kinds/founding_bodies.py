"""How an entry of the founding data becomes the body of a record: what it says in a language, and its facts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from app.kinds.events import EVENTS, ParticipantKind
from app.kinds.findings import FINDINGS
from app.kinds.issue_lists import ISSUE_LISTS
from app.kinds.issues import ISSUES
from app.kinds.resources import RESOURCES
from app.records.kind import Kind

LANGUAGE = "en"
LICENCE = "CC0-1.0"
SERIES = "cop-consultations"
LICENCE_NOTES = {
    "en": "The licence is that of this entry; the product itself has its makers' own terms.",
    "fr": "La licence est celle de cette fiche ; le produit lui-même relève des conditions de ses auteurs.",
    "es": "La licencia es la de esta ficha; el producto mismo se rige por las condiciones de sus autores.",
}

Entry = Mapping[str, Any]
Ids = Mapping[str, UUID]


def sources_of(data: Entry, entry: Entry) -> list[dict[str, Any]]:
    """Where an entry comes from: document and lines; an issue of ours also rests on what its findings rest on."""
    titles = {source["file"]: source["title"][LANGUAGE] for source in data["sources"]}
    resting_on = {*entry.get("findings", ()), *entry.get("questions", ())}
    places = list(entry.get("sources", ()))
    for other in (*data["findings"], *data["questions"]):
        if other["id"] in resting_on:
            places += other["sources"]
    found = [
        {
            "title": titles[place["file"]],
            "locator": _lines(*place["lines"]),
            "basis": entry.get("basis", "derived"),
        }
        for place in places
    ]
    return [source for index, source in enumerate(found) if source not in found[:index]]


def _lines(first: int, last: int) -> str:
    return f"line {first}" if first == last else f"lines {first}–{last}"


def _objectives(data: Entry, event: Entry) -> list[Entry]:
    def of_event(objective: Entry) -> bool:
        named = objective["event"]
        return bool(event["id"] == named if isinstance(named, str) else event["id"] in named)

    return [objective for objective in data["objectives"] if of_event(objective)]


def event_texts(data: Entry, entry: Entry, language: str) -> dict[str, Any]:
    """What an event says in one language."""
    title = entry["name"][language]
    purpose = entry.get("purpose", {}).get(language)
    return {
        "title": title,
        "summary": purpose or title,
        "purpose": purpose,
        "objectives": [{"text": objective["statement"][language]} for objective in _objectives(data, entry)],
        "outcomes": [outcome[language] for outcome in entry.get("outcomes", ())],
    }


def event_facts(data: Entry, entry: Entry, ids: Ids) -> dict[str, Any]:
    """What of an event needs no translation."""
    regions, kinds = entry.get("participants_from", []), entry.get("participant_kinds", [])
    known = [kind for kind in kinds if kind in set(ParticipantKind)]
    described = [kind for kind in kinds if kind not in known]
    participants = {
        "kinds": known + (["practitioner"] if described else []),
        "regions": regions,
        "note": "; ".join(described) or None,
    }
    return {
        "event_type": entry["kind"],
        "period": {"start": entry["start"], "end": entry["end"]} if entry["start"] else None,
        "date_note": entry.get("date_conflict") or entry.get("date_note"),
        "place": entry["city"],
        "countries": [entry["country"]],
        "series": SERIES if "series_no" in entry else None,
        "series_number": entry.get("series_no"),
        "roles": [{"organisation": str(ids[role["org"]]), "role": role["role"]} for role in entry["roles"]],
        "participants": participants if regions or kinds else None,
    }


def finding_texts(data: Entry, entry: Entry, language: str) -> dict[str, Any]:
    """What a finding says in one language."""
    statement = entry["statement"][language]
    return {"title": statement, "summary": statement, "statement": statement}


def finding_facts(data: Entry, entry: Entry, ids: Ids) -> dict[str, Any]:
    """What of a finding needs no translation."""
    return {
        "finding_type": entry["kind"],
        "regions": entry["regions"],
        "topics": entry["topics"],
        "events": [str(ids[event]) for event in entry["from_events"]],
    }


def issue_texts(data: Entry, entry: Entry, language: str) -> dict[str, Any]:
    """What an issue says in one language."""
    return {"title": entry["title"][language], "summary": entry["title"][language]}


def issue_facts(data: Entry, entry: Entry, ids: Ids) -> dict[str, Any]:
    """What of an issue needs no translation."""
    return {
        "regions": entry["regions_seen"],
        "topics": entry["topics"],
        "findings": [str(ids[finding]) for finding in entry["findings"]],
    }


def list_texts(data: Entry, entry: Entry, language: str) -> dict[str, Any]:
    """What an issue list says in one language."""
    return {"title": entry["title"][language], "summary": entry["note"][language]}


def list_facts(data: Entry, entry: Entry, ids: Ids) -> dict[str, Any]:
    """What of an issue list needs no translation. Its sources are those of its issues."""
    members = [issue for issue in data["issues"] if issue["id"] in entry["issues"]]
    sources = [source for issue in members for source in sources_of(data, issue)]
    return {
        "edition": entry["version"],
        "ordered": entry["ordered"],
        "items": [{"issue": str(ids[issue])} for issue in entry["issues"]],
        "sources": [source for index, source in enumerate(sources) if source not in sources[:index]],
    }


def product_texts(data: Entry, entry: Entry, language: str) -> dict[str, Any]:
    """What a product says in one language."""
    title = entry["name"][language]
    return {
        "title": title,
        "summary": entry.get("use", {}).get(language) or title,
        "description": LICENCE_NOTES[language],
    }


def product_facts(data: Entry, entry: Entry, ids: Ids) -> dict[str, Any]:
    """What of a product needs no translation. A maker without an entry is called by its name."""
    names = {network["id"]: network["name"][LANGUAGE] for network in data["networks"] if "name" in network}
    maker = entry["owner"]
    return {
        "resource_type": "product",
        "licence": LICENCE,
        "product_type": entry["kind"],
        "topics": [entry["kind"]] if entry["kind"] else [],
        "creators": [{"organisation": str(ids[maker])} if maker in ids else {"name": names[maker]}],
    }


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the data: its name in the file, the kind of its records, and how an entry becomes a body."""

    name: str
    kind: Kind
    texts: Callable[[Entry, Entry, str], dict[str, Any]]
    facts: Callable[[Entry, Entry, Ids], dict[str, Any]]


PARTS = (
    Part("events", EVENTS, event_texts, event_facts),
    Part("findings", FINDINGS, finding_texts, finding_facts),
    Part("issues", ISSUES, issue_texts, issue_facts),
    Part("common_issues_lists", ISSUE_LISTS, list_texts, list_facts),
    Part("products", RESOURCES, product_texts, product_facts),
)
"""In the order of their references: an entry refers to entries of earlier parts only."""
