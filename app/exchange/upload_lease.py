"""The lease of an import that is being received: it says that a process which lives still takes the body in.

A process that is killed cannot take back what it began. Its lease ends by itself, and then the upload counts no more:
neither against its organisation nor against the key under which it is sent again.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import psycopg

from app.db import tasks
from app.db.pool import Connection, Database

log = logging.getLogger("minga.exchange")

LEASE_SECONDS = 15
RENEW_SECONDS = 4.0
ABANDONED = "(status = 'receiving' AND (leased_until IS NULL OR leased_until < now()))"
"""SQL that is true of an import whose process died while the body came in."""


async def sweep(connection: Connection, organisation_id: UUID | None) -> None:
    """Removes what an organisation's uploads left behind when their process died."""
    await connection.execute(f"DELETE FROM import_job WHERE organisation_id = %s AND {ABANDONED}", [organisation_id])


@asynccontextmanager
async def held(database: Database, job_id: UUID) -> AsyncIterator[None]:
    """Holds the lease of an upload as long as the block runs."""
    renewing = asyncio.create_task(_renew(database, job_id))
    try:
        yield
    finally:
        await tasks.end([renewing])


async def _renew(database: Database, job_id: UUID) -> None:
    while True:
        await asyncio.sleep(RENEW_SECONDS)
        try:
            async with database.connection() as connection:
                await connection.execute(
                    f"UPDATE import_job SET leased_until = now() + interval '{LEASE_SECONDS} seconds'"
                    " WHERE id = %s AND status = 'receiving'",
                    [job_id],
                )
        except psycopg.Error as error:
            log.info("the lease of an upload: %s", type(error).__name__)
