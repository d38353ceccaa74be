"""Access: the dependencies with which an endpoint says who may call it. Source: RFC 6750, RFC 9068."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Request

from app.http.problem import Problem
from app.http.rate import charge
from app.identity.caller import ANONYMOUS, SCOPES, Caller
from app.identity.state import IdentityState
from app.identity.tokens import InvalidToken

REALM = 'Bearer realm="minga"'


def bearer_token(request: Request) -> bytes | None:
    """The token in the Authorization header, None when there is no such header.

    Errors: 401 `invalid-token` for another scheme, an empty token or a second header.
    """
    token = None
    for name, value in request.scope["headers"]:
        if name == b"authorization":
            scheme, _, offered = value.partition(b" ")
            if token is not None or scheme.lower() != b"bearer" or not offered.strip():
                raise refused()
            token = offered.strip()
    return token


def refused() -> Problem:
    """The 401 for a token that is not accepted; why is not said."""
    return Problem("invalid-token", headers={"WWW-Authenticate": f'{REALM}, error="invalid_token"'})


async def caller_of(request: Request) -> Caller:
    """Who calls: ANONYMOUS without a token. Errors: 401 `invalid-token`; 429; 503 `unavailable`."""
    token = bearer_token(request)
    if token is None:
        await charge(request)
        return ANONYMOUS
    identity: IdentityState = request.app.state.identity
    try:
        caller = await identity.caller(token)
    except InvalidToken:
        await charge(request)
        raise refused() from None
    await charge(request, credential_id=caller.credential_id, organisation_id=caller.organisation_id)
    return caller


def own_id(caller: Caller) -> UUID:
    """The organisation of a caller who has shown a token."""
    assert caller.organisation_id is not None
    return caller.organisation_id


def require_scope(caller: Caller, scope: str) -> None:
    """Errors: 403 `insufficient-scope` naming the scope that is lacking."""
    if scope not in caller.scopes:
        raise Problem(
            "insufficient-scope",
            detail=f"This needs the scope {scope}.",
            headers={"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{scope}"'},
        )


async def _public_reader(request: Request) -> Caller:
    caller = await caller_of(request)
    if caller.is_member:
        require_scope(caller, "records:read")
    return caller


PublicReader = Annotated[Caller, Depends(_public_reader)]
"""Anybody: ANONYMOUS without a token; a token must be good (401) and carry `records:read` (403)."""


def _checker(scopes: tuple[str, ...]) -> Callable[[Request], Awaitable[Caller]]:
    async def dependency(request: Request) -> Caller:
        caller = await caller_of(request)
        if not caller.is_member:
            raise Problem("invalid-token", headers={"WWW-Authenticate": REALM})
        for scope in scopes:
            require_scope(caller, scope)
        return caller

    return dependency


_CHECKERS = {scope: _checker((scope,)) for scope in SCOPES}
_ANY = _checker(())


def member(scope: str | None = None) -> Any:
    """A dependency giving the Caller, who needs a token (401) with that scope (403); any token when None."""
    return Depends(_ANY if scope is None else _CHECKERS[scope])
