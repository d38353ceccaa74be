"""Query strings: every address names the parameters it knows, and refuses all others.

A parser says both what a value may be and how OpenAPI describes it, so the two cannot differ.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from urllib.parse import unquote_to_bytes
from uuid import UUID

from starlette.requests import Request

from app.http.problem import Problem

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_UUID = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})")
_INTEGER = re.compile("-?[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Parser:
    """How one parameter is read: `read` gives the value of a text or raises ValueError; `rule` says what it may be."""

    read: Callable[[str], Any]
    rule: str
    schema: Mapping[str, Any]
    default: Any = None
    repeatable: bool = False
    description: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def described(self, description: str, **extra: Any) -> "Parser":
        """The same parser with a description (and, say, `example=`) for OpenAPI."""
        return replace(self, description=description, extra=extra)


def integer(low: int, high: int, default: int | None = None) -> Parser:
    """A whole number from `low` to `high`."""

    def read(text: str) -> int:
        if not _INTEGER.fullmatch(text) or not low <= (value := int(text)) <= high:
            raise ValueError
        return value

    schema: dict[str, Any] = {"type": "integer", "minimum": low, "maximum": high}
    if default is not None:
        schema["default"] = default
    return Parser(read, f"must be a whole number from {low} to {high}", schema, default)


def choice(*values: str, default: str | None = None) -> Parser:
    """One of the named values."""
    known = frozenset(values)

    def read(text: str) -> str:
        if text not in known:
            raise ValueError
        return text

    schema: dict[str, Any] = {"type": "string", "enum": list(values)}
    if default is not None:
        schema["default"] = default
    rule = f"must be one of {', '.join(values)}" if len(values) <= 40 else "must be one of the published codes"
    return Parser(read, rule, schema, default)


def text(max_length: int = 200, *, pattern: str | None = None) -> Parser:
    """Text of 1 to `max_length` characters without control characters; it matches `pattern` as a whole if given."""
    compiled = None if pattern is None else re.compile(pattern)

    def read(value: str) -> str:
        if not 1 <= len(value) <= max_length or _CONTROL.search(value):
            raise ValueError
        if compiled is not None and not compiled.fullmatch(value):
            raise ValueError
        return value

    schema: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": max_length}
    if pattern is not None:
        schema["pattern"] = f"^(?:{pattern})$"
    return Parser(read, f"must be 1 to {max_length} characters in the documented form", schema)


def uuid() -> Parser:
    """An id in the hyphenated form."""

    def read(value: str) -> UUID:
        if not _UUID.fullmatch(value):
            raise ValueError
        return UUID(value)

    return Parser(read, "must be an id", {"type": "string", "format": "uuid"})


def boolean(default: bool | None = False) -> Parser:
    """`true` or `false`."""

    def read(value: str) -> bool:
        if value not in ("true", "false"):
            raise ValueError
        return value == "true"

    schema: dict[str, Any] = {"type": "boolean"}
    if default is not None:
        schema["default"] = default
    return Parser(read, "must be true or false", schema, default)


def instant() -> Parser:
    """An RFC 3339 instant with its offset; an aware datetime."""

    def read(value: str) -> datetime:
        if not _INSTANT.fullmatch(value):
            raise ValueError
        found = datetime.fromisoformat(value)
        if found.utcoffset() is None:
            raise ValueError
        return found

    return Parser(read, "must be an instant such as 2026-01-31T12:00:00Z", {"type": "string", "format": "date-time"})


def many(parser: Parser, max_items: int = 50) -> Parser:
    """A parameter that may be repeated (any of); a tuple, empty when absent."""
    schema = {"type": "array", "items": dict(parser.schema), "maxItems": max_items}
    return replace(parser, schema=schema, default=(), repeatable=True)


def listed(parser: Parser, max_items: int = 50) -> Parser:
    """A comma-separated list in one parameter; a tuple, None when absent."""

    def read(value: str) -> tuple[Any, ...]:
        parts = value.split(",")
        if len(parts) > max_items:
            raise ValueError
        return tuple(parser.read(part) for part in parts)

    schema = {"type": "array", "items": dict(parser.schema), "minItems": 1, "maxItems": max_items}
    shape = {"style": "form", "explode": False}
    return replace(parser, read=read, rule=f"each {parser.rule}", schema=schema, default=None, extra=shape)


def _refuse(known: Mapping[str, Parser], reason: str, name: str | None = None) -> Problem:
    listing = f"Known parameters: {', '.join(sorted(known))}." if known else "This address takes no parameters."
    extra = {} if name is None else {"parameter": name}
    return Problem("invalid-parameter", detail=f"{reason} {listing}" if name is None else reason, extra=extra)


def pairs(query_string: bytes) -> list[tuple[str, str]]:
    """Names and values of a query string, in order. **Errors:** 400 `invalid-parameter` when it is not UTF-8."""
    found = []
    try:
        for part in query_string.split(b"&"):
            if part:
                name, _, value = part.replace(b"+", b" ").partition(b"=")
                found.append((unquote_to_bytes(name).decode(), unquote_to_bytes(value).decode()))
    except UnicodeDecodeError:
        raise Problem("invalid-parameter", detail="The query string is not UTF-8.") from None
    return found


def read_query(request: Request, known: Mapping[str, Parser]) -> dict[str, Any]:
    """A value for each known parameter: what was sent, else its default.

    **Errors:** 400 `invalid-parameter` for an unknown name (the known ones are listed), a value the parameter cannot
    have, or a parameter given twice that can only be given once.
    """
    values = {name: parser.default for name, parser in known.items()}
    query_string = request.scope["query_string"]
    if not query_string:
        return values
    seen: dict[str, int] = {}
    for name, value in pairs(query_string):
        parser = known.get(name)
        if parser is None:
            raise _refuse(known, "A parameter is not known here.")
        times = seen[name] = seen.get(name, 0) + 1
        if times > 1 and not parser.repeatable:
            raise _refuse(known, f"`{name}` can be given only once.", name)
        if parser.repeatable and times > parser.schema["maxItems"]:
            raise _refuse(known, f"`{name}` can be given at most {parser.schema['maxItems']} times.", name)
        try:
            read = parser.read(value)
        except ValueError:
            raise _refuse(known, f"`{name}` {parser.rule}.", name) from None
        values[name] = (*values[name], read) if parser.repeatable else read
    return values


def query_parameters(known: Mapping[str, Parser]) -> list[dict[str, Any]]:
    """The OpenAPI parameters that `known` describes."""
    return [
        {"name": name, "in": "query", "required": False, "schema": dict(parser.schema)}
        | ({"description": parser.description} if parser.description else {})
        | dict(parser.extra)
        for name, parser in known.items()
    ]
