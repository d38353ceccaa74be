"""Sending: from the log of each webhook to its receiver.

A worker leases a webhook, sends what is due in order, one message at a time, and asks at that moment what its
organisation may still read. A receiver that fails is left alone for ever longer, one that is slow goes to the back of
the queue, and one organisation has only so many places: others do not notice. `leased_by` names who holds a webhook;
without it, `leased_until` is the end of a rest.

Source: Standard Webhooks 1.0; safety S11, H3 to H6; docs/decisions/0402-webhooks-follow-the-feed.md.
"""

import asyncio
import logging
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from app.db.pool import Connection, Database
from app.exchange import feed, guard, signing, webhook_rows
from app.exchange.outgoing import Answer, post
from app.exchange.wake import JOBS_CHANNEL
from app.exchange.webhook_rows import SECRET_PURPOSE, VOUCHED_FOR
from app.identity.caller import Caller
from app.records.state import instant
from app.sealing import MasterSecret, NotSealedHere
from app.settings import Settings

log = logging.getLogger("minga.exchange")

BACKOFF_SECONDS = (5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800, 43200)
"""Pauses between attempts: eleven attempts over 27 hours."""
LEASE_SECONDS = 25
"""Longer than one attempt may take, and renewed for each; a worker that is killed delays its webhook by no more."""
TURN_SECONDS = 20.0
TURN_MESSAGES = 50
SLOW_SECONDS = 3.0
"""A receiver that took longer for one answer goes to the back of the queue."""
ORGANISATION_AT_ONCE = 5
"""Receivers of one organisation that all workers together send to at once."""
SENDING = "sending"
"""The outcome of a message that is on its way for the first time."""
LONGEST_RETRY_AFTER_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Receiver:
    """A leased webhook, ready to be sent to."""

    id: UUID
    lease: UUID
    organisation_id: UUID
    credential_id: UUID
    url: str
    status: str
    challenge: str
    secrets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """A row of the log that is due."""

    id: UUID
    event: str
    record_id: UUID | None
    attempts: int


_LEASE = f"""
UPDATE webhook SET leased_by = %(lease)s, leased_until = now() + interval '{LEASE_SECONDS} seconds'
WHERE id = (SELECT webhook.id FROM webhook WHERE status <> 'disabled'
    AND (leased_until IS NULL OR leased_until <= now()) AND {VOUCHED_FOR}
    AND EXISTS (SELECT FROM webhook_delivery WHERE webhook_id = webhook.id AND webhook_delivery.status = 'pending'
        AND next_attempt_at <= now() AND (webhook.status = 'active' OR event = 'webhook.challenge'))
    AND EXISTS (SELECT FROM organisation WHERE organisation.id = webhook.organisation_id AND status = 'active')
    AND (SELECT count(*) FROM webhook AS sibling WHERE sibling.organisation_id = webhook.organisation_id
        AND sibling.leased_by IS NOT NULL AND sibling.leased_until > now()) < {ORGANISATION_AT_ONCE}
    ORDER BY leased_until NULLS FIRST LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
RETURNING id, organisation_id, credential_id, url, status, challenge, sealed_secret,
    CASE WHEN previous_until > now() THEN sealed_previous END
"""


_NEXT = f"""
UPDATE webhook_delivery SET last_outcome = coalesce(last_outcome, '{SENDING}') WHERE id = (
    -- `+ 0`, or the planner would walk the log by seq, past all that was ever delivered, to what is pending at its end.
    SELECT id FROM webhook_delivery WHERE webhook_id = %(webhook)s AND status = 'pending' AND next_attempt_at <= now()
        AND (%(active)s OR event = 'webhook.challenge') ORDER BY seq + 0 LIMIT 1)
RETURNING id, event, record_id, attempts
"""


async def lease(database: Database, secret: MasterSecret, holder: UUID) -> Receiver | None:
    """A webhook with something due that nobody sends to now, leased to `holder`; None when there is none."""
    async with database.transaction() as connection:
        row = await (await connection.execute(_LEASE, {"lease": holder})).fetchone()
        if row is None:
            return None
        webhook_id, organisation_id, credential_id, url, status, challenge, *sealed = row
        try:
            opened = [secret.unseal(SECRET_PURPOSE, bytes(one), webhook_id.bytes).decode() for one in sealed if one]
        except NotSealedHere:
            await webhook_rows.disable(connection, "secret-lost", "id = %s", webhook_id)
            return None
    return Receiver(webhook_id, holder, organisation_id, credential_id, url, status, challenge, tuple(opened))


async def give_back(database: Database, leases: Iterable[UUID]) -> None:
    """Ends these leases at once, so that another worker goes on; a lease that somebody else holds by now stays."""
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE webhook SET leased_by = NULL, leased_until = now() WHERE leased_by = ANY (%s)", [list(leases)]
        )
        await connection.execute(f"NOTIFY {JOBS_CHANNEL}")


async def _held(connection: Connection, receiver: Receiver) -> bool:
    """Renews the lease; False when it was lost, or the webhook is no longer what it was."""
    cursor = await connection.execute(
        "UPDATE webhook SET leased_until = now() + make_interval(secs => %s),"
        " challenged_at = CASE status WHEN 'unverified' THEN now() ELSE challenged_at END"
        " WHERE id = %s AND leased_by = %s AND status = %s",
        [LEASE_SECONDS, receiver.id, receiver.lease, receiver.status],
    )
    return cursor.rowcount == 1


async def send_due(database: Database, settings: Settings, receiver: Receiver, ending: asyncio.Event) -> None:
    """Sends what is due to a leased webhook, in order, until something fails, its turn is over, or all is to end."""
    ends_at = time.monotonic() + TURN_SECONDS
    pause = 0.0
    for _ in range(TURN_MESSAGES):
        async with database.connection() as connection:
            if not await _held(connection, receiver):
                break
            caller = await webhook_rows.acting(connection, receiver.organisation_id, receiver.credential_id)
            message = None if caller is None else await _next(connection, receiver)
            if caller is None or message is None:
                break
            payload = await _payload(connection, caller, receiver, message)
            if payload is None:
                await _finish(connection, message, "dropped", "no-longer-readable")
                continue
        begun = time.monotonic()
        outcome, answer = await _attempt(settings, receiver, message, payload)
        async with database.transaction(vital=True) as connection:
            pause = await _settle(connection, receiver, message, outcome, answer)
        slow = time.monotonic() - begun > SLOW_SECONDS
        if pause or slow or ending.is_set() or receiver.status != "active" or time.monotonic() > ends_at:
            break
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE webhook SET leased_by = NULL, leased_until = now() + make_interval(secs => %s)"
            " WHERE id = %s AND leased_by = %s",
            [pause, receiver.id, receiver.lease],
        )
        if ending.is_set():
            await connection.execute(f"NOTIFY {JOBS_CHANNEL}")


async def _next(connection: Connection, receiver: Receiver) -> Message | None:
    """The next message that is due, marked as on its way before anybody looks at what it has to say."""
    values = {"webhook": receiver.id, "active": receiver.status == "active"}
    row = await (await connection.execute(_NEXT, values)).fetchone()
    return None if row is None else Message(*row)


async def _payload(
    connection: Connection, caller: Caller, receiver: Receiver, message: Message
) -> dict[str, Any] | None:
    """What the message says at this moment; None when its organisation may not even know any more."""
    if message.event == "webhook.challenge":
        return {"type": message.event, "data": {"challenge": receiver.challenge}}
    if message.record_id is None:
        return {"type": message.event, "data": {}}
    item = await feed.present(connection, caller, message.record_id)
    if item is None:
        return None
    data = {"kind": item.kind, "id": item.id, "version": item.version} | ({"erased": True} if item.erased else {})
    event = "record.upserted" if item.type == "upsert" else "record.removed"
    return {"type": event, "timestamp": instant(item.at), "data": data}


async def _attempt(
    settings: Settings, receiver: Receiver, message: Message, payload: dict[str, Any]
) -> tuple[str, Answer | None]:
    """Sends a message once; the class of what came of it, and the answer if there was one."""
    body = orjson.dumps({"timestamp": instant(datetime.now(UTC)), **payload})
    headers = signing.signature_headers(receiver.secrets, f"msg_{message.id.hex}", int(time.time()), body)
    asks = message.event == "webhook.challenge"
    try:
        answer = await post(
            receiver.url,
            body,
            {"Content-Type": "application/json", "User-Agent": "Minga-Webhooks/1", **headers},
            echo=receiver.challenge.encode() if asks else None,
            development=settings.webhook_loopback,
            ports=settings.webhook_port_numbers,
        )
    except guard.AddressRefused as error:
        return error.code, None
    except TimeoutError:
        return "timeout", None
    except OSError:
        return "connection", None
    except Exception:
        # Whatever else a receiver provokes counts as an attempt, or it would be sent to for ever.
        log.exception("sending failed")
        return "connection", None
    if asks and 200 <= answer.status < 300 and not answer.echoed:
        return "challenge-not-echoed", answer
    return f"{answer.status // 100}xx", answer


async def _settle(
    connection: Connection, receiver: Receiver, message: Message, outcome: str, answer: Answer | None
) -> float:
    """Notes how an attempt ended; the seconds for which the receiver is left alone."""
    if outcome == "2xx":
        await _finish(connection, message, "delivered", outcome)
        await connection.execute("UPDATE webhook SET failing_since = NULL WHERE id = %s", [receiver.id])
        if message.event == "webhook.challenge":
            await connection.execute(
                "UPDATE webhook SET status = 'active', reason = NULL, updated_at = now()"
                " WHERE id = %s AND status = 'unverified'",
                [receiver.id],
            )
        return 0.0
    await connection.execute(
        "UPDATE webhook SET failing_since = coalesce(failing_since, now()) WHERE id = %s", [receiver.id]
    )
    gone = answer is not None and answer.status == 410
    if gone or message.attempts >= len(BACKOFF_SECONDS):
        await _finish(connection, message, "failed", outcome)
        await webhook_rows.disable(connection, "gone" if gone else "failing", "id = %s", receiver.id)
        return 0.0
    pause = BACKOFF_SECONDS[message.attempts] * random.uniform(0.8, 1.2)  # noqa: S311
    if answer is not None and answer.retry_after_seconds is not None:
        pause = max(pause, min(answer.retry_after_seconds, LONGEST_RETRY_AFTER_SECONDS))
    await connection.execute(
        "UPDATE webhook_delivery SET attempts = attempts + 1, last_outcome = %s,"
        " next_attempt_at = now() + make_interval(secs => %s) WHERE id = %s AND status = 'pending'",
        [outcome, pause, message.id],
    )
    return pause


async def _finish(connection: Connection, message: Message, status: str, outcome: str) -> None:
    await connection.execute(
        "UPDATE webhook_delivery SET status = %s, last_outcome = %s, finished_at = now(), attempts = attempts + 1"
        " WHERE id = %s AND status = 'pending'",
        [status, outcome, message.id],
    )
