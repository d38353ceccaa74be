"""What the exchange adds to the application: its routers, and what runs beside the requests."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import APIRouter, FastAPI

from app.db.pool import Database
from app.exchange.changes import changes_router
from app.exchange.exports import export_router
from app.exchange.imports import import_router
from app.exchange.wake import Bell
from app.exchange.webhook_log import delivery_router
from app.exchange.webhooks import webhook_router
from app.exchange.worker import Worker
from app.records.kind import Kind


def routers(kinds: Mapping[str, Kind]) -> tuple[APIRouter, ...]:
    """The routers of the exchange over these kinds."""
    return (changes_router(kinds), export_router(kinds), import_router(kinds), webhook_router(kinds), delivery_router())


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[None]:
    """Listens for changes while the application runs, and works unless `minga worker` does so elsewhere."""
    database: Database = app.state.database
    async with AsyncExitStack() as stack:
        app.state.bell = await stack.enter_async_context(Bell(database.url))
        if app.state.settings.embedded_worker:
            state = app.state
            await stack.enter_async_context(Worker(database, state.bell, state.kinds, state.secret, state.settings))
        yield
