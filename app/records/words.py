"""Words: the folded copy of a record's text that search reads. The text itself is stored unchanged.

Words are taken apart here, for records and for searches alike: PostgreSQL's parser costs ten times as much, which was
half of what storing a record took (docs/measurements.md).
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from app.records.kind import Kind
from app.records.render import without

MAX_CHARACTERS = 100_000
LONGEST_WORD = 64

_WORD = re.compile(r"\w+")
_SPACED = str.maketrans({chr(code): " " for code in range(128) if not (chr(code).isalnum() or chr(code) == "_")})
"""What stands between words in ASCII: splitting at it takes a third of the time the expression takes."""
_PART = re.compile(r'(?:^|(?<=\s))(-?)("[^"]*"|\S+)')


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


def words(text: str) -> list[str]:
    """The different words of a text, folded, in order; each cut at 64 characters."""
    folded = fold(text)
    found = dict.fromkeys(folded.translate(_SPACED).split() if folded.isascii() else _WORD.findall(folded))
    if max(map(len, found), default=0) > LONGEST_WORD:
        found = dict.fromkeys(word[:LONGEST_WORD] for word in found)
    return list(found)


def words_of(kind: Kind, body: Mapping[str, Any]) -> list[str]:
    """The words of every text of a body that all its readers see; text beyond 100,000 characters is left out.

    References, and the list elements around them, are left out: some readers do not see them, and a search that found
    a record by an id or a note would tell them.
    """
    shown: Any = body
    for path in (*kind.refs, *kind.organisation_refs):
        if found := path.find(body):
            shown = without(shown, path.steps, frozenset(one for _, one in found))
    texts: list[str] = []
    _collect(shown, texts)
    return words(" ".join(texts)[:MAX_CHARACTERS])


def search(text: str) -> str | None:
    """A search as PostgreSQL's tsquery: all words, less those behind a minus sign; None when it holds no word."""
    asked = []
    for minus, part in _PART.findall(text):
        found = " & ".join(f"'{word}'" for word in words(part))
        if found:
            asked.append(f"!({found})" if minus else f"({found})")
    return " & ".join(asked) or None


def _collect(value: Any, texts: list[str]) -> None:
    """Puts every text inside `value`, an object or a list, behind `texts`."""
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, str):
            texts.append(inner)
        elif isinstance(inner, dict | list):
            _collect(inner, texts)
