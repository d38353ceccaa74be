"""Words: the folded copy of a record's text that search reads. The text itself is stored unchanged."""

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from app.records.kind import Kind
from app.records.render import without

MAX_CHARACTERS = 100_000


class _Marks(dict[int, int | None]):
    """For `str.translate`: combining marks go, all else stays. Each character is looked up once, then remembered."""

    def __missing__(self, code: int) -> int | None:
        kept = None if unicodedata.combining(chr(code)) else code
        self[code] = kept
        return kept


_without_marks = _Marks()


def fold(text: str) -> str:
    """Lower case without accents: `Sécurité` and `securite` fold to one."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKD", text.casefold()).translate(_without_marks)


def folded_words(kind: Kind, body: Mapping[str, Any]) -> str:
    """Every text of a body that all its readers see, folded, cut at 100,000 characters.

    References, and the list elements around them, are left out: some readers do not see them, and a search that found
    a record by an id or a note would tell them.
    """
    shown: Any = body
    for path in (*kind.refs, *kind.organisation_refs):
        shown = without(shown, path.steps, frozenset(found for _, found in path.find(body)))
    return fold(" ".join(_texts(shown)))[:MAX_CHARACTERS]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
