"""Cells: a record as a row of CSV and back, without loss and without a formula a spreadsheet would run.

Texts stand as they are; lists of codes and ids are joined with `;`; every other structure is JSON. An empty cell is a
missing value.

A spreadsheet takes for a formula what begins with a sign such as `=`, and what is a cell to it depends on its settings:
in French, Spanish, Portuguese or Serbian ones it splits a line at `;`, and some split at tabs, `|`, or line breaks
within quotes. So an apostrophe is put in front wherever a cell could begin, at its start and after each such separator,
when a sign follows, maybe behind quotes and blanks that spreadsheets drop. Where apostrophes stand before a sign
already there is one more, so reading takes exactly one away at each such place and has the text as it was.

Source: safety I7 (OWASP, CSV injection); RFC 4180; docs/decisions/0406-apostrophes-within-cells.md.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args, get_origin
from uuid import UUID

import orjson
from pydantic import BaseModel

from app.http.problem import Fault, Problem
from app.records.fields import LANGUAGE_TAG
from app.records.kind import Kind

BLANKS = r" \x0b\x0c\x1c-\x1f\x85\xa0\u1680\u2000-\u200b\u2028\u2029\u202f\u205f\u3000\ufeff"
SIGN = f"[{BLANKS}'\"]*[=+\\-@＝＋－＠\t\r\n]"
"""What a spreadsheet might run: a sign (also in its wide form), or a tab or line break it drops before one, behind
quotes and blanks it drops. No separator is among these, so looking for it takes time in proportion to the text."""
BEGINS_SIGN = re.compile(SIGN)
SEPARATOR_BEFORE_SIGN = re.compile(f"[,;|\t\r\n](?={SIGN})")
ARMED = re.compile(f"(?:\\A|(?<=[,;|\t\r\n]))'(?={SIGN})")
ENVELOPE = (
    "id",
    "kind",
    "url",
    "organisation",
    "organisation_name",
    "external_id",
    "tlp",
    "audience",
    "status",
    "stage",
    "version",
    "created_at",
    "updated_at",
    "published_at",
)
"""Columns of every kind, before those of its body. What is written is what may be imported again."""

LIST_CELLS = frozenset({"audience"})
NUMBER_CELLS = frozenset({"version"})


def columns(kind: Kind) -> tuple[str, ...]:
    """The columns of a kind, in an order that does not change but for new ones at the end of the body's."""
    return (*ENVELOPE, *kind.body.model_fields)


def _is_plain(value: Any) -> bool:
    """Whether a list of such texts can be joined: each comes back as it was from between two `;`."""
    return (
        isinstance(value, str) and value != "" and ";" not in value and value[0] not in '["{' and value == value.strip()
    )


def _cell(value: Any) -> str:
    if value is None or value == []:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(_is_plain(one) for one in value):
        return ";".join(value)
    return orjson.dumps(value).decode()


def written(values: Iterable[Any]) -> list[str]:
    """The cells for values of a body."""
    cells = [_cell(value) for value in values]
    # Few rows hold a sign at such a place, and one search in all of them costs less than one in each cell.
    return [_armed(cell) for cell in cells] if SEPARATOR_BEFORE_SIGN.search("," + ",".join(cells)) else cells


def _armed(cell: str) -> str:
    if SEPARATOR_BEFORE_SIGN.search(cell):
        cell = SEPARATOR_BEFORE_SIGN.sub(lambda separator: f"{separator[0]}'", cell)
    return f"'{cell}" if BEGINS_SIGN.match(cell) else cell


def row(kind: Kind, record: Mapping[str, Any]) -> list[str]:
    """The row of a record in its full view."""
    flat = {
        **record,
        "organisation": record["organisation"]["id"],
        "organisation_name": record["organisation"]["name"],
    }
    return written(flat.get(name) for name in columns(kind))


def lines(rows: Sequence[Sequence[str]]) -> bytes:
    """Rows as CSV with CRLF."""
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerows(rows)
    return out.getvalue().encode()


def read(kind: Kind, cells: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The body a row stands for, and its texts in other languages (column `title@fr`), by language.

    Empty cells are left out. What cannot be read as the structure it should be stays text, which validation then
    refuses at its place. Errors: 422 `invalid-body` for a translation of what is no text, or to no language.
    """
    record: dict[str, Any] = {}
    translations: dict[str, dict[str, Any]] = {}
    for name, cell in cells.items():
        if cell == "" or name in ("url", "organisation_name"):
            continue
        text = ARMED.sub("", cell) if "'" in cell else cell
        field, at, language = name.partition("@")
        if not at:
            record[name] = _structure(kind, name, text)
        elif field not in kind.body.model_fields or field == "language" or not LANGUAGE_TAG.fullmatch(language):
            raise Problem("invalid-body", errors=[Fault("", "unknown-translation")])
        else:
            translations.setdefault(language, {})[field] = _structure(kind, field, text)
    return record, translations


def unknown_columns(kind: Kind, names: Sequence[str]) -> list[Fault]:
    """A fault for each column that no record of the kind has."""
    known = {*columns(kind)}
    return [
        Fault(f"/columns/{place}", "unknown-column")
        for place, name in enumerate(names)
        if name.partition("@")[0] not in known
    ]


def _structure(kind: Kind, name: str, text: str) -> Any:
    if name in NUMBER_CELLS:
        return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else text
    if name not in LIST_CELLS and name not in kind.body.model_fields:
        return text
    forms = {list} if name in LIST_CELLS else set(_forms(kind.body.model_fields[name].annotation))
    if forms <= {str}:
        return text
    if text[0] in '[{"' or forms & {int, float, bool}:
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return text
    return [part.strip() for part in text.split(";") if part.strip()] if list in forms else text


def _forms(annotation: Any) -> list[type]:
    """What a field may be: `str` (also ids and codes), `list`, `dict`, numbers."""
    origin = get_origin(annotation)
    if origin in (list, tuple, set):
        return [list]
    if origin is dict:
        return [dict]
    if get_args(annotation):
        return [form for inner in get_args(annotation) for form in _forms(inner) if inner is not type(None)]
    if isinstance(annotation, type):
        if issubclass(annotation, BaseModel):
            return [dict]
        if issubclass(annotation, bool):
            return [bool]
        if issubclass(annotation, int) and not issubclass(annotation, str):
            return [int]
        if issubclass(annotation, float):
            return [float]
        if issubclass(annotation, str | UUID):
            return [str]
    return []
