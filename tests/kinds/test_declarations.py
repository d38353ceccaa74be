"""What must hold for every kind, whatever it is about."""

import ast
from pathlib import Path
from typing import Any, cast

import pytest

from app import kinds
from app.kinds import KINDS
from app.kinds.vocabulary import ContextTag, Level, Perspective
from app.records.kind import Kind, Tlp
from tests.kinds.bodies import created, refusal

ROOM = Path(kinds.__file__).parent
KIND_FILES = ("issues", "issue_lists", "cases", "resources", "events", "findings", "charters", "actions")
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: cast(Kind, kind).plural)

NEEDED: dict[str, set[str]] = {
    "issues": set(),
    "issue-lists": set(),
    "cases": {"/countries", "/institutions", "/period", "/outcome"},
    "resources": {"/resource_type", "/licence"},
    "events": {"/event_type", "/period"},
    "findings": {"/finding_type", "/regions"},
    "charters": {"/part", "/text"},
    "actions": {"/period"},
}
LABELS = {"cases": Tlp.AMBER_STRICT, "charters": Tlp.CLEAR}
SET_BY_VERBS = {"adopted_on", "minutes", "recorded_at"}


def test_the_kinds_are_those_of_the_contract() -> None:
    assert [kind.plural for kind in KINDS] == list(NEEDED)


@each_kind
def test_a_title_and_a_language_make_a_draft(kind: Kind) -> None:
    state = created(kind, {"title": "A title", "language": "fr"})
    assert state.status == "draft"
    assert state.marking.tlp == LABELS.get(kind.plural, Tlp.GREEN)


@each_kind
@pytest.mark.parametrize("missing", ["title", "language"])
def test_a_draft_needs_title_and_language(kind: Kind, missing: str) -> None:
    body = {"title": "A title", "language": "fr"}
    del body[missing]
    assert refusal(kind, body) == ("invalid-body", {(f"/{missing}", "required")})


@each_kind
def test_publishing_needs_what_the_contract_says(kind: Kind) -> None:
    body = {"title": "A title", "language": "fr", "status": "published"}
    wanted = {(pointer, "required-to-publish") for pointer in {"/summary", *NEEDED[kind.plural]}}
    assert refusal(kind, body) == ("not-publishable", wanted)


@each_kind
def test_the_example_can_be_published_as_it_stands(kind: Kind) -> None:
    assert refusal(kind, {**kind.example, "status": "published"}) == ("", set())


@each_kind
def test_the_example_shows_every_field_that_needs_no_other_record(kind: Kind) -> None:
    references = {path.steps[0] for path in (*kind.refs, *kind.organisation_refs)}
    hidden = {"sources", "licence", "countries", "regions", "date_note", *references, *SET_BY_VERBS}
    assert set(kind.body.model_fields) - set(kind.example) <= hidden


@each_kind
def test_every_filter_compares_with_a_field_of_the_body(kind: Kind) -> None:
    assert set(kind.filters.values()) <= {*kind.body.model_fields, "stage"}


@each_kind
def test_no_field_hides_one_the_service_sets(kind: Kind) -> None:
    set_by_service = {"id", "kind", "url", "organisation", "status", "stage", "version", "tlp", "audience"}
    assert set_by_service.isdisjoint(kind.body.model_fields)


@each_kind
def test_every_list_and_every_text_has_a_limit(kind: Kind) -> None:
    """A body cannot grow without bound: lists and texts say how much they take, at every depth."""
    schema = kind.body.model_json_schema()

    def unlimited(node: Any, path: str) -> list[str]:
        if isinstance(node, list):
            return [found for index, item in enumerate(node) for found in unlimited(item, f"{path}/{index}")]
        if not isinstance(node, dict):
            return []
        found = [path] if node.get("type") == "array" and "maxItems" not in node else []
        bounded = {"maxLength", "pattern", "enum", "format", "const"} & node.keys()
        if node.get("type") == "string" and not bounded:
            found.append(path)
        return found + [
            inner
            for key, item in node.items()
            if key not in ("examples", "default")
            for inner in unlimited(item, f"{path}/{key}")
        ]

    assert unlimited(schema, "") == []


@each_kind
def test_unknown_fields_are_refused_at_every_depth(kind: Kind) -> None:
    code, faults = refusal(kind, {**kind.example, "surprise": 1})
    assert (code, faults) == ("invalid-body", {("", "unknown-field")})
    for name, value in kind.example.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            body = {**kind.example, name: [{**value[0], "surprise": 1}]}
            assert refusal(kind, body) == ("invalid-body", {(f"/{name}/0", "unknown-field")})


@pytest.mark.parametrize("name", KIND_FILES)
def test_kinds_never_import_each_other(name: str) -> None:
    tree = ast.parse((ROOM / f"{name}.py").read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    others = {f"app.kinds.{other}" for other in KIND_FILES}
    assert imported.isdisjoint(others)


@pytest.mark.parametrize("enum", [Level, Perspective, ContextTag], ids=lambda enum: enum.__name__)
def test_shared_words_are_documented(enum: type) -> None:
    assert enum.__doc__
    assert "enumeration" not in enum.__doc__
