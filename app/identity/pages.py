"""Pages: sealed keyset cursors, and lists of what this room holds.

A cursor shows nothing and fits only the request it was made for.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app.http import etag, query
from app.http.openapi import component
from app.http.problem import Problem
from app.http.query import Parser
from app.http.responses import empty_response, json_response
from app.identity.caller import Caller
from app.sealing import MasterSecret, NotSealedHere

PURPOSE = "list-cursor"
PAGE_PARAMETERS: dict[str, Parser] = {
    "limit": query.integer(1, 200, 20).described("Items in a page."),
    "cursor": query.text(2000).described("Where the page starts, out of `next`."),
}


def _context(request: Request, caller: Caller, filters: Mapping[str, Any]) -> bytes:
    """Everything a cursor is bound to: who asks, with what access, for which address and filters."""
    bound = {name: value for name, value in filters.items() if name not in ("cursor", "count")}
    return orjson.dumps(
        [str(caller.organisation_id), caller.access_epoch, request.scope["path"], sorted(bound.items())], default=str
    )


def sealed(request: Request, caller: Caller, filters: Mapping[str, Any], key: Any, last_id: UUID) -> str:
    """The cursor of the page after (key, last_id). Equal pages have equal cursors."""
    secret: MasterSecret = request.app.state.secret
    shown = key.isoformat() if isinstance(key, datetime) else key
    cipher = secret.seal_stable(PURPOSE, orjson.dumps([shown, last_id]), _context(request, caller, filters))
    return base64.urlsafe_b64encode(cipher).rstrip(b"=").decode()


def opened(request: Request, caller: Caller, filters: Mapping[str, Any], cursor: str) -> tuple[Any, UUID]:
    """(key, id) that the page starts after. Errors: 400 `invalid-cursor`."""
    secret: MasterSecret = request.app.state.secret
    try:
        cipher = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        key, last_id = orjson.loads(secret.unseal_stable(PURPOSE, cipher, _context(request, caller, filters)))
    except (NotSealedHere, binascii.Error, ValueError):
        raise Problem("invalid-cursor") from None
    return key, UUID(last_id)


def after(request: Request, caller: Caller, asked: Mapping[str, Any]) -> tuple[Any, UUID] | None:
    """(key, id) that the page asked for starts after; None for the first one. Errors: 400 `invalid-cursor`."""
    return None if asked["cursor"] is None else opened(request, caller, asked, asked["cursor"])


def answered(
    request: Request,
    caller: Caller,
    asked: Mapping[str, Any],
    items: Sequence[Mapping[str, Any]],
    *,
    keys: Sequence[Any] = (),
    versions: Iterable[object] = (),
    cache_control: str = "private, no-store",
    more: Mapping[str, Any] | None = None,
) -> Response:
    """A page of items in order, of which one too many was read; 304 when the client holds it already.

    Each item has an `id`; `keys` are what the order goes by where it is not that; `versions` tell the validator of
    changes.
    """
    limit: int = asked["limit"]
    shown = items[:limit]
    following = None
    if len(items) > limit:
        cursor = sealed(request, caller, asked, keys[limit - 1] if keys else 0, shown[-1]["id"])
        pairs = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
        following = f"{request.app.state.public_url}{request.url.path}?{urlencode([*pairs, ('cursor', cursor)])}"
    extra = dict(more or {})
    validator = etag.of_parts(
        [*(item["id"] for item in shown), *versions, following is not None, limit, sorted(extra.items())]
    )
    headers = {"ETag": validator, "Cache-Control": cache_control}
    if following is not None:
        headers["Link"] = f'<{following}>; rel="next"'
    if etag.matches(request, validator):
        return empty_response(304, headers)
    return json_response({"items": shown, "next": following, **extra}, headers=headers)


def page_schema(name: str, item: Mapping[str, Any]) -> dict[str, str]:
    """The schema of a page of such items, as component `name`."""
    return component(
        name,
        {
            "type": "object",
            "required": ["items", "next"],
            "properties": {
                "items": {"type": "array", "items": dict(item)},
                "next": {"type": ["string", "null"], "format": "uri", "description": "Address of the next page."},
                "total": {"type": "integer", "description": "How many there are, where `count=true` asked for it."},
            },
        },
    )
