"""Responses: bytes on the wire, made in the two ways the service has."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS


def json_bytes(value: Any) -> bytes:
    """`value` as JSON in UTF-8; instants in UTC with `Z`, UUIDs and enums as text."""
    return orjson.dumps(value, option=OPTIONS)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer holding `value` as JSON. Name another media type as `Content-Type` in `headers`."""
    return bytes_response(json_bytes(value), status, headers)


def bytes_response(
    body: bytes, status: int = 200, headers: Mapping[str, str] | None = None, media_type: str = "application/json"
) -> Response:
    """An answer holding bytes that are ready to send."""
    return Response(body, status, headers, media_type)


def empty_response(status: int = 204, headers: Mapping[str, str] | None = None) -> Response:
    """An answer without a body (204, 304)."""
    return Response(None, status, headers)
