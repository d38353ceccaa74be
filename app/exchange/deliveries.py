"""Deliveries: from the feed into the log of each webhook, and from there to the receivers.

Filling: each active webhook follows the feed from its own place; new rows of the log and the new place are one
transaction, so a change is noted once, whoever dies. Sending: a worker leases a webhook, sends what is due in order,
one message at a time, and asks at that moment what its organisation may still read. A receiver that fails is left
alone for ever longer; others do not notice.

Source: Standard Webhooks 1.0; safety S11, H2 to H6; docs/decisions/0402-webhooks-follow-the-feed.md.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import orjson

from app.db.ids import new_id
from app.db.pool import Connection, Database
from app.exchange import feed, feed_place, guard, signing, standing
from app.exchange.feed import Wanted
from app.exchange.feed_place import Place
from app.exchange.wake import JOBS_CHANNEL
from app.identity import audit
from app.records.state import instant
from app.sealing import MasterSecret, NotSealedHere
from app.settings import Settings

SECRET_PURPOSE = "webhook-secret"  # noqa: S105  the name of a purpose
BACKOFF_SECONDS = (5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800, 43200)
"""Pauses between attempts: eleven attempts over 27 hours."""
LEASE_SECONDS = 25
"""Longer than one attempt may take, and renewed for each; a worker that dies delays its webhook by no more."""
TURN_SECONDS = 20.0
TURN_MESSAGES = 50
PAGE_CHANGES = 200
MOST_PENDING = 10_000
SENDING = "sending"
"""The outcome of a message that is on its way for the first time."""
STRIDE = 1000
"""A webhook that nothing concerns moves its place on after so many transactions, not with each."""
LONGEST_RETRY_AFTER_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Receiver:
    """A leased webhook, ready to be sent to."""

    id: UUID
    organisation_id: UUID
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


async def fill(database: Database) -> bool:
    """Brings every active webhook's log up to the feed; True when some webhook has more to take."""
    async with database.connection() as connection:
        cursor = await connection.execute("SELECT id FROM webhook WHERE status = 'active' ORDER BY id")
        ids = [row[0] for row in await cursor.fetchall()]
    more = False
    for webhook_id in ids:
        more = await _fill_one(database, webhook_id) or more
    return more


async def _fill_one(database: Database, webhook_id: UUID) -> bool:
    async with database.connection() as connection:
        cursor = await connection.execute(
            "SELECT organisation_id, kinds, place_xid, place_seq, lineage, access_epoch, (SELECT count(*)"
            " FROM webhook_delivery WHERE webhook_id = webhook.id AND status = 'pending') FROM webhook WHERE id = %s",
            [webhook_id],
        )
        row = await cursor.fetchone()
        if row is None or row[6] >= MOST_PENDING:
            return False
        organisation_id, kinds, xid, seq, lineage, epoch, _ = row
        caller = await standing.organisation(connection, organisation_id)
        if caller is None:
            return False
        end = await feed_place.now(connection)
        restored = bytes(lineage) != end.lineage
        place = end if restored else Place(xid, seq, end.lineage)
        found = await feed.page(connection, caller, Wanted(tuple(kinds)), place, PAGE_CHANGES)
    events: list[tuple[str, UUID | None]] = [("record.changed", item.id) for item in found.items]
    if restored or epoch != caller.access_epoch:
        events.insert(0, ("access.changed", None))
    if not events and found.place.xid - xid < STRIDE:
        return False
    async with database.transaction() as connection:
        cursor = await connection.execute(
            "UPDATE webhook SET place_xid = %s, place_seq = %s, lineage = %s, access_epoch = %s"
            " WHERE id = %s AND status = 'active' AND place_xid = %s AND place_seq = %s",
            [found.place.xid, found.place.seq, end.lineage, caller.access_epoch, webhook_id, xid, seq],
        )
        if cursor.rowcount == 1:  # else another worker was faster
            await _note(connection, webhook_id, events)
    return found.more


async def _note(connection: Connection, webhook_id: UUID, events: Sequence[tuple[str, UUID | None]]) -> None:
    for event, record_id in events:
        # What waits to be sent for the first time will tell the newest state anyway; what is on its way may not.
        await connection.execute(
            "INSERT INTO webhook_delivery (id, webhook_id, event, record_id, status)"
            " SELECT %(id)s, %(webhook)s, %(event)s, %(record)s, 'pending' WHERE NOT EXISTS ("
            "SELECT FROM webhook_delivery WHERE webhook_id = %(webhook)s AND status = 'pending' AND attempts = 0"
            " AND last_outcome IS NULL AND event = %(event)s AND record_id IS NOT DISTINCT FROM %(record)s)",
            {"id": new_id(), "webhook": webhook_id, "event": event, "record": record_id},
        )
    await connection.execute(f"NOTIFY {JOBS_CHANNEL}")


_LEASE = f"""
UPDATE webhook SET leased_until = now() + interval '{LEASE_SECONDS} seconds'
WHERE id = (SELECT webhook.id FROM webhook WHERE status <> 'disabled'
    AND (leased_until IS NULL OR leased_until < now())
    AND EXISTS (SELECT FROM webhook_delivery WHERE webhook_id = webhook.id AND webhook_delivery.status = 'pending'
        AND next_attempt_at <= now() AND (webhook.status = 'active' OR event = 'webhook.challenge'))
    AND EXISTS (SELECT FROM organisation WHERE organisation.id = webhook.organisation_id AND status = 'active')
    ORDER BY leased_until NULLS FIRST LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
RETURNING id, organisation_id, url, status, challenge, sealed_secret,
    CASE WHEN previous_until > now() THEN sealed_previous END
"""


async def lease(database: Database, secret: MasterSecret) -> Receiver | None:
    """A webhook with something due that nobody sends to now; None when there is none."""
    async with database.connection() as connection:
        row = await (await connection.execute(_LEASE)).fetchone()
        if row is None:
            return None
        webhook_id, organisation_id, url, status, challenge, *sealed = row
        try:
            opened = [secret.unseal(SECRET_PURPOSE, bytes(one), webhook_id.bytes).decode() for one in sealed if one]
        except NotSealedHere:
            await _disable(connection, webhook_id, "secret-lost")
            return None
    return Receiver(webhook_id, organisation_id, url, status, challenge, tuple(opened))


async def send_due(database: Database, settings: Settings, receiver: Receiver) -> None:
    """Sends what is due to a leased webhook, in order, until something fails or its turn is over."""
    ends_at = time.monotonic() + TURN_SECONDS
    pause = 0.0
    for _ in range(TURN_MESSAGES):
        async with database.connection() as connection:
            message = await _next(connection, receiver)
            if message is None:
                break
            payload = await _payload(connection, receiver, message)
            if payload is None:
                await _finish(connection, message, "dropped", "no-longer-readable")
                continue
            await connection.execute(
                "UPDATE webhook SET leased_until = now() + make_interval(secs => %s) WHERE id = %s",
                [LEASE_SECONDS, receiver.id],
            )
        outcome, answer = await _attempt(settings, receiver, message, payload)
        async with database.transaction() as connection:
            pause = await _settle(connection, receiver, message, outcome, answer)
        if pause or receiver.status != "active" or time.monotonic() > ends_at:
            break
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE webhook SET leased_until = now() + make_interval(secs => %s) WHERE id = %s", [pause, receiver.id]
        )


async def _next(connection: Connection, receiver: Receiver) -> Message | None:
    """The next message that is due, marked as on its way before anybody looks at what it has to say."""
    only = "" if receiver.status == "active" else "AND event = 'webhook.challenge'"
    cursor = await connection.execute(
        f"UPDATE webhook_delivery SET last_outcome = coalesce(last_outcome, '{SENDING}') WHERE id = ("
        "SELECT id FROM webhook_delivery"
        f" WHERE webhook_id = %s AND status = 'pending' AND next_attempt_at <= now() {only} ORDER BY seq LIMIT 1)"
        " RETURNING id, event, record_id, attempts",
        [receiver.id],
    )
    row = await cursor.fetchone()
    return None if row is None else Message(*row)


async def _payload(connection: Connection, receiver: Receiver, message: Message) -> dict[str, Any] | None:
    """What the message says at this moment; None when its organisation may not even know any more."""
    caller = await standing.organisation(connection, receiver.organisation_id)
    if caller is None:
        return None
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
) -> tuple[str, guard.Answer | None]:
    """Sends a message once; the class of what came of it, and the answer if there was one."""
    body = orjson.dumps({"timestamp": instant(datetime.now(UTC)), **payload})
    headers = signing.signature_headers(receiver.secrets, f"msg_{message.id.hex}", int(time.time()), body)
    try:
        answer = await guard.post(
            receiver.url,
            body,
            {"Content-Type": "application/json", "User-Agent": "Minga-Webhooks/1", **headers},
            development=settings.webhook_loopback,
            ports={int(port) for port in settings.webhook_ports.split(",")},
        )
    except guard.AddressRefused as error:
        return error.code, None
    except (TimeoutError, httpx.TimeoutException):
        return "timeout", None
    except (httpx.TransportError, OSError):
        return "connection", None
    good = 200 <= answer.status < 300
    if good and message.event == "webhook.challenge" and receiver.challenge.encode() not in answer.body:
        return "challenge-not-echoed", answer
    return f"{answer.status // 100}xx", answer


async def _settle(
    connection: Connection, receiver: Receiver, message: Message, outcome: str, answer: guard.Answer | None
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
    if answer is not None and answer.status == 410:
        await _finish(connection, message, "failed", outcome)
        await _disable(connection, receiver.id, "gone")
        return 0.0
    if message.attempts >= len(BACKOFF_SECONDS):
        await _finish(connection, message, "failed", outcome)
        await _disable(connection, receiver.id, "failing")
        return 0.0
    pause = BACKOFF_SECONDS[message.attempts] * random.uniform(0.8, 1.2)  # noqa: S311
    if answer is not None and answer.retry_after is not None and answer.retry_after.isdigit():
        pause = max(pause, min(int(answer.retry_after[:9]), LONGEST_RETRY_AFTER_SECONDS))
    await connection.execute(
        "UPDATE webhook_delivery SET attempts = attempts + 1, last_outcome = %s,"
        " next_attempt_at = now() + make_interval(secs => %s) WHERE id = %s",
        [outcome, pause, message.id],
    )
    return pause


async def _finish(connection: Connection, message: Message, status: str, outcome: str) -> None:
    await connection.execute(
        "UPDATE webhook_delivery SET status = %s, last_outcome = %s, finished_at = now(), attempts = attempts + 1"
        " WHERE id = %s AND status = 'pending'",
        [status, outcome, message.id],
    )


async def _disable(connection: Connection, webhook_id: UUID, reason: str) -> None:
    """Ends sending to a webhook and tells its organisation by an audit event; what is pending stays until enabled."""
    cursor = await connection.execute(
        "UPDATE webhook SET status = 'disabled', reason = %s, updated_at = now() WHERE id = %s"
        " RETURNING organisation_id",
        [reason, webhook_id],
    )
    row = await cursor.fetchone()
    if row is not None:
        details = {"webhook": str(webhook_id), "reason": reason}
        await audit.record(connection, "webhook.disable", audit.SYSTEM, organisation_id=row[0], details=details)
