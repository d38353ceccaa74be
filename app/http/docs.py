"""The reference pages at /docs: Swagger UI from our own files, so that they work without any other network."""

from functools import lru_cache
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.http.openapi import answer, public, responses
from app.http.problem import Problem
from app.http.responses import bytes_response

FOLDER = Path(__file__).resolve().parents[1] / "static" / "docs"
SWAGGER_UI = "5.35.0"
FOREVER = "public, max-age=31536000, immutable"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
FILES = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "start.js": "text/javascript; charset=utf-8",
    "favicon-32x32.png": "image/png",
    "LICENSE": "text/plain; charset=utf-8",
    "NOTICE": "text/plain; charset=utf-8",
    "swagger-ui-bundle.js.LICENSE.txt": "text/plain; charset=utf-8",
}

router = APIRouter(tags=["Service"])


@lru_cache(maxsize=16)
def _content(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


@router.get(
    "/docs",
    operation_id="getDocs",
    responses=responses({200: answer({"type": "string"}, "A page for people.", media_type="text/html")}),
    openapi_extra=public(),
)
async def get_docs(request: Request) -> Response:
    """The reference of this API as a page."""
    headers = {"Content-Security-Policy": CSP, "Cache-Control": "public, max-age=300"}
    return bytes_response(_content("index.html"), 200, headers, "text/html; charset=utf-8")


@router.get(f"/docs/{SWAGGER_UI}/{{name}}", include_in_schema=False)
async def get_docs_file(request: Request) -> Response:
    """One file of the page. Its address changes with its version, so it may be kept for ever."""
    name = request.path_params["name"]
    if name not in FILES:
        raise Problem("not-found")
    return bytes_response(_content(name), 200, {"Cache-Control": FOREVER}, FILES[name])
