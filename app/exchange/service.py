"""What the exchange adds to the application: its routers, and what runs beside the requests."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from app.db.pool import Database
from app.exchange.changes import changes_router
from app.exchange.wake import Bell
from app.records.kind import Kind


def routers(kinds: Mapping[str, Kind]) -> tuple[APIRouter, ...]:
    """The routers of the exchange over these kinds."""
    return (changes_router(kinds),)


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[None]:
    """Listens for changes while the application runs."""
    database: Database = app.state.database
    async with Bell(database.url) as bell:
        app.state.bell = bell
        yield
