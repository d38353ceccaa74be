"""Bad input, field by field: each is refused with the pointer and code that say what is wrong."""

from typing import Any

import pytest

from app.kinds.cases import CASES
from app.kinds.events import EVENTS
from app.kinds.findings import FINDINGS
from app.kinds.issue_lists import ISSUE_LISTS
from app.kinds.issues import ISSUES
from app.kinds.resources import RESOURCES
from app.records.kind import Kind
from tests.kinds.bodies import OTHER, created, refusal

MINIMAL = {"title": "A title", "language": "en"}

SHARED: list[tuple[dict[str, Any], str, str]] = [
    ({"title": ""}, "/title", "string-too-short"),
    ({"title": "x" * 201}, "/title", "string-too-long"),
    ({"title": " \u200b "}, "/title", "blank"),
    ({"title": "abc\u202edef"}, "/title", "bidi-control"),
    ({"title": 5}, "/title", "string-type"),
    ({"language": "english"}, "/language", "unknown-language"),
    ({"language": "xx"}, "/language", "unknown-language"),
    ({"language": "FR"}, "/language", "unknown-language"),
    ({"summary": "x" * 2001}, "/summary", "string-too-long"),
    ({"summary": "  "}, "/summary", "blank"),
    ({"countries": ["ZZ"]}, "/countries/0", "unknown-country"),
    ({"countries": ["cd"]}, "/countries/0", "string-pattern-mismatch"),
    ({"countries": "CD"}, "/countries", "list-type"),
    ({"regions": ["XYZ"]}, "/regions/0", "unknown-region"),
    ({"topics": ["police", "unheard-of"]}, "/topics/1", "unknown-topic"),
    ({"licence": "GPL"}, "/licence", "unknown-licence"),
    ({"licence": "LicenseRef-mine"}, "/licence", "unknown-licence"),
    ({"sources": [{}]}, "/sources/0/title", "required"),
    ({"sources": [{"title": "A book", "url": "javascript:alert(1)"}]}, "/sources/0/url", "string-pattern-mismatch"),
    ({"sources": [{"title": "A book", "basis": "hearsay"}]}, "/sources/0/basis", "string-pattern-mismatch"),
]

PARTICULAR: list[tuple[Kind, dict[str, Any], str, str]] = [
    (ISSUES, {"findings": ["not-an-id"]}, "/findings/0", "invalid-id"),
    (ISSUES, {"targets": ["funding-access"]}, "/targets/0", "topic-outside-branch"),
    (ISSUES, {"targets": ["institutions"]}, "/targets/0", "topic-outside-branch"),
    (ISSUES, {"levels": ["galactic"]}, "/levels/0", "enum"),
    (ISSUES, {"context_tags": ["peace"]}, "/context_tags/0", "enum"),
    (ISSUES, {"contexts": [{"applies": "yes"}]}, "/contexts/0/applies", "bool-type"),
    (ISSUES, {"contexts": [{"applies": False}]}, "/contexts/0", "context-empty"),
    (ISSUE_LISTS, {"items": [{"note": "x"}]}, "/items/0/issue", "required"),
    (ISSUE_LISTS, {"items": [OTHER]}, "/items/0", "object-required"),
    (ISSUE_LISTS, {"items": [{"issue": OTHER}, {"issue": OTHER}]}, "/items/1/issue", "duplicate"),
    (
        ISSUE_LISTS,
        {
            "items": [
                {"issue": OTHER, "regional_notes": [{"region": "AFR", "note": "a"}, {"region": "AFR", "note": "b"}]}
            ]
        },
        "/items/0/regional_notes/1/region",
        "duplicate",
    ),
    (ISSUE_LISTS, {"ordered": "true"}, "/ordered", "bool-type"),
    (ISSUE_LISTS, {"period": {"start": "2027", "end": "2026"}}, "/period", "period-order"),
    (CASES, {"period": "2017-13"}, "/period", "invalid-date"),
    (CASES, {"period": {"start": "2017-02-30"}}, "/period/start", "invalid-date"),
    (CASES, {"period": {"end": "2017"}}, "/period/start", "required"),
    (CASES, {"period": {"start": "2018-03", "end": "2018-02-28"}}, "/period", "period-order"),
    (CASES, {"institutions": ["human-rights"]}, "/institutions/0", "topic-outside-branch"),
    (CASES, {"institutions": ["oversight-actors"]}, "/institutions/0", "topic-outside-branch"),
    (CASES, {"entry_point": "police"}, "/entry_point", "topic-outside-branch"),
    (CASES, {"functions": ["advocacy"]}, "/functions/0", "unknown-topic"),
    (CASES, {"functions": ["police"]}, "/functions/0", "topic-outside-branch"),
    (CASES, {"outcome": "victory"}, "/outcome", "enum"),
    (CASES, {"contribution": "huge"}, "/contribution", "enum"),
    (CASES, {"relationship": "married"}, "/relationship", "enum"),
    (CASES, {"activity_type": ["advocacy"]}, "/activity_type", "enum"),
    (CASES, {"perspective": "mine"}, "/perspective", "enum"),
    (CASES, {"steps": [{"taken_on": "2017"}]}, "/steps/0/text", "required"),
    (CASES, {"resources_used": {"people": -1}}, "/resources_used/people", "greater-than-equal"),
    (CASES, {"resources_used": {"people": "4"}}, "/resources_used/people", "int-type"),
    (CASES, {"resources_used": {"money": 12}}, "/resources_used/money", "enum"),
    (CASES, {"lessons": ["x"] * 21}, "/lessons", "too-long"),
    (CASES, {"partners": [{"part_taken": "Helped."}]}, "/partners/0", "organisation-or-name"),
    (CASES, {"partners": [{"name": "Example CSO B", "organisation": OTHER}]}, "/partners/0", "organisation-or-name"),
    (CASES, {"period": "2017-05", "outcome_on": "2017-04-30"}, "/outcome_on", "outcome-before-start"),
    (CASES, {"claims": []}, "", "unknown-field"),
    (RESOURCES, {"resource_type": "book"}, "/resource_type", "enum"),
    (RESOURCES, {"product_type": "police"}, "/product_type", "topic-outside-branch"),
    (RESOURCES, {"creators": [{}]}, "/creators/0", "organisation-or-name"),
    (RESOURCES, {"languages": ["en", "klingon"]}, "/languages/1", "unknown-language"),
    (RESOURCES, {"available_at": ["ftp://example.org/x"]}, "/available_at/0", "string-pattern-mismatch"),
    (
        RESOURCES,
        {"identifiers": [{"scheme": "doi", "value": "doi:10.1/x"}]},
        "/identifiers/0/value",
        "invalid-identifier",
    ),
    (
        RESOURCES,
        {"identifiers": [{"scheme": "isbn", "value": "978-3-16-148410-1"}]},
        "/identifiers/0/value",
        "invalid-identifier",
    ),
    (RESOURCES, {"identifiers": [{"scheme": "isbn", "value": "X"}]}, "/identifiers/0/value", "invalid-identifier"),
    (RESOURCES, {"identifiers": [{"scheme": "orcid", "value": "1"}]}, "/identifiers/0/scheme", "enum"),
    (RESOURCES, {"related_resources": [{"relation": "cites"}]}, "/related_resources/0/resource", "required"),
    (RESOURCES, {"uptake": [{"uptake_type": "citation"}]}, "/uptake/0/note", "required"),
    (EVENTS, {"event_type": "party"}, "/event_type", "enum"),
    (EVENTS, {"roles": [{"role": "boss", "name": "Example CSO A"}]}, "/roles/0/role", "enum"),
    (EVENTS, {"roles": [{"role": "host"}]}, "/roles/0", "organisation-or-name"),
    (EVENTS, {"roles": [{"role": "host", "organisation": OTHER, "name": "x"}]}, "/roles/0", "organisation-or-name"),
    (EVENTS, {"participants": {"count": 2.5}}, "/participants/count", "int-type"),
    (EVENTS, {"participants": {"names": ["Somebody"]}}, "/participants", "unknown-field"),
    (EVENTS, {"objectives": [{"reached": True}]}, "/objectives/0/text", "required"),
    (EVENTS, {"series_number": 3}, "/series", "series-required"),
    (EVENTS, {"series": "A", "series_number": 0}, "/series_number", "greater-than-equal"),
    (FINDINGS, {"finding_type": "rumour"}, "/finding_type", "enum"),
    (FINDINGS, {"events": [OTHER, 3]}, "/events/1", "invalid-id"),
    (FINDINGS, {"strength": 0}, "/strength", "greater-than-equal"),
    (FINDINGS, {"level": "village"}, "/level", "enum"),
]


@pytest.mark.parametrize(("given", "pointer", "code"), SHARED)
def test_shared_fields_refuse_what_they_cannot_be(given: dict[str, Any], pointer: str, code: str) -> None:
    assert refusal(FINDINGS, {**MINIMAL, **given}) == ("invalid-body", {(pointer, code)})


@pytest.mark.parametrize(("kind", "given", "pointer", "code"), PARTICULAR)
def test_particular_fields_refuse_what_they_cannot_be(
    kind: Kind, given: dict[str, Any], pointer: str, code: str
) -> None:
    assert refusal(kind, {**MINIMAL, **given}) == ("invalid-body", {(pointer, code)})


def test_a_bare_string_is_the_start_of_a_period() -> None:
    assert created(CASES, {**MINIMAL, "period": "2017-07"}).body["period"] == {"start": "2017-07", "end": None}


def test_regions_are_those_given_and_those_of_the_countries() -> None:
    body = created(FINDINGS, {**MINIMAL, "regions": ["EUR"], "countries": ["CD", "CD", "EG"]}).body
    assert body["countries"] == ["CD", "EG"]
    assert body["regions"] == ["AFR", "EUR", "MENA"]


def test_identifiers_with_hyphens_and_both_lengths_of_isbn_pass() -> None:
    schemes = [("isbn", "978-3-16-148410-0"), ("isbn", "0-8044-2957-X"), ("doi", "10.1000/182"), ("other", "A 1")]
    identifiers = [{"scheme": scheme, "value": value} for scheme, value in schemes]
    assert refusal(RESOURCES, {**MINIMAL, "identifiers": identifiers}) == ("", set())


def test_the_summary_of_a_published_case_has_at_most_250_words() -> None:
    body = {**CASES.example, "status": "published", "summary": "word " * 250}
    assert refusal(CASES, body) == ("", set())
    assert refusal(CASES, {**body, "summary": "word " * 251}) == ("invalid-body", {("/summary", "summary-too-long")})
    assert refusal(CASES, {**body, "summary": "word " * 251, "status": "draft"}) == ("", set())


@pytest.mark.parametrize("place", [{"regions": ["AFR"]}, {"countries": ["CD"]}])
def test_a_finding_needs_a_region_or_a_country(place: dict[str, Any]) -> None:
    body = {**MINIMAL, "summary": "In short.", "finding_type": "need", "status": "published"}
    assert refusal(FINDINGS, {**body, **place}) == ("", set())


@pytest.mark.parametrize("date", [{"period": "2017"}, {"date_note": "Some time after 2017."}])
def test_an_event_needs_a_period_or_a_word_on_why_there_is_none(date: dict[str, Any]) -> None:
    body = {**MINIMAL, "summary": "In short.", "event_type": "webinar", "status": "published"}
    assert refusal(EVENTS, {**body, **date}) == ("", set())


def test_a_case_takes_concepts_of_both_branches_as_institutions() -> None:
    body = {**MINIMAL, "institutions": ["police", "parliamentary-committee", "military-justice"]}
    assert refusal(CASES, body) == ("", set())
