"""What a command comes back with: text for people, or with `--json` exactly one JSON document on standard output."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

DONE, FAILED, MISUSED = 0, 1, 2


class CommandFailed(Exception):
    """The command could not do what it was asked to; the text is for the operator, the code for programs."""

    def __init__(self, text: str, code: str = "failed") -> None:
        super().__init__(text)
        self.code = code


def as_text(value: Any) -> str:
    """`name: value` lines of a mapping; one such paragraph for each item of a list; anything else as it is."""
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {_plain(item)}" for name, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "\n\n".join(as_text(item) for item in value) or "nothing"
    return _plain(value)


def show(value: Any, *, json: bool) -> None:
    """Write the result of a command on standard output."""
    shape = orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z
    document = orjson.dumps(value, default=str, option=shape).decode() if json else as_text(value)
    sys.stdout.write(document + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """Write to people, on standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple, frozenset)) and all(isinstance(item, str) for item in value):
        return " ".join(value)
    return orjson.dumps(value, default=str).decode()
