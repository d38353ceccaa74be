"""Writing: one transaction for each request, retried when PostgreSQL asks for it, and idempotent when the client does.

The answer to an Idempotency-Key is stored in the transaction of its effect, so that either both exist or neither. Only
2xx answers are kept; a failed request frees its key. Two requests with one key are told apart by an advisory lock,
which lives as long as the transaction.
"""

import asyncio
import logging
import random
import re
from collections.abc import Awaitable, Callable, Iterable
from hashlib import sha256
from typing import Any
from uuid import UUID

from psycopg.errors import DeadlockDetected, SerializationFailure
from psycopg.types.json import Jsonb
from starlette.requests import Request
from starlette.responses import Response

from app.db.pool import Connection, Database
from app.http.problem import Problem

RETRIES = 3
KEPT_HOURS = 48
CLEANED_AT_ONCE = 2000
_VITAL = re.compile(r"/oauth/.*|/v1/credentials(/.*)?|.*/(erase|quarantine|suspend|leave)")
"""What protects somebody is done even when the disk is nearly full."""

_KEY = re.compile("[!-~]([ -~]{0,253}[!-~])?")

_log = logging.getLogger(__name__)

Work = Callable[[Connection], Awaitable[Response]]


async def transact(
    request: Request,
    work: Work,
    *,
    credential_id: UUID | None = None,
    idempotent: bool = False,
    holds_secret: bool = False,
) -> Response:
    """The answer `work` gives, once its transaction is committed; or the answer kept for the same Idempotency-Key.

    `work` may run several times, each time in a new transaction, so it must have no effect outside its connection.

    **Errors:** what `work` raises (everything is rolled back); 400 `invalid-header`, 409 `idempotency-in-flight` or
    `secret-already-shown`, 410 `withdrawn` (the record was erased since), 422 `idempotency-mismatch`; 503
    `unavailable` after three retries; 507 `insufficient-storage`. **Source:** rules B10, safety W1, W9.
    """
    key = None
    if idempotent and credential_id is not None:
        key = request.headers.get("idempotency-key")
        if key is not None and not _KEY.fullmatch(key):
            raise Problem("invalid-header", detail="Idempotency-Key is 1 to 255 printable ASCII characters.")
    if key is not None and credential_id is not None:
        key_digest, request_digest = await _digests(request, credential_id, key)
        work = _once(work, key_digest, request_digest, holds_secret)
    database: Database = request.app.state.database
    vital = request.method == "DELETE" or _VITAL.fullmatch(request.scope["path"]) is not None
    attempt = 0
    while True:
        try:
            async with database.transaction(vital=vital) as connection:
                return await work(connection)
        except (SerializationFailure, DeadlockDetected):
            if attempt == RETRIES:
                raise Problem("unavailable", headers={"Retry-After": "1"}) from None
            attempt += 1
            await asyncio.sleep(random.uniform(0.005, 0.03) * attempt)  # noqa: S311


async def _digests(request: Request, credential_id: UUID, key: str) -> tuple[bytes, bytes]:
    """What names the request, and what it asks: both as SHA-256 over parts with their lengths in front."""

    def digest(*parts: bytes) -> bytes:
        hashed = sha256()
        for part in parts:
            hashed.update(len(part).to_bytes(8, "big"))
            hashed.update(part)
        return hashed.digest()

    named = digest(credential_id.bytes, request.method.encode(), request.scope["path"].encode(), key.encode())
    content_type = request.headers.get("content-type", "").encode()
    return named, digest(request.scope["query_string"], content_type, await request.body())


def _once(work: Work, key_digest: bytes, request_digest: bytes, holds_secret: bool) -> Work:
    """`work`, but only if no answer to this key is kept yet."""

    async def once(connection: Connection) -> Response:
        kept = await _kept(connection, key_digest, request_digest)
        if kept is not None:
            return kept
        lock = int.from_bytes(key_digest[:8], "big", signed=True)
        row = await (await connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (lock,))).fetchone()
        if row is None or not row[0]:
            raise Problem("idempotency-in-flight", headers={"Retry-After": "1"})
        # Whoever held the lock a moment ago has committed by now, and this statement sees it.
        kept = await _kept(connection, key_digest, request_digest)
        if kept is not None:
            return kept
        response = await work(connection)
        if 200 <= response.status_code < 300:
            await _keep(connection, key_digest, request_digest, response, holds_secret)
        return response

    return once


async def _kept(connection: Connection, key_digest: bytes, request_digest: bytes) -> Response | None:
    cursor = await connection.execute(
        "SELECT request_digest, status, headers, body, held_back FROM idempotency_answer WHERE key_digest = %s",
        (key_digest,),
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    digest, status, headers, body, held_back = row
    if held_back == "erased":
        raise Problem("withdrawn", detail="What this request made has been erased since.")
    if bytes(digest) != request_digest:
        raise Problem("idempotency-mismatch")
    if held_back == "secret":
        raise Problem("secret-already-shown")
    response = Response(None if body is None else bytes(body), status)
    response.raw_headers.extend((name.encode("latin-1"), value.encode("latin-1")) for name, value in headers)
    response.headers["Idempotency-Replayed"] = "true"
    return response


async def _keep(
    connection: Connection, key_digest: bytes, request_digest: bytes, response: Response, holds_secret: bool
) -> None:
    values: dict[str, Any] = {
        "key": key_digest,
        "request": request_digest,
        "status": response.status_code,
        "headers": Jsonb(
            [
                [name.decode("latin-1"), value.decode("latin-1")]
                for name, value in response.raw_headers
                if name != b"content-length" and not holds_secret
            ]
        ),
        "body": None if holds_secret else bytes(response.body),
        "held_back": "secret" if holds_secret else None,
    }
    await connection.execute(
        """
        INSERT INTO idempotency_answer (key_digest, request_digest, status, headers, body, held_back)
        VALUES (%(key)s, %(request)s, %(status)s, %(headers)s, %(body)s, %(held_back)s)
        """,
        values,
    )


async def forget(connection: Connection, record_ids: Iterable[UUID]) -> int:
    """Erases what kept answers say about these records; gives the number of answers. Their keys stay used.

    Every answer that mentions one of the ids is overwritten, with the digest of the request that made it.
    """
    cursor = await connection.execute(
        """
        UPDATE idempotency_answer
        SET body = NULL, headers = '[]', request_digest = '', held_back = 'erased'
        WHERE held_back IS NULL
          AND EXISTS (SELECT FROM unnest(%s::text[]) AS id WHERE position(convert_to(id, 'UTF8') IN body) > 0)
        """,
        ([str(record_id) for record_id in record_ids],),
    )
    return cursor.rowcount


async def clean(database: Database) -> int:
    """Deletes answers older than 48 hours, a bounded number at once; gives the number deleted."""
    async with database.connection() as connection:
        cursor = await connection.execute(
            """
            DELETE FROM idempotency_answer WHERE key_digest IN (
              SELECT key_digest FROM idempotency_answer WHERE created_at < now() - make_interval(hours => %s)
              ORDER BY created_at LIMIT %s FOR UPDATE SKIP LOCKED)
            """,
            (KEPT_HOURS, CLEANED_AT_ONCE),
        )
        return cursor.rowcount


async def clean_regularly(database: Database, every_seconds: float = 600) -> None:
    """Runs `clean` until cancelled. A failure is logged and tried again at the next turn."""
    while True:
        await asyncio.sleep(every_seconds * random.uniform(0.8, 1.2))  # noqa: S311
        try:
            while await clean(database) == CLEANED_AT_ONCE:
                pass
        except Exception as error:
            _log.warning("idempotency answers were not cleaned", extra={"error": type(error).__name__})
