"""SKOS: the topics as linked data (JSON-LD 1.1)."""

from typing import Any

import orjson

from app import reference

SKOS = "http://www.w3.org/2004/02/skos/core#"

CONTEXT: dict[str, Any] = {
    "skos": SKOS,
    "id": "@id",
    "type": "@type",
    "prefLabel": {"@id": "skos:prefLabel", "@container": "@language"},
    "altLabel": {"@id": "skos:altLabel", "@container": "@language"},
    "notation": "skos:notation",
    **{
        name: {"@id": f"skos:{name}", "@type": "@id"}
        for name in ("inScheme", "topConceptOf", "hasTopConcept", "broader", "narrower", "related")
    },
}


def scheme_of(scheme: str) -> dict[str, Any]:
    tops = [topic.id for topic in reference.TOPICS.values() if topic.parent is None]
    return {
        "id": scheme,
        "type": "skos:ConceptScheme",
        "prefLabel": {"en": "Topics of security sector reform"},
        "hasTopConcept": [f"{scheme}/{top}" for top in tops],
    }


def concept_of(topic: reference.Topic, scheme: str) -> dict[str, Any]:
    """The concept in the terms of SKOS. Source: W3C Recommendation SKOS Reference, 2009."""
    place = {"topConceptOf": scheme} if topic.parent is None else {"broader": f"{scheme}/{topic.parent}"}
    return {
        "id": f"{scheme}/{topic.id}",
        "type": "skos:Concept",
        "inScheme": scheme,
        "notation": topic.id,
        "prefLabel": dict(topic.labels),
        "altLabel": {tag: list(words) for tag, words in topic.alt_labels.items()},
        **place,
        "narrower": [f"{scheme}/{name}" for name in topic.narrower],
        "related": [f"{scheme}/{name}" for name in topic.related],
    }


def documents(scheme: str) -> tuple[bytes, dict[str, bytes]]:
    """The whole scheme as one document, and each concept as its own. `scheme` is the address of the vocabulary."""
    concepts = {topic.id: concept_of(topic, scheme) for topic in reference.TOPICS.values()}
    whole = orjson.dumps({"@context": CONTEXT, "@graph": [scheme_of(scheme), *concepts.values()]})
    return whole, {name: orjson.dumps({"@context": CONTEXT, **concept}) for name, concept in concepts.items()}
