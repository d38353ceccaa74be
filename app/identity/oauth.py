"""OAuth: tokens for credentials, narrower tokens for tokens, revocation, introspection.

Source: RFC 6749 §4.4, RFC 7009, RFC 7662, RFC 8693, RFC 9068. Refusals are JSON as RFC 6749 §5.2 says, not problems.
"""

import time
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from app.db.pool import Connection
from app.http.openapi import answer, component, public, request_body, responses
from app.http.problem import Problem
from app.http.responses import empty_response, json_response
from app.http.transact import transact
from app.identity import audit, tokens
from app.identity.audit import Actor
from app.identity.caller import SCOPES
from app.identity.oauth_form import FORM, Refusal, answered, authenticated, offered
from app.identity.state import IdentityState
from app.identity.tokens import InvalidToken

CLIENT_CREDENTIALS = "client_credentials"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105
EXCHANGED_LIFE_SECONDS = 300
NEVER_EXCHANGED = frozenset({"organisation:manage", "steward"})

router = APIRouter(tags=["oauth"])


_ERROR = component(
    "OAuthError",
    {
        "type": "object",
        "description": "A refusal (RFC 6749 §5.2).",
        "required": ["error"],
        "properties": {"error": {"type": "string"}, "error_description": {"type": "string"}},
    },
)
_TOKEN = component(
    "AccessToken",
    {
        "type": "object",
        "description": "An access token (RFC 6749 §5.1).",
        "required": ["access_token", "token_type", "expires_in", "scope"],
        "properties": {
            "access_token": {"type": "string"},
            "token_type": {"const": "Bearer"},
            "expires_in": {"type": "integer", "description": "Seconds until it ends; at most 600."},
            "scope": {"type": "string", "description": "Scopes, separated by spaces."},
            "issued_token_type": {"type": "string", "description": "Only for an exchanged token."},
        },
    },
)
_INTROSPECTION = component(
    "Introspection",
    {
        "type": "object",
        "description": "What a token of one's own says (RFC 7662); only `active: false` for every other.",
        "required": ["active"],
        "properties": {
            "active": {"type": "boolean"},
            **{name: {"type": "string"} for name in ("scope", "client_id", "token_type", "iss", "aud", "sub", "jti")},
            **{name: {"type": "integer"} for name in ("exp", "iat")},
        },
    },
)
_REFUSED = {400: answer(_ERROR, "Refused."), 401: answer(_ERROR, "`invalid_client`.", headers=["WWW-Authenticate"])}


def _form_schema(**fields: str) -> dict[str, Any]:
    """Schema of a form: each field with its description, those that end in `!` required."""
    client = {
        "client_id": "Where HTTP Basic is not used.",
        "client_secret": "Where HTTP Basic is not used.",
    }
    return {
        "type": "object",
        "required": [name for name, text in fields.items() if text.endswith("!")],
        "properties": {
            name: {"type": "string", "description": text.rstrip("!")} for name, text in {**fields, **client}.items()
        },
    }


def _described(operation_form: dict[str, Any], example: dict[str, str]) -> dict[str, Any]:
    return {**public(), **request_body(operation_form, example, (FORM,)), "x-own-errors": True}


def _scopes(form: Mapping[str, str], granted: frozenset[str]) -> frozenset[str]:
    """The scopes asked for, all that are granted when none are. Errors: Refusal `invalid_scope`."""
    asked = frozenset(form["scope"].split(" ")) if "scope" in form else granted
    if not asked or not asked <= granted:
        raise Refusal("invalid_scope", "A scope is unknown or not granted to this client.")
    return asked


def _token_response(token: str, life_seconds: int, scopes: frozenset[str], **more: str) -> Response:
    return json_response(
        {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": life_seconds,
            "scope": " ".join(scope for scope in SCOPES if scope in scopes),
            **more,
        }
    )


async def _signer(identity: IdentityState) -> tokens.Key:
    key = (await identity.keys()).signer
    if key is None:
        raise Problem("unavailable", headers={"Retry-After": "2"})
    return key


async def _token(request: Request, form: dict[str, str]) -> Response:
    grant = form.get("grant_type")
    if grant == TOKEN_EXCHANGE:
        return await _exchange(request, form)
    if grant is None:
        raise Refusal("invalid_request", "grant_type is missing.")
    if grant != CLIENT_CREDENTIALS:
        raise Refusal("unsupported_grant_type", f"Supported: {CLIENT_CREDENTIALS}, {TOKEN_EXCHANGE}.")
    client = await authenticated(request, form)
    scopes = _scopes(form, client.scopes)
    identity: IdentityState = request.app.state.identity
    token = tokens.sign(
        await _signer(identity),
        identity.issuer,
        organisation_id=client.organisation_id,
        client_id=client.client_id,
        scopes=scopes,
        now=time.time(),
    )
    return _token_response(token, tokens.LIFE_SECONDS, scopes)


async def _exchange(request: Request, form: dict[str, str]) -> Response:
    """A narrower token for a token. Its holder is proof enough: the new one ends no later and is revoked with it."""
    identity: IdentityState = request.app.state.identity
    client = await authenticated(request, form) if offered(request, form) is not None else None
    if form.get("subject_token_type") != ACCESS_TOKEN_TYPE or "actor_token" in form:
        raise Refusal("invalid_request", f"subject_token_type must be {ACCESS_TOKEN_TYPE}, without an actor.")
    if form.get("requested_token_type", ACCESS_TOKEN_TYPE) != ACCESS_TOKEN_TYPE:
        raise Refusal("invalid_request", f"requested_token_type can only be {ACCESS_TOKEN_TYPE}.")
    if any(form.get(name, identity.issuer) != identity.issuer for name in ("audience", "resource")):
        raise Refusal("invalid_target", "Tokens are made for this service only.")
    subject = form.get("subject_token", "").encode()
    try:
        claims = await identity.verified(subject)
        caller = await identity.caller(subject)
    except InvalidToken:
        raise Refusal("invalid_request", "subject_token is not a valid access token.") from None
    if client is not None and client.client_id != claims.client_id:
        raise Refusal("invalid_request", "subject_token was made for another client.")
    scopes = _scopes(form, caller.scopes - NEVER_EXCHANGED)
    now = time.time()
    life_seconds = min(EXCHANGED_LIFE_SECONDS, claims.expires_at - int(now))
    if life_seconds < 1:
        raise Refusal("invalid_request", "subject_token is not a valid access token.")
    token = tokens.sign(
        await _signer(identity),
        identity.issuer,
        organisation_id=claims.organisation_id,
        client_id=claims.client_id,
        scopes=scopes,
        now=now,
        life_seconds=life_seconds,
        root_jti=claims.root_jti,
    )
    return _token_response(token, life_seconds, scopes, issued_token_type=ACCESS_TOKEN_TYPE)


async def _revoke(request: Request, form: dict[str, str]) -> Response:
    client = await authenticated(request, form)
    if "token" not in form:
        raise Refusal("invalid_request", "token is missing.")
    identity: IdentityState = request.app.state.identity
    try:
        claims = await identity.verified(form["token"].encode())
    except InvalidToken:
        return empty_response(200)

    async def work(connection: Connection) -> Response:
        cursor = await connection.execute(
            "INSERT INTO revoked_token (jti, credential_id, expires_at)"
            " SELECT %(jti)s, id, to_timestamp(%(expires_at)s) FROM credential"
            " WHERE client_id = %(client_id)s AND organisation_id = %(organisation_id)s"
            " ON CONFLICT DO NOTHING RETURNING credential_id",
            {
                "jti": claims.jti,
                "expires_at": claims.expires_at,
                "client_id": claims.client_id,
                "organisation_id": client.organisation_id,
            },
        )
        row = await cursor.fetchone()
        if row is not None:
            await connection.execute("DELETE FROM revoked_token WHERE expires_at < now() - interval '1 hour'")
            actor = Actor("credential", client.organisation_id, client.credential_id)
            details = {"credential": str(row[0]), "jti": claims.jti}
            await audit.record(
                connection, "token.revoke", actor, organisation_id=client.organisation_id, details=details
            )
        return empty_response(200)

    response = await transact(request, work)
    identity.forget()
    return response


async def _introspect(request: Request, form: dict[str, str]) -> Response:
    client = await authenticated(request, form)
    if "token" not in form:
        raise Refusal("invalid_request", "token is missing.")
    identity: IdentityState = request.app.state.identity
    token = form["token"].encode()
    try:
        claims = await identity.verified(token)
        caller = await identity.caller(token)
    except InvalidToken:
        return json_response({"active": False})
    if caller.organisation_id != client.organisation_id:
        return json_response({"active": False})
    return json_response(
        {
            "active": True,
            "scope": " ".join(scope for scope in SCOPES if scope in caller.scopes),
            "client_id": claims.client_id,
            "token_type": "Bearer",
            "exp": claims.expires_at,
            "iat": claims.issued_at,
            "sub": str(claims.organisation_id),
            "aud": identity.issuer,
            "iss": identity.issuer,
            "jti": claims.jti,
        }
    )


@router.post(
    "/oauth/token",
    operation_id="requestToken",
    responses=responses({200: answer(_TOKEN), **_REFUSED}, "rate-limited", "unavailable"),
    openapi_extra=_described(
        _form_schema(
            grant_type=f"`{CLIENT_CREDENTIALS}` or `{TOKEN_EXCHANGE}`!",
            scope="Scopes, separated by spaces; all that are granted when left out.",
            subject_token="For an exchange: the token to narrow.",  # noqa: S106
            subject_token_type=f"For an exchange: `{ACCESS_TOKEN_TYPE}`.",
        ),
        {"grant_type": CLIENT_CREDENTIALS, "scope": "records:read"},
    ),
)
async def request_token(request: Request) -> Response:
    """An access token for at most 600 s, or a narrower one in exchange for one.

    An exchanged token lives at most 300 s, ends no later than the one it was made from, is revoked with it, and never
    carries `organisation:manage` or `steward`. **Errors:** RFC 6749 §5.2. **Source:** RFC 6749 §4.4, RFC 8693.
    """
    return await answered(request, _token)


@router.post(
    "/oauth/revoke",
    operation_id="revokeToken",
    responses=responses({200: None, **_REFUSED}, "rate-limited", "unavailable"),
    openapi_extra=_described(_form_schema(token="The token to revoke!"), {"token": "eyJhbGciOiJFUzI1NiJ9.e30.AA"}),  # noqa: S106
)
async def revoke_token(request: Request) -> Response:
    """200 whether or not there was such a token. One of the own organisation's works no more, here at once.

    **Source:** RFC 7009.
    """
    return await answered(request, _revoke)


@router.post(
    "/oauth/introspect",
    operation_id="introspectToken",
    responses=responses({200: answer(_INTROSPECTION), **_REFUSED}, "rate-limited", "unavailable"),
    openapi_extra=_described(_form_schema(token="The token to ask about!"), {"token": "eyJhbGciOiJFUzI1NiJ9.e30.AA"}),  # noqa: S106
)
async def introspect_token(request: Request) -> Response:
    """What a token of the own organisation says, and whether it works now. **Source:** RFC 7662."""
    return await answered(request, _introspect)
