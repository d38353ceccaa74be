"""What is told of an import: how far it is, the first of its problems and lines, and all of them as a stream."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import orjson
from fastapi import Request

from app.db.pool import Connection, Database
from app.exchange import import_entries
from app.exchange.exports import AccessEnded
from app.identity.access import bearer_token
from app.records.state import instant

SHOWN = 1000
SHOWN_BYTES = 8_000_000
"""A report shows at most so many entries of each sort, and fewer when they are long."""
SCOPE = "exchange:bulk"

COLUMNS = (
    "id, status, reason, dry_run, atomic, lines_total, lines_done, created, updated, unchanged, failed, repeated,"
    " problems_kept, lines_kept, problems_left_out + lines_left_out = 0, created_at, finished_at"
)


async def document(connection: Connection, public_url: str, row: tuple[Any, ...]) -> dict[str, Any]:
    """The report of an import, made of a row of `COLUMNS`."""
    id_, status, reason, dry_run, atomic, total, done, created, updated, unchanged, failed, repeated, *rest = row
    problems_kept, lines_kept, complete, created_at, finished_at = rest
    return {
        "id": id_,
        "status": status,
        "reason": reason,
        "dry_run": dry_run,
        "atomic": atomic,
        "lines_total": total,
        "lines_done": done,
        "counts": {"created": created, "updated": updated, "unchanged": unchanged, "failed": failed},
        "repeated": repeated,
        "report": f"{public_url}/v1/imports/{id_}/report.ndjson",
        "problems_kept": problems_kept,
        "lines_kept": lines_kept,
        "complete": complete,
        "problems": await _first(connection, id_, "problems") if problems_kept else [],
        "lines": await _first(connection, id_, "lines") if lines_kept else [],
        "created_at": instant(created_at),
        "finished_at": instant(finished_at),
    }


async def _first(connection: Connection, job_id: UUID, column: str) -> list[orjson.Fragment]:
    entries = await import_entries.first(connection, job_id, column, SHOWN, SHOWN_BYTES)
    return [orjson.Fragment(entry.rstrip(b"\n")) for entry in entries]


async def stream(request: Request, job_id: UUID, after: int) -> AsyncIterator[bytes]:
    """Every problem and line behind line `after`, in order of line, as NDJSON.

    Errors: AccessEnded, InvalidToken when the credential may no longer read it: the answer breaks off.
    """
    database: Database = request.app.state.database
    async for page in import_entries.pages(database, job_id, after):
        token = bearer_token(request)
        caller = None if token is None else await request.app.state.identity.caller(token)
        if caller is None or SCOPE not in caller.scopes:
            raise AccessEnded
        yield page
