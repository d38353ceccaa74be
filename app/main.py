"""The application: every router in one visible list, one middleware stack, one lifespan."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from starlette.middleware.cors import CORSMiddleware
from starlette_compress import CompressMiddleware, add_compress_type

from app.db import migrate, tasks
from app.db.pool import Connection, Database
from app.db.room import room_of
from app.deliberation import routes as deliberation
from app.discovery import vocabularies
from app.exchange import service as exchange
from app.exchange.messages import declare as declare_messages
from app.http import discovery, docs, handlers, health, peer
from app.http.dispatch import add_routes, use_index
from app.http.gate import Gate
from app.http.metrics import Metrics
from app.http.openapi import name_scopes
from app.http.problem import Problem
from app.http.rate import RateHeaders, RateLimiter
from app.http.transact import clean_regularly
from app.identity import (
    credential_routes,
    me,
    network_routes,
    oauth,
    organisation_routes,
    steward_routes,
    well_known,
)
from app.identity.caller import Caller
from app.identity.state import IdentityState
from app.kinds import KINDS
from app.records import leaving
from app.records.router import record_router
from app.sealing import MasterSecret
from app.settings import Settings

DESCRIPTION = """\
Minga lets organisations that work on security sector reform share issues, cases and resources, each with an owner, a
marking (TLP 2.0) and a version. Organisations get a token by client credentials; without one, everything marked clear
can be read. Refusals are problems (RFC 9457) with stable codes."""

PACKED = ("application/x-ndjson", "text/csv", "application/problem+json", "text/turtle")
"""What is packed on the way beside JSON, HTML and other texts that the packer knows."""
SCOPES = {
    "records:read": "Read what the organisation may read.",
    "records:write": "Write the organisation's own records.",
    "deliberation:write": "Endorse issues, cast ballots.",
    "exchange:bulk": "Import and export in bulk.",
    "webhooks:manage": "Manage the organisation's webhooks.",
    "organisation:manage": "Manage profile, credentials and memberships of the organisation.",
    "steward": "Admit and suspend organisations, correct reference data.",
}


async def migrations_applied(app: FastAPI) -> str:
    """`ok` when the database stands at the newest migration. Errors: RuntimeError when it does not."""
    database: Database = app.state.database
    async with database.connection() as connection:
        cursor = await connection.execute("SELECT version_num FROM alembic_version")
        row = await cursor.fetchone()
    if row is None or row[0] != app.state.migrations_head:
        raise RuntimeError("the database is not at the newest migration")
    return "ok"


async def withdraw_on_leaving(request: Request, connection: Connection, caller: Caller) -> None:
    """The records' part of leaving, in the same transaction."""
    await leaving.withdraw_confidential(connection, caller, KINDS)


async def refuse_while_widely_read(request: Request, connection: Connection, caller: Caller) -> None:
    """Errors: 409 `owner-unlisted` when an organisation would become unlisted that owns clear or green records."""
    if await leaving.widely_read(connection, caller):
        raise Problem("owner-unlisted")


async def signing_key_present(app: FastAPI) -> str:
    """`ok` when tokens can be signed. Errors: RuntimeError when not."""
    identity: IdentityState = app.state.identity
    if (await identity.keys()).signer is None:
        raise RuntimeError("there is no signing key")
    return "ok"


def create_app(settings: Settings, *, database_url: str, secret: MasterSecret, public_url: str) -> FastAPI:
    """The application over one database. Nothing is opened before its lifespan starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            database = await stack.enter_async_context(
                Database(database_url, size=settings.pool_size, room=room_of(settings))
            )
            app.state.database = database
            app.state.identity = IdentityState(database, secret, app.state.public_url)
            await stack.enter_async_context(exchange.running(app))
            cleaner = asyncio.create_task(clean_regularly(database))
            try:
                yield
            finally:
                await tasks.end([cleaner])
                if app.state.limiter is not None:
                    await app.state.limiter.close()

    app = FastAPI(
        title="Minga",
        version="1",
        summary="Issues, cases and resources that organisations share",
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    state = app.state
    state.settings = settings
    state.secret = secret
    state.public_url = public_url.rstrip("/")
    state.trusted_proxies = peer.networks(settings.trusted_proxies)
    state.metrics = Metrics()
    state.limiter = None
    if settings.rate_limit == "on":
        state.limiter = RateLimiter(workers=settings.workers, store=settings.rate_limit_store)
    state.migrations_head = migrate.head()
    state.checks = {
        "database": health.database_answers,
        "migrations": migrations_applied,
        "signing_key": signing_key_present,
        "feed_lag_seconds": health.feed_lag_seconds,
    }
    state.on_leave = withdraw_on_leaving
    state.on_unlist = refuse_while_widely_read
    name_scopes(SCOPES)
    handlers.install(app)

    state.kinds = {kind.name: kind for kind in KINDS}
    for kind in KINDS:
        add_routes(app, record_router(kind))
    for router in deliberation.ROUTERS:
        add_routes(app, router)
    for router in exchange.routers(state.kinds):
        add_routes(app, router)
    declare_messages(app)
    add_routes(app, oauth.router)
    add_routes(app, well_known.router)
    add_routes(app, me.router)
    add_routes(app, credential_routes.router)
    add_routes(app, organisation_routes.router)
    add_routes(app, steward_routes.router)
    add_routes(app, network_routes.router)
    add_routes(app, vocabularies.router)
    add_routes(app, discovery.router)
    add_routes(app, docs.router)
    add_routes(app, health.router)

    use_index(app)
    add_middleware(app, settings)
    return app


def add_middleware(app: FastAPI, settings: Settings) -> None:
    """Puts the layers around the application; the last one added is the first a request meets."""
    for media_type in PACKED:
        add_compress_type(media_type)
    app.add_middleware(CompressMiddleware, minimum_size=700)
    if app.state.limiter is not None:
        app.add_middleware(RateHeaders)
    origins = [item.strip() for item in settings.cors_origins.split(",") if item.strip()]
    if origins:
        cors: dict[str, Any] = {
            "allow_origins": origins,
            "allow_methods": ["GET", "POST", "PUT", "PATCH", "DELETE"],
            "allow_headers": ["Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match"],
            "expose_headers": ["ETag", "Link", "Location", "TLP", "RateLimit", "RateLimit-Policy", "Retry-After"],
        }
        app.add_middleware(CORSMiddleware, **cors)
    app.add_middleware(
        Gate,
        public_url=app.state.public_url,
        allowed_hosts=settings.allowed_hosts,
        metrics=app.state.metrics,
    )
