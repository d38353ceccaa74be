"""What the routes of webhooks and the worker share: the rights a webhook acts with, new messages, and its end."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row

from app.db.ids import new_id
from app.db.pool import Connection, ring_after_commit
from app.exchange import standing
from app.exchange.wake import JOBS_CHANNEL
from app.http.problem import Problem
from app.identity import audit
from app.identity.caller import Caller
from app.records.show import NO_STORE
from app.records.state import instant

SCOPE = "webhooks:manage"
SECRET_PURPOSE = "webhook-secret"  # noqa: S105  the name of a purpose
SCOPES = ("records:read", SCOPE)
"""What a credential needs to have a webhook: it tells of records."""
VOUCHED_FOR = (
    "EXISTS (SELECT FROM credential WHERE credential.id = webhook.credential_id AND credential.revoked_at IS NULL"
    " AND (credential.expires_at IS NULL OR credential.expires_at > now())"
    f" AND credential.scopes @> '{{{','.join(SCOPES)}}}'::text[])"
)
"""SQL that is true of a webhook whose credential is good: with a stolen one, what it set up ends too."""
PRIVATE = {"Cache-Control": NO_STORE}

COLUMNS = (
    "id, url, label, kinds, credential_id, status, reason, failing_since, previous_until AS previous_secret_until,"
    " (SELECT count(*) FROM webhook_delivery WHERE webhook_id = webhook.id AND status = 'pending') AS pending,"
    " created_at, updated_at"
)


def as_json(row: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A webhook, or a message of its log, on the wire."""
    found = {name: instant(value) if isinstance(value, datetime) else value for name, value in row.items()}
    if found.get("status") in ("delivered", "failed", "dropped"):
        found["next_attempt_at"] = None
    return {**found, **more}


async def one(connection: Connection, caller: Caller, webhook_id: UUID, *, lock: bool = False) -> dict[str, Any]:
    """The caller's webhook. Errors: 404 `not-found`."""
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(
        f"SELECT {COLUMNS} FROM webhook WHERE id = %s AND organisation_id = %s{' FOR UPDATE' if lock else ''}",
        [webhook_id, caller.organisation_id],
    )
    row = await cursor.fetchone()
    if row is None:
        raise Problem("not-found")
    return row


async def acting(connection: Connection, organisation_id: UUID, credential_id: UUID | None) -> Caller | None:
    """Who a webhook reads as at this moment; None when its organisation or its credential no longer may."""
    if credential_id is None:
        return None
    caller = await standing.organisation(connection, organisation_id, credential_id)
    return caller if caller is not None and caller.scopes.issuperset(SCOPES) else None


async def queue(connection: Connection, webhook_id: UUID, event: str, record_id: UUID | None = None) -> UUID:
    """The id of a new message to a webhook, to be sent at once."""
    message_id = new_id()
    await connection.execute(
        "INSERT INTO webhook_delivery (id, webhook_id, event, record_id, status) VALUES (%s, %s, %s, %s, 'pending')",
        [message_id, webhook_id, event, record_id],
    )
    ring_after_commit(connection, JOBS_CHANNEL)
    return message_id


async def rest_no_longer(connection: Connection, webhook_id: UUID) -> None:
    """Ends the pause after a failure. A lease is not touched: whoever holds it is sending."""
    await connection.execute("UPDATE webhook SET leased_until = NULL WHERE id = %s AND leased_by IS NULL", [webhook_id])


async def disable(connection: Connection, reason: str, condition: str, *values: object) -> None:
    """Ends sending to some webhooks and tells their organisations by audit events; what is pending stays."""
    cursor = await connection.execute(
        "UPDATE webhook SET status = 'disabled', reason = %s, updated_at = now()"
        f" WHERE status <> 'disabled' AND {condition} RETURNING id, organisation_id",
        [reason, *values],
    )
    for webhook_id, organisation_id in await cursor.fetchall():
        details = {"webhook": str(webhook_id), "reason": reason}
        await audit.record(
            connection, "webhook.disable", audit.SYSTEM, organisation_id=organisation_id, details=details
        )
