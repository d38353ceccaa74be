"""The catalogue of problems: stable codes, each with one meaning, published as they are."""

import re
from pathlib import Path

import pytest

import app.main  # noqa: F401 - every room registers its codes when it is imported
from app.http.problem import CODES, Fault, Problem, register
from app.http.problem_table import table

PAGE = Path(__file__).parents[2] / "docs" / "problems.md"


def test_the_page_is_the_catalogue() -> None:
    assert PAGE.read_text() == table(), "run ./minga openapi --write"


def test_codes_are_kebab_case_with_a_sentence() -> None:
    for code, (status, title) in CODES.items():
        assert re.fullmatch("[a-z]+(-[a-z]+)*", code)
        assert 400 <= status < 600
        assert title.endswith(".")


def test_a_code_has_one_meaning() -> None:
    register({"not-found": CODES["not-found"]})
    with pytest.raises(ValueError, match="already means"):
        register({"not-found": (410, "Another meaning.")})


def test_an_unknown_code_cannot_be_raised() -> None:
    with pytest.raises(LookupError):
        Problem("no-such-code")


def test_a_fault_shows_its_detail_only_when_there_is_one() -> None:
    assert Fault("/a", "b").as_json() == {"pointer": "/a", "code": "b"}
    assert Fault("/a", "b", "c").as_json() == {"pointer": "/a", "code": "b", "detail": "c"}
