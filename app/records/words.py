"""Words: the folded copy of a record's text that search reads. The text itself is stored unchanged."""

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

MAX_CHARACTERS = 100_000


def fold(text: str) -> str:
    """Lower case without accents: `Sécurité` and `securite` fold to one."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def folded_words(body: Mapping[str, Any]) -> str:
    """Every text of a body, folded, cut at 100,000 characters."""
    return fold(" ".join(_texts(body)))[:MAX_CHARACTERS]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
