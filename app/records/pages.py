"""Pages: sealed keyset cursors. A cursor shows nothing and fits only the request it was made for."""

import base64
import binascii
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from starlette.requests import Request

from app.http.problem import Problem
from app.identity.caller import Caller
from app.sealing import MasterSecret, NotSealedHere

PURPOSE = "list-cursor"


def _context(request: Request, caller: Caller, filters: dict[str, Any]) -> bytes:
    """Everything a cursor is bound to: who asks, with what access, for which address and filters."""
    bound = {name: value for name, value in filters.items() if name not in ("cursor", "count")}
    return orjson.dumps(
        [str(caller.organisation_id), caller.access_epoch, request.url.path, sorted(bound.items())], default=str
    )


def sealed(request: Request, caller: Caller, filters: dict[str, Any], key: Any, last_id: UUID) -> str:
    """The cursor of the page after (key, last_id). Equal pages have equal cursors."""
    secret: MasterSecret = request.app.state.secret
    shown = key.isoformat() if isinstance(key, datetime) else key
    cipher = secret.seal_stable(PURPOSE, orjson.dumps([shown, last_id]), _context(request, caller, filters))
    return base64.urlsafe_b64encode(cipher).rstrip(b"=").decode()


def opened(request: Request, caller: Caller, filters: dict[str, Any], cursor: str) -> tuple[Any, UUID]:
    """(key, id) that the page starts after. Errors: 400 `invalid-cursor`."""
    secret: MasterSecret = request.app.state.secret
    try:
        cipher = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        key, last_id = orjson.loads(secret.unseal_stable(PURPOSE, cipher, _context(request, caller, filters)))
    except (NotSealedHere, binascii.Error, ValueError):
        raise Problem("invalid-cursor") from None
    return key, UUID(last_id)
