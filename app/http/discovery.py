"""Finding one's way: the index, the API catalogue, the contract itself, and a page for each problem code."""

import datetime
from hashlib import sha256
from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from app.http import etag, limits
from app.http.faults import explained
from app.http.openapi import IF_NONE_MATCH, answer, build_document, public, responses
from app.http.problem import CODES, Problem
from app.http.query import read_query
from app.http.responses import bytes_response, empty_response, json_bytes, json_response

SHORT = {"Cache-Control": "public, max-age=300"}
SECURITY_TXT_DAYS = 180

router = APIRouter(tags=["Service"])

_LINKS: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string", "format": "uri"}}
_ROOT: dict[str, Any] = {
    "type": "object",
    "required": ["name", "links"],
    "properties": {"name": {"type": "string"}, "links": _LINKS},
}
_INDEX: dict[str, Any] = {
    "type": "object",
    "required": ["name", "links", "limits"],
    "properties": {
        "name": {"type": "string"},
        "links": _LINKS,
        "limits": {"type": "object", "additionalProperties": True},
    },
}


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of `app`, made once."""
    if getattr(app.state, "document", None) is None:
        app.state.document = build_document(app)
    found: dict[str, Any] = app.state.document
    return found


def _links(app: FastAPI, public_url: str) -> dict[str, str]:
    """Address of each thing one can GET below /v1 without knowing an id."""
    return {
        path.removeprefix("/v1/"): f"{public_url}{path}"
        for path, item in document(app)["paths"].items()
        if path.startswith("/v1/") and "{" not in path and "get" in item
    }


@router.get(
    "/",
    operation_id="getRoot",
    responses=responses({200: answer(_ROOT, "Where to go from here.")}),
    openapi_extra=public(),
)
async def get_root(request: Request) -> Response:
    """What this service is and where its parts are."""
    read_query(request, {})
    base = request.app.state.public_url
    links = {
        "v1": f"{base}/v1",
        "docs": f"{base}/docs",
        "openapi": f"{base}/v1/openapi.json",
        "token": f"{base}/oauth/token",
        "authorization-server": f"{base}/.well-known/oauth-authorization-server",
        "api-catalog": f"{base}/.well-known/api-catalog",
        "health": f"{base}/healthz",
        "ready": f"{base}/readyz",
    }
    return json_response({"name": request.app.title, "links": links}, 200, SHORT)


@router.get(
    "/v1",
    operation_id="getIndex",
    responses=responses({200: answer(_INDEX, "What there is, and the limits.")}),
    openapi_extra=public(),
)
async def get_index(request: Request) -> Response:
    """Everything one can list, and the limits that hold here."""
    read_query(request, {})
    app = request.app
    limiter = getattr(app.state, "limiter", None)
    shown = {
        "body_bytes": limits.MAX_BODY_BYTES,
        "address_bytes": limits.MAX_TARGET_BYTES,
        "header_bytes": limits.MAX_HEADER_BYTES,
        "parameters": limits.MAX_PARAMETERS,
        **limits.published(),
        "rates": None if limiter is None else limiter.describe(),
    }
    body = {"name": app.title, "links": _links(app, app.state.public_url), "limits": shown}
    return json_response(body, 200, SHORT)


@router.get(
    "/v1/openapi.json",
    operation_id="getOpenapi",
    responses=responses({200: answer({"type": "object"}, "This document.", headers=("ETag",))}),
    openapi_extra=public() | {"parameters": [IF_NONE_MATCH]},
)
async def get_openapi(request: Request) -> Response:
    """The OpenAPI 3.1 document of this API."""
    read_query(request, {})
    state = request.app.state
    if getattr(state, "document_bytes", None) is None:
        state.document_bytes = json_bytes(document(request.app))
        state.document_etag = f'"{sha256(state.document_bytes).hexdigest()[:32]}"'
    headers = {**SHORT, "ETag": state.document_etag}
    if etag.matches(request, state.document_etag):
        return empty_response(304, headers)
    return bytes_response(state.document_bytes, 200, headers)


@router.get(
    "/.well-known/api-catalog",
    operation_id="getApiCatalog",
    responses=responses(
        {200: answer({"type": "object"}, "A linkset (RFC 9727, RFC 9264).", media_type="application/linkset+json")}
    ),
    openapi_extra=public(),
)
async def get_api_catalog(request: Request) -> Response:
    """Where the API is, its description, its documentation and its state, as a linkset."""
    base = request.app.state.public_url
    linkset = {
        "linkset": [
            {
                "anchor": f"{base}/v1",
                "service-desc": [{"href": f"{base}/v1/openapi.json", "type": "application/json"}],
                "service-doc": [{"href": f"{base}/docs", "type": "text/html"}],
                "status": [{"href": f"{base}/readyz", "type": "application/json"}],
            }
        ]
    }
    kind = 'application/linkset+json; profile="https://www.rfc-editor.org/info/rfc9727"'
    headers = {**SHORT, "Link": f'<{base}/.well-known/api-catalog>; rel="api-catalog"'}
    return bytes_response(json_bytes(linkset), 200, headers, kind)


@router.get(
    "/.well-known/security.txt",
    operation_id="getSecurityTxt",
    responses=responses({200: answer({"type": "string"}, "RFC 9116.", media_type="text/plain")}),
    openapi_extra=public(),
)
async def get_security_txt(request: Request) -> Response:
    """Where to report a weakness (RFC 9116)."""
    state = request.app.state
    today = datetime.datetime.now(datetime.UTC).date()
    expires = today + datetime.timedelta(days=SECURITY_TXT_DAYS)
    lines = [
        f"Contact: {state.settings.security_contact or state.public_url + '/docs'}",
        f"Expires: {expires.isoformat()}T00:00:00Z",
        f"Canonical: {state.public_url}/.well-known/security.txt",
        "Preferred-Languages: en, fr, es",
    ]
    return bytes_response("\n".join([*lines, ""]).encode(), 200, SHORT, "text/plain; charset=utf-8")


@router.get(
    "/problems/{code}",
    operation_id="getProblem",
    responses=responses({200: answer({"type": "object"}, "What the code means.")}, "not-found"),
    openapi_extra=public(),
)
async def get_problem(request: Request) -> Response:
    """What a code means: of a problem, or (with `in`) of `errors`, `reason` or `last_outcome`.

    HTML for whoever asks for it, else JSON.
    """
    code = request.path_params["code"]
    finer = explained(code)
    if code in CODES:
        status, title = CODES[code]
        where, body = str(status), {"code": code, "status": status, "title": title}
    elif finer is not None:
        where, title = finer
        body = {"code": code, "in": where, "title": title}
    else:
        raise Problem("not-found")
    headers = {**SHORT, "Vary": "Accept"}
    if "text/html" in request.headers.get("accept", ""):
        page = f"<!doctype html><title>{code}</title><h1>{code}</h1><p>{where}: {escape(title)}</p>"
        return bytes_response(page.encode(), 200, headers, "text/html; charset=utf-8")
    return json_response(body, 200, headers)
