"""Health: whether the process lives, whether it can work, and what it has counted. No version is shown."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from app.db.pool import Database
from app.http.log import log_readiness
from app.http.openapi import answer, public, responses
from app.http.problem import Problem
from app.http.responses import bytes_response, json_response

CHECK_SECONDS = 3.0
REMEMBERED_SECONDS = 0.5

Check = Callable[[FastAPI], Awaitable[Any]]
"""Gives what is worth showing; an exception means that the service is not ready."""

router = APIRouter(tags=["Service"])

_HEALTH = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
_READY = {
    "type": "object",
    "properties": {
        "status": {"type": "string", "enum": ["ready", "not-ready"]},
        "checks": {"type": "object", "additionalProperties": True},
    },
    "required": ["status", "checks"],
}


async def database_answers(app: FastAPI) -> str:
    """`ok` when the database answers a statement."""
    database: Database = app.state.database
    async with database.connection() as connection:
        await connection.execute("SELECT 1")
    return "ok"


async def feed_lag_seconds(app: FastAPI) -> float:
    """Age of the oldest transaction that writes anywhere in the cluster: so long may the change feed be held back."""
    database: Database = app.state.database
    async with database.connection() as connection:
        cursor = await connection.execute(
            """
            SELECT coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0)
            FROM pg_stat_activity WHERE backend_xid IS NOT NULL
            """
        )
        row = await cursor.fetchone()
    return round(float(row[0]), 3) if row else 0.0


@router.get(
    "/healthz",
    operation_id="getHealth",
    responses=responses({200: answer(_HEALTH, "The process answers.", example={"status": "ok"})}),
    openapi_extra=public(),
)
async def get_health(request: Request) -> Response:
    """Whether this process answers; it asks nothing else."""
    return bytes_response(b'{"status":"ok"}', 200, {"Cache-Control": "no-store"})


@router.get(
    "/readyz",
    operation_id="getReadiness",
    responses=responses(
        {
            200: answer(_READY, "The service can work.", example={"status": "ready", "checks": {"database": "ok"}}),
            503: answer(_READY, "It cannot, and `checks` says what is missing."),
        }
    ),
    openapi_extra=public() | {"x-own-errors": True},
)
async def get_readiness(request: Request) -> Response:
    """Whether this process can work: database, migrations, signing key, and how far the change feed is held back."""
    app = request.app
    remembered: tuple[float, bool, Mapping[str, Any]] | None = getattr(app.state, "readiness", None)
    if remembered is None or time.monotonic() - remembered[0] > REMEMBERED_SECONDS:
        app.state.readiness = remembered = (time.monotonic(), *await _check_all(app, app.state.checks))
    _, ready, found = remembered
    body = {"status": "ready" if ready else "not-ready", "checks": found}
    headers = {"Cache-Control": "no-store"}
    return json_response(body, 200, headers) if ready else json_response(body, 503, {**headers, "Retry-After": "2"})


async def _check_all(app: FastAPI, checks: Mapping[str, Check]) -> tuple[bool, dict[str, Any]]:
    found: dict[str, Any] = {}
    ready = True
    for name, check in checks.items():
        try:
            found[name] = await asyncio.wait_for(check(app), CHECK_SECONDS)
        except Exception as error:
            found[name] = "failed"
            ready = False
            log_readiness(name, error)
            if name == "database":
                break
    return ready, found


def _may_see_metrics(request: Request) -> bool:
    rule = request.app.state.settings.metrics
    if rule != "loopback":
        return bool(rule == "all")
    # Behind a proxy on the same machine everybody comes from loopback; a proxy says so.
    if "x-forwarded-for" in request.headers or "forwarded" in request.headers or request.client is None:
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False


@router.get(
    "/metrics",
    operation_id="getMetrics",
    responses=responses(
        {200: answer({"type": "string"}, "Prometheus text.", media_type="text/plain")},
        "not-found",
    ),
    openapi_extra=public(),
)
async def get_metrics(request: Request) -> Response:
    """Counts of this process for Prometheus; to callers on the same machine only, unless MINGA_METRICS says other."""
    if not _may_see_metrics(request):
        raise Problem("not-found")
    text = request.app.state.metrics.text(request.app.state.database)
    return bytes_response(text.encode(), 200, {"Cache-Control": "no-store"}, "text/plain; version=0.0.4; charset=utf-8")
