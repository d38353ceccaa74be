"""Strict JSON: one reader for every body the service takes (RFC 8259, RFC 7493).

Stock readers take duplicate keys, NaN, lone surrogates, UTF-16 and integers no other language can hold. Here each of
these is a refusal, before anything else looks at the value.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from app.http.problem import Fault, Problem

MAX_DEPTH = 32
MAX_KEYS = 1000
MAX_VALUES = 100_000
MAX_INTEGER = 2**53
_MAX_DIGITS = 17

_SUSPECT = re.compile(r"[\x7f-\x9f]|\\[bfrB]|\\u(?:00[0189]|007[fF]|[dD][89a-fA-F])")
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def _malformed(reason: str) -> NoReturn:
    raise Problem("malformed-json", detail=reason)


def _constant(_: str) -> NoReturn:
    _malformed("NaN and Infinity are not JSON.")


def _integer(digits: str) -> int:
    if len(digits) <= _MAX_DIGITS:
        value = int(digits)
        if -MAX_INTEGER <= value <= MAX_INTEGER:
            return value
    return _malformed("Integers must lie between -2^53 and 2^53.")


def _float(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        _malformed("A number is too large.")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        _malformed("An object has the same key twice.")
    if len(value) > MAX_KEYS:
        _malformed(f"An object has more than {MAX_KEYS} keys.")
    return value


_decoder = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, parse_float=_float, strict=True
)


def _measure(value: Any) -> None:
    """Checks depth and number of values, level by level, so that no nesting can exhaust the stack."""
    level, depth, count = [value], 0, 0
    while level:
        count += len(level)
        if count > MAX_VALUES:
            _malformed(f"The document has more than {MAX_VALUES} values.")
        below: list[Any] = []
        containers = False
        for item in level:
            if type(item) is dict:
                containers = True
                below.extend(item.values())
            elif type(item) is list:
                containers = True
                below.extend(item)
        depth += containers
        if depth > MAX_DEPTH:
            _malformed(f"The document is nested more than {MAX_DEPTH} deep.")
        level = below


def _texts(value: Any, pointer: str = "") -> Iterator[tuple[str, str]]:
    """(JSON Pointer, text) of each text below `value`; a key stands at the pointer of its object."""
    if type(value) is str:
        yield pointer, value
    elif type(value) is list:
        for index, item in enumerate(value):
            yield from _texts(item, f"{pointer}/{index}")
    elif type(value) is dict:
        for key, item in value.items():
            yield pointer, key
            # The name of a member is the client's own text, so a pointer names it only when it looks like a field.
            yield from _texts(item, f"{pointer}/{key}" if FIELD.fullmatch(key) else pointer)


FIELD = re.compile("[a-z][a-z_]{0,39}")


def _check_texts(value: Any) -> None:
    faults: list[Fault] = []
    for pointer, text in _texts(value):
        if _SURROGATE.search(text):
            _malformed("A text holds half of a surrogate pair.")
        if len(faults) < 20 and _FORBIDDEN.search(text):
            faults.append(Fault(pointer, "forbidden-character"))
    if faults:
        raise Problem("invalid-body", detail="Control characters but line feed and tab are refused.", errors=faults)


def parse(data: bytes) -> Any:
    """The value of a JSON document in UTF-8.

    **Errors:** 400 `malformed-json` (syntax, encoding, duplicate keys, NaN or Infinity, numbers too large, more than
    1,000 keys in an object or 32 levels, lone surrogates); 422 `invalid-body` with `forbidden-character` for control
    characters other than line feed and tab.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        _malformed("The body is not UTF-8.")
    try:
        value = _decoder.decode(text)
    except json.JSONDecodeError as error:
        _malformed(f"Syntax error at line {error.lineno}, column {error.colno}.")
    except RecursionError:
        _malformed(f"The document is nested more than {MAX_DEPTH} deep.")
    if text.count("[") + text.count("{") > MAX_DEPTH or text.count(",") >= MAX_VALUES:
        _measure(value)
    if ("\\" in text or not text.isascii() or "\x7f" in text) and _SUSPECT.search(text):
        _check_texts(value)
    return value
