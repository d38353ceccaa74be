"""Answers of this room: computed for one reader, with a validator over their bytes."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from app.deliberation.codes import CODES
from app.http.openapi import answer, header_parameter
from app.http.problem import Problem, register
from app.http.responses import json_bytes
from app.identity.caller import Caller
from app.records.show import NO_STORE, REVALIDATE, SHARED, conditional

register(CODES)

OPTIONAL_MATCH = header_parameter("If-Match", "The version you read, where it matters to you.")
MEDIA_TYPES = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "svg": "image/svg+xml",
    "text": "text/plain; charset=utf-8",
}


def answer_forms(schema: Mapping[str, Any], forms: Sequence[str]) -> dict[str, Any]:
    """The answer of an address that has several forms, for `responses`: JSON of this schema, the others as text."""
    found = answer(schema, "In the form asked for.")
    for form in forms:
        if form != "json":
            found["content"][MEDIA_TYPES[form].partition(";")[0]] = {"schema": {"type": "string"}}
    return found


def computed(
    request: Request, caller: Caller, body: Any, *, media_type: str = "application/json", private: bool = False
) -> Response:
    """200 with `body` (bytes as they are, all else as JSON), or 304; `private` forbids keeping it anywhere."""
    content = body if isinstance(body, bytes) else json_bytes(body)
    keep = NO_STORE if private else REVALIDATE if caller.is_member else SHARED
    return conditional(request, content, {"Cache-Control": keep}, media_type)


def wanted_format(request: Request, asked: str | None, offered: Sequence[str]) -> str:
    """The form of the answer: `?format=` decides, else Accept, else JSON.

    Errors: 406 `not-acceptable` when Accept names only what there is not.
    """
    if asked is not None:
        return asked
    accepted = request.headers.get("accept")
    if not accepted:
        return "json"
    best, form = 0.0, ""
    ranges = [_range(part) for part in accepted.split(",")]
    for name in offered:
        essence = MEDIA_TYPES[name].partition(";")[0]
        fitting = [
            (specific, weight)
            for pattern, specific, weight in ranges
            if pattern in ("*/*", essence, essence.partition("/")[0] + "/*")
        ]
        weight = max(fitting)[1] if fitting else 0.0
        if weight > best:
            best, form = weight, name
    if not form:
        raise Problem(
            "not-acceptable", f"There is {', '.join(MEDIA_TYPES[name].partition(';')[0] for name in offered)}."
        )
    return form


def _range(part: str) -> tuple[str, int, float]:
    """(media range, how specific it is, its weight) of one entry of Accept."""
    pattern, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weight = 1.0
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                weight = min(1.0, max(0.0, float(parameter[2:])))
            except ValueError:
                weight = 0.0
    return pattern, 2 - pattern.count("*"), weight
