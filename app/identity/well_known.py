"""Well-known addresses: how to get tokens (RFC 8414), and the public keys that verify them (RFC 7517)."""

from fastapi import APIRouter, Request, Response

from app.http import etag
from app.http.openapi import IF_NONE_MATCH, answer, component, public, responses
from app.http.responses import empty_response, json_bytes, json_response
from app.identity.caller import SCOPES
from app.identity.oauth import CLIENT_CREDENTIALS, TOKEN_EXCHANGE
from app.identity.state import IdentityState

JWKS_SECONDS = 300

router = APIRouter(tags=["oauth"])

_JWKS = component(
    "KeySet",
    {
        "type": "object",
        "description": "Public keys of access tokens (RFC 7517).",
        "required": ["keys"],
        "properties": {
            "keys": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["kty", "crv", "x", "y", "kid", "alg", "use"],
                    "properties": {name: {"type": "string"} for name in ("kty", "crv", "x", "y", "kid", "alg", "use")},
                },
            }
        },
    },
)
_METADATA = component(
    "AuthorizationServer",
    {
        "type": "object",
        "description": "Where and how to get tokens (RFC 8414).",
        "required": ["issuer", "token_endpoint", "jwks_uri", "grant_types_supported", "scopes_supported"],
        "properties": {
            **{
                name: {"type": "string", "format": "uri"}
                for name in (
                    "issuer", "token_endpoint", "revocation_endpoint", "introspection_endpoint", "jwks_uri",
                    "service_documentation",
                )
            },
        },
        "additionalProperties": {"type": "array", "items": {"type": "string"}},
    },
)  # fmt: skip


@router.get(
    "/.well-known/oauth-authorization-server",
    operation_id="getAuthorizationServer",
    responses=responses({200: answer(_METADATA)}),
    openapi_extra=public(),
)
async def read_authorization_server(request: Request) -> Response:
    """Where and how to get tokens. **Source:** RFC 8414."""
    issuer: str = request.app.state.identity.issuer
    ways = ["client_secret_basic", "client_secret_post"]
    return json_response(
        {
            "issuer": issuer,
            "token_endpoint": f"{issuer}/oauth/token",
            "revocation_endpoint": f"{issuer}/oauth/revoke",
            "introspection_endpoint": f"{issuer}/oauth/introspect",
            "jwks_uri": f"{issuer}/.well-known/jwks.json",
            "service_documentation": f"{issuer}/docs",
            "scopes_supported": list(SCOPES),
            "response_types_supported": [],
            "grant_types_supported": [CLIENT_CREDENTIALS, TOKEN_EXCHANGE],
            "token_endpoint_auth_methods_supported": ways,
            "revocation_endpoint_auth_methods_supported": ways,
            "introspection_endpoint_auth_methods_supported": ways,
        },
        headers={"Cache-Control": "public, max-age=3600"},
    )


@router.get(
    "/.well-known/jwks.json",
    operation_id="getKeySet",
    responses=responses({200: answer(_JWKS, headers=["ETag"], media_type="application/jwk-set+json")}),
    openapi_extra={**public(), "parameters": [IF_NONE_MATCH]},
)
async def read_key_set(request: Request) -> Response:
    """The public keys of access tokens: during a rotation the next one, before it signs, and the last one, after.

    **Source:** RFC 7517.
    """
    identity: IdentityState = request.app.state.identity
    body = json_bytes((await identity.keys()).jwks)
    validator = etag.of_parts([body])
    headers = {"Cache-Control": f"public, max-age={JWKS_SECONDS}", "ETag": validator}
    if etag.matches(request, validator):
        return empty_response(304, headers)
    return Response(body, headers=headers, media_type="application/jwk-set+json")
