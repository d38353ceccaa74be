"""How refusals and failures become answers. Nothing a client sent, and no text of an exception, goes back."""

import logging
from collections.abc import Mapping
from typing import Any

import orjson
import psycopg
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from app.http.body import code_of
from app.http.log import places, request_id
from app.http.methods import allowed
from app.http.openapi_document import PROBLEM_TYPE
from app.http.problem import Fault, Problem

RETRY_SECONDS = "2"
ROOM_SECONDS = "60"
"""Room on a disk does not come back within seconds."""

_log = logging.getLogger("app.http")

_BY_STATUS = {
    401: "invalid-token",
    403: "not-permitted",
    404: "not-found",
    405: "method-not-allowed",
    409: "conflict",
    413: "body-too-large",
    415: "unsupported-media-type",
    429: "rate-limited",
    503: "unavailable",
}
_BY_PLACE = {"path": "not-found", "query": "invalid-parameter", "header": "invalid-header", "cookie": "invalid-header"}


def problem_response(problem: Problem, public_url: str) -> Response:
    """`problem` on the wire: `application/problem+json` (RFC 9457)."""
    body: dict[str, Any] = {
        "type": f"{public_url}/problems/{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
    }
    if problem.detail is not None:
        body["detail"] = problem.detail
    if problem.errors:
        body["errors"] = [fault.as_json() for fault in problem.errors]
    body.update(problem.extra)
    body["request_id"] = request_id.get()
    headers: Mapping[str, str] = problem.headers
    if problem.status == 503 and "Retry-After" not in headers:
        headers = {**headers, "Retry-After": RETRY_SECONDS}
    if problem.code == "invalid-token" and "WWW-Authenticate" not in headers:
        headers = {**headers, "WWW-Authenticate": 'Bearer error="invalid_token"'}
    return Response(orjson.dumps(body), problem.status, headers, PROBLEM_TYPE)


def log_failure(error: BaseException, level: int = logging.ERROR) -> None:
    """Logs what failed and where: the type of the exception and the places it passed, not its text."""
    sqlstate = getattr(error, "sqlstate", None)
    extra = {"error": type(error).__name__, "sqlstate": sqlstate, "at": places(error.__traceback__)}
    _log.log(level, "request failed", extra=extra)


def from_database(error: psycopg.Error) -> Problem:
    """The problem a failure of the database is to a client: 507 without room on its disk, else 503; try again."""
    log_failure(error, logging.WARNING)
    if isinstance(error, psycopg.errors.DiskFull):
        return Problem("insufficient-storage", headers={"Retry-After": ROOM_SECONDS})
    return Problem("unavailable", headers={"Retry-After": RETRY_SECONDS})


def from_validation(error: RequestValidationError) -> Problem:
    """The problem behind FastAPI's own validation of paths, queries and headers; without the input."""
    faults = []
    place = "body"
    for one in error.errors():
        location = [str(step) for step in one.get("loc", ())]
        place = location[0] if location else place
        faults.append(Fault("", code_of(str(one.get("type", "invalid")))))
    code = _BY_PLACE.get(place, "invalid-body")
    return Problem(code, errors=faults[:1] if code == "invalid-body" else ())


def from_status(status: int, headers: Mapping[str, str] | None) -> Problem:
    """The problem for a status that the framework itself gives."""
    code = _BY_STATUS.get(status, "internal" if status >= 500 else "bad-request")
    return Problem(code, headers=dict(headers or {}))


def install(app: FastAPI) -> None:
    """Registers the handlers on `app`. Everything else that is raised becomes a 500 in `app.http.gate`."""

    def answer(request: Request, problem: Problem) -> Response:
        return problem_response(problem, request.app.state.public_url)

    async def on_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return answer(request, error)

    async def on_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer(request, from_validation(error))

    async def on_database(request: Request, error: Exception) -> Response:
        assert isinstance(error, psycopg.Error)
        return answer(request, from_database(error))

    async def on_status(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        problem = from_status(error.status_code, error.headers)
        if error.status_code == 404:
            # Only the router says so, for addresses that no operation has; hidden things raise a Problem.
            problem.detail = "There is no such address; none ends in a slash. GET /v1 names them."
        if error.status_code == 405:
            problem.headers = {"Allow": ", ".join(allowed(request.app, request.scope["path"], problem.headers))}
        return answer(request, problem)

    async def on_disconnect(request: Request, error: Exception) -> Response:
        return answer(request, Problem("bad-request"))

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(HTTPException, on_status)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(psycopg.OperationalError, on_database)
    app.add_exception_handler(psycopg.InterfaceError, on_database)
    app.add_exception_handler(ClientDisconnect, on_disconnect)
