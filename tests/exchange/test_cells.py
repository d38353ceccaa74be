"""Cells of CSV: every value comes back, and no spreadsheet finds a formula, wherever it thinks that cells begin."""

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from app.db.migrate import ROOT
from app.exchange import cells
from app.kinds import KINDS
from app.kinds.cases import CASES
from app.kinds.issues import ISSUES
from app.records.kind import Kind

GUIDE = ROOT / "docs" / "guides" / "exchange.md"
FORMULA = re.compile('[\\s"]*[=+\\-@＝＋－＠]')
"""What a spreadsheet runs, were it to drop all white space and quotes before."""
SPLITTERS = [",", ";", "|", "\t", ",;\t", ",;|\t"]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
thorough = settings(max_examples=400, derandomize=True, deadline=None)

TROUBLE = some.sampled_from([*"=+-@＝＋－＠;,|\t\r\n'\" \u00a0ab1[{}]:", '"=', "';=", "\r\n", "=HYPERLINK("])
texts = some.one_of(
    some.lists(TROUBLE, min_size=1, max_size=12).map("".join), some.text(some.characters(codec="utf-8"), min_size=1)
)


def table(*rows: list[str]) -> str:
    return cells.lines(rows).decode()


def honest(text: str) -> list[list[str]]:
    """The rows as the standard means them."""
    return list(csv.reader(io.StringIO(text, newline="")))


def split(text: str, separators: str, *, quotes: bool) -> Iterator[str]:
    """Every cell that a spreadsheet with these separators finds.

    With `quotes`, one that opens a cell holds separators and line breaks together until it closes, two stand for one,
    and what follows a closed quote belongs to the cell; anywhere else a quote is a character like others.
    """
    cell, quoted, place = "", False, 0
    while place < len(text):
        character, place = text[place], place + 1
        if quoted and character == '"':
            if text[place : place + 1] == '"':
                cell, place = cell + '"', place + 1
            else:
                quoted = False
        elif quotes and not quoted and not cell and character == '"':
            quoted = True
        elif not quoted and (character in separators or character in "\r\n"):
            yield cell
            cell = ""
        else:
            cell += character
    yield cell


def formulas(text: str) -> list[tuple[str, bool, str]]:
    """The cells that some spreadsheet would run: separators, whether it honours quotes, and the cell."""
    return [
        (separators, quotes, cell)
        for separators in SPLITTERS
        for quotes in (True, False)
        for cell in split(text, separators, quotes=quotes)
        if FORMULA.match(cell)
    ]


def test_the_splitters_find_what_is_not_armed() -> None:
    for cell in ("=1", "a;=1", 'a;"=1"', "a|+1", "a\t@x", "a\n-1", "b;\n ＝1", "a, =1"):
        assert formulas(f'id,"{cell.replace(chr(34), 2 * chr(34))}"\r\n'), cell
    assert not formulas("id,a=1;b-2|c@d\r\n")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("''=1", "'''=1"),
        ("'quoted'", "'quoted'"),
        ("a;=HYPERLINK(1)", "a;'=HYPERLINK(1)"),
        ('a;"=1+1"', 'a;\'"=1+1"'),
        ("a, -b", "a,' -b"),
        ("a\n- b\n- c", "a\n'- b\n'- c"),
        ("a;\t\n=b", "a;'\t'\n'=b"),
        ("＝1|＋1", "'＝1|'＋1"),
        ("1-2; 3=4, a@b", "1-2; 3=4, a@b"),
        (["police", "-x", "=y"], "police;'-x;'=y"),
        (["=a;b", "c"], '["=a;b","c"]'),
        (["a;b", "-c"], '["a;b",\'"-c"]'),
        ([" a", "b"], '[" a","b"]'),
        ([{"at": [1, -5]}], '[{"at":[1,\'-5]}]'),
    ],
)
def test_apostrophes_stand_where_a_cell_could_begin_with_a_sign(text: Any, cell: str) -> None:
    assert cells.written([text]) == [cell]
    assert not formulas(table([cell]))


@given(texts)
@thorough
def test_a_text_comes_back(text: str) -> None:
    ((cell,),) = honest(table(cells.written([text])))
    assert cell[0] not in "=+-@＝＋－＠\t\r\n"
    assert cells.read(ISSUES, {"summary": cell})[0]["summary"] == text


@given(some.lists(texts, min_size=1, max_size=5), some.booleans())
@thorough
def test_a_list_comes_back(texts: list[str], nested: bool) -> None:
    # Nested texts make the cell JSON, so this holds for what is read as JSON too.
    value = [{"text": one, "taken_on": "2025"} for one in texts] if nested else texts
    field = "steps" if nested else "lessons"
    ((cell,),) = honest(table(cells.written([value])))
    assert cells.read(CASES, {field: cell})[0][field] == value


@given(some.lists(some.lists(texts, min_size=3, max_size=3), min_size=1, max_size=3))
@thorough
def test_no_spreadsheet_finds_a_formula(rows: list[list[str]]) -> None:
    # The last row holds a whole list in its first cell, as codes that are joined or as JSON.
    written = table(*(cells.written(row) for row in rows), cells.written([rows[0], "a", "b"]))
    assert formulas(written) == []


@given(texts)
@thorough
def test_the_guide_says_how_others_read_a_cell(text: str) -> None:
    (snippet,) = re.findall(r"```python\n(import re\n.*?)```", GUIDE.read_text(), re.DOTALL)
    names = {"cell": cells.written([text])[0]}
    exec(snippet, names)
    assert names["cell"] == text


@every_kind
@given(texts)
@settings(max_examples=20, derandomize=True, deadline=None)
def test_every_example_comes_back_and_is_no_formula(kind: Kind, text: str) -> None:
    record = {**_with_texts(dict(kind.example), text), **ENVELOPE, "kind": kind.name, "external_id": text}
    row = cells.row(kind, record)
    written = table(list(cells.columns(kind)), row)
    assert formulas(written) == []
    back, _ = cells.read(kind, dict(zip(cells.columns(kind), honest(written)[1], strict=True)))
    organisation = ENVELOPE["organisation"]["id"]
    expected = {name: value for name, value in record.items() if value not in (None, []) and name != "url"}
    assert back == {**expected, "organisation": organisation}


def _with_texts(value: Any, text: str) -> Any:
    """The value with `text` behind each text in it that is longer than a code."""
    if isinstance(value, str):
        return f"{value}{text}" if " " in value else value
    if isinstance(value, list):
        return [_with_texts(one, text) for one in value]
    if isinstance(value, dict):
        return {name: _with_texts(one, text) for name, one in value.items()}
    return value


ENVELOPE: dict[str, Any] = {
    "id": "01980d9e-7a00-7000-8000-0000000000bb",
    "url": "https://minga.example.org/v1/x/01980d9e-7a00-7000-8000-0000000000bb",
    "organisation": {"id": "01980d9e-7a00-7000-8000-0000000000aa", "name": "=Example CSO A"},
    "tlp": "amber",
    "audience": ["01980d9e-7a00-7000-8000-0000000000cc", "01980d9e-7a00-7000-8000-0000000000dd"],
    "status": "draft",
    "stage": None,
    "version": 3,
    "created_at": "2026-01-01T00:00:00.000000Z",
    "updated_at": "2026-01-01T00:00:00.000000Z",
    "published_at": None,
}
