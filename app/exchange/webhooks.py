"""`/v1/webhooks`: addresses that are told of changes, as the Standard Webhooks specification has them.

A webhook follows the change feed with the rights its organisation has at the moment of sending. Messages are thin: they
say which record changed, never what stands in it. Before the first of them the receiver proves that it wants them.

Source: api.md §5; safety S11, H1, H6; docs/guides/webhooks.md.
"""

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from psycopg.rows import dict_row

from app.db.ids import new_id
from app.db.pool import Connection, Database
from app.exchange import feed_place, guard, signing
from app.exchange.deliveries import SECRET_PURPOSE
from app.exchange.wake import JOBS_CHANNEL
from app.exchange.webhook_shapes import (
    DeliveryPage,
    Queued,
    WebhookChanges,
    WebhookInput,
    WebhookPage,
    WebhookSecret,
    WebhookView,
)
from app.http import query
from app.http.body import json_body, validated
from app.http.openapi import IDEMPOTENCY_KEY, answer, request_body, responses, secured
from app.http.problem import Fault, Problem, register
from app.http.query import query_parameters, read_query
from app.http.responses import empty_response, json_response
from app.http.transact import transact
from app.identity import audit
from app.identity.access import member
from app.identity.caller import Caller
from app.records.kind import Kind
from app.records.router import record_id
from app.records.show import NO_STORE
from app.records.state import instant
from app.settings import Settings

MOST_WEBHOOKS = 10
OVERLAP_HOURS = 24
CHALLENGE_PAUSE_SECONDS = 10
PRIVATE = {"Cache-Control": NO_STORE}

register({"webhook-limit": (409, "An organisation has at most ten webhooks.")})


_COLUMNS = (
    "id, url, label, kinds, status, reason, failing_since, previous_until AS previous_secret_until,"
    " (SELECT count(*) FROM webhook_delivery WHERE webhook_id = webhook.id AND status = 'pending') AS pending,"
    " created_at, updated_at"
)
_DELIVERY = "id, event, record_id, status, attempts, last_outcome, next_attempt_at, created_at, finished_at"


def _shown(row: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    found = {name: instant(value) if isinstance(value, datetime) else value for name, value in row.items()}
    if found.get("status") in ("delivered", "failed", "dropped"):
        found["next_attempt_at"] = None
    return {**found, **more}


async def _one(connection: Connection, caller: Caller, webhook_id: UUID, *, lock: bool = False) -> dict[str, Any]:
    """The caller's webhook. Errors: 404 `not-found`."""
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(
        f"SELECT {_COLUMNS} FROM webhook WHERE id = %s AND organisation_id = %s{' FOR UPDATE' if lock else ''}",
        [webhook_id, caller.organisation_id],
    )
    row = await cursor.fetchone()
    if row is None:
        raise Problem("not-found")
    return row


def checked_url(settings: Settings, url: str) -> str:
    """The address in its canonical form. Errors: 422 `invalid-body` with the reason as its code."""
    try:
        ports = {int(port) for port in settings.webhook_ports.split(",")}
        return guard.parse(url, development=settings.webhook_loopback, ports=ports).url
    except guard.AddressRefused as error:
        raise Problem("invalid-body", errors=[Fault("/url", error.code)]) from None


async def queue(connection: Connection, webhook_id: UUID, event: str, record_id: UUID | None = None) -> UUID:
    """The id of a new message to a webhook, to be sent at once."""
    message_id = new_id()
    await connection.execute(
        "INSERT INTO webhook_delivery (id, webhook_id, event, record_id, status) VALUES (%s, %s, %s, %s, 'pending')",
        [message_id, webhook_id, event, record_id],
    )
    await connection.execute(f"NOTIFY {JOBS_CHANNEL}")
    return message_id


async def challenge_again(connection: Connection, webhook_id: UUID) -> None:
    """Sends a challenge soon. Whoever asks again and again gets one at a time, ten seconds apart: the address may be
    that of somebody who never wanted any."""
    values = {"webhook": webhook_id, "pause": f"{CHALLENGE_PAUSE_SECONDS} seconds"}
    cursor = await connection.execute(
        "UPDATE webhook_delivery SET next_attempt_at = least(next_attempt_at,"
        " greatest(now(), created_at + attempts * %(pause)s::interval))"
        " WHERE webhook_id = %(webhook)s AND event = 'webhook.challenge' AND status = 'pending'",
        values,
    )
    if cursor.rowcount == 0:
        message_id = await queue(connection, webhook_id, "webhook.challenge")
        await connection.execute(
            "UPDATE webhook_delivery SET next_attempt_at = greatest(now(), (SELECT max(finished_at) FROM"
            " webhook_delivery WHERE webhook_id = %(webhook)s AND event = 'webhook.challenge') + %(pause)s::interval)"
            " WHERE id = %(message)s",
            {**values, "message": message_id},
        )
    await connection.execute(f"NOTIFY {JOBS_CHANNEL}")


def webhook_router(kinds: Mapping[str, Kind]) -> APIRouter:
    """Router of the webhooks of an organisation."""
    router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])
    by_name = {name: kind.name for kind in kinds.values() for name in (kind.name, kind.plural)}
    log_parameters = {
        "limit": query.integer(1, 200, 50).described("Number of items on a page."),
        "before": query.uuid().described("Only messages older than this one; `next` holds it."),
        "status": query.choice("pending", "delivered", "failed", "dropped").described("Only messages of this status."),
    }
    resend_parameters = {"since": query.instant().described("Only failed messages made since then.")}
    scope = "webhooks:manage"

    def checked_kinds(given: list[str]) -> list[str]:
        faults = [Fault(f"/kinds/{place}", "unknown-kind") for place, name in enumerate(given) if name not in by_name]
        if faults:
            raise Problem("invalid-body", errors=faults)
        return sorted({by_name[name] for name in given})

    @router.get(
        "",
        operation_id="listWebhooks",
        summary="Your organisation's webhooks",
        responses=responses({200: answer(WebhookPage, "All of them.")}),
        openapi_extra=secured(scope),
    )
    async def list_webhooks(request: Request, caller: Caller = member(scope)) -> Response:
        read_query(request, {})
        async with request.app.state.database.connection() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute(
                f"SELECT {_COLUMNS} FROM webhook WHERE organisation_id = %s ORDER BY id", [caller.organisation_id]
            )
            items = [_shown(row) for row in await cursor.fetchall()]
        return json_response({"items": items, "next": None}, headers=PRIVATE)

    @router.post(
        "",
        operation_id="createWebhook",
        summary="Register a webhook; its secret is shown this once",
        status_code=201,
        responses=responses(
            {201: answer(WebhookSecret, "Registered; a challenge is on its way.", headers=("Location",))},
            "invalid-body",
            "webhook-limit",
        ),
        openapi_extra={
            "parameters": [IDEMPOTENCY_KEY],
            **request_body(WebhookInput, example={"url": "https://example.org/minga", "label": "Web site"}),
            **secured(scope),
        },
    )
    async def create_webhook(request: Request, caller: Caller = member(scope)) -> Response:
        given = validated(WebhookInput, await json_body(request))
        url, wanted = checked_url(request.app.state.settings, given.url), checked_kinds(given.kinds)
        secret = signing.new_secret()

        async def work(connection: Connection) -> Response:
            # The organisation's row keeps two registrations from passing the limit together.
            await connection.execute(
                "SELECT 1 FROM organisation WHERE id = %s FOR NO KEY UPDATE", [caller.organisation_id]
            )
            cursor = await connection.execute(
                "SELECT count(*) FROM webhook WHERE organisation_id = %s", [caller.organisation_id]
            )
            row = await cursor.fetchone()
            if row is not None and row[0] >= MOST_WEBHOOKS:
                raise Problem("webhook-limit")
            webhook_id, place = new_id(), await feed_place.now(connection)
            await connection.execute(
                "INSERT INTO webhook (id, organisation_id, url, label, kinds, status, challenge, sealed_secret,"
                " place_xid, place_seq, lineage, access_epoch)"
                " VALUES (%s, %s, %s, %s, %s, 'unverified', %s, %s, %s, %s, %s, %s)",
                [
                    webhook_id,
                    caller.organisation_id,
                    url,
                    given.label,
                    wanted,
                    secrets.token_urlsafe(24),
                    request.app.state.secret.seal(SECRET_PURPOSE, secret.encode(), webhook_id.bytes),
                    place.xid,
                    place.seq,
                    place.lineage,
                    caller.access_epoch,
                ],
            )
            await queue(connection, webhook_id, "webhook.challenge")
            await noted(connection, caller, "webhook.create", webhook_id)
            shown = _shown(await _one(connection, caller, webhook_id), secret=secret)
            location = {"Location": f"{request.app.state.public_url}/v1/webhooks/{webhook_id}"}
            return json_response(shown, 201, PRIVATE | location)

        return await transact(request, work, credential_id=caller.credential_id, idempotent=True, holds_secret=True)

    @router.get(
        "/{id}",
        operation_id="getWebhook",
        summary="One webhook",
        responses=responses({200: answer(WebhookView, "The webhook.")}, "not-found"),
        openapi_extra=secured(scope),
    )
    async def get_webhook(request: Request, id: str, caller: Caller = member(scope)) -> Response:
        async with request.app.state.database.connection() as connection:
            return json_response(_shown(await _one(connection, caller, record_id(id))), headers=PRIVATE)

    @router.patch(
        "/{id}",
        operation_id="changeWebhook",
        summary="Change label or kinds of a webhook",
        responses=responses({200: answer(WebhookView, "As it is now.")}, "not-found", "invalid-body"),
        openapi_extra={**request_body(WebhookChanges, example={"label": "Web site"}), **secured(scope)},
    )
    async def change_webhook(request: Request, id: str, caller: Caller = member(scope)) -> Response:
        given = validated(WebhookChanges, await json_body(request, "application/json", "application/merge-patch+json"))
        wanted = None if given.kinds is None else checked_kinds(given.kinds)

        async def work(connection: Connection) -> Response:
            webhook = await _one(connection, caller, record_id(id), lock=True)
            await connection.execute(
                "UPDATE webhook SET label = coalesce(%s, label), kinds = coalesce(%s, kinds), updated_at = now()"
                " WHERE id = %s",
                [given.label, wanted, webhook["id"]],
            )
            return json_response(_shown(await _one(connection, caller, webhook["id"])), headers=PRIVATE)

        return await transact(request, work)

    @router.delete(
        "/{id}",
        operation_id="deleteWebhook",
        summary="Remove a webhook and its log",
        status_code=204,
        responses=responses({204: None}, "not-found"),
        openapi_extra=secured(scope),
    )
    async def delete_webhook(request: Request, id: str, caller: Caller = member(scope)) -> Response:
        async def work(connection: Connection) -> Response:
            webhook = await _one(connection, caller, record_id(id), lock=True)
            await connection.execute("DELETE FROM webhook WHERE id = %s", [webhook["id"]])
            await noted(connection, caller, "webhook.delete", webhook["id"])
            return empty_response()

        return await transact(request, work)

    @router.post(
        "/{id}/rotate",
        operation_id="rotateWebhookSecret",
        summary="A new secret; the old one signs too for 24 hours",
        responses=responses({200: answer(WebhookSecret, "With the new secret, shown this once.")}, "not-found"),
        openapi_extra={"parameters": [IDEMPOTENCY_KEY], **secured(scope)},
    )
    async def rotate_secret(request: Request, id: str, caller: Caller = member(scope)) -> Response:
        secret = signing.new_secret()

        async def work(connection: Connection) -> Response:
            webhook = await _one(connection, caller, record_id(id), lock=True)
            await connection.execute(
                "UPDATE webhook SET sealed_previous = sealed_secret, sealed_secret = %s, updated_at = now(),"
                f" previous_until = now() + interval '{OVERLAP_HOURS} hours' WHERE id = %s",
                [request.app.state.secret.seal(SECRET_PURPOSE, secret.encode(), webhook["id"].bytes), webhook["id"]],
            )
            await noted(connection, caller, "webhook.rotate", webhook["id"])
            return json_response(_shown(await _one(connection, caller, webhook["id"]), secret=secret), headers=PRIVATE)

        return await transact(request, work, credential_id=caller.credential_id, idempotent=True, holds_secret=True)

    @router.post(
        "/{id}/enable",
        operation_id="enableWebhook",
        summary="Send the challenge again; once echoed, what is pending is sent",
        status_code=202,
        responses=responses({202: answer(WebhookView, "The challenge is on its way.")}, "not-found"),
        openapi_extra=secured(scope),
    )
    async def enable_webhook(request: Request, id: str, caller: Caller = member(scope)) -> Response:
        async def work(connection: Connection) -> Response:
            webhook = await _one(connection, caller, record_id(id), lock=True)
            await connection.execute(
                "UPDATE webhook SET status = 'unverified', reason = NULL, failing_since = NULL, leased_until = NULL,"
                " updated_at = now() WHERE id = %s AND status <> 'active'",
                [webhook["id"]],
            )
            if webhook["status"] != "active":
                await challenge_again(connection, webhook["id"])
            return json_response(_shown(await _one(connection, caller, webhook["id"])), 202, PRIVATE)

        return await transact(request, work)

    @router.post(
        "/{id}/test",
        operation_id="testWebhook",
        summary="Send a ping",
        status_code=202,
        responses=responses({202: answer(Queued, "On its way; see the deliveries.")}, "not-found", "conflict"),
        openapi_extra=secured(scope),
    )
    async def send_ping(request: Request, id: str, caller: Caller = member(scope)) -> Response:
        async def work(connection: Connection) -> Response:
            webhook = await _one(connection, caller, record_id(id), lock=True)
            if webhook["status"] != "active":
                raise Problem("conflict", "The webhook is not active; enable it first.")
            await queue(connection, webhook["id"], "webhook.ping")
            return json_response({"queued": 1}, 202, PRIVATE)

        return await transact(request, work)

    @router.get(
        "/{id}/deliveries",
        operation_id="listWebhookDeliveries",
        summary="The log of a webhook, newest first; kept for 30 days",
        responses=responses({200: answer(DeliveryPage, "A page.")}, "not-found", "invalid-parameter"),
        openapi_extra={"parameters": query_parameters(log_parameters), **secured(scope)},
    )
    async def list_deliveries(request: Request, id: str, caller: Caller = member(scope)) -> Response:
        asked = read_query(request, log_parameters)
        database: Database = request.app.state.database
        async with database.connection() as connection:
            webhook = await _one(connection, caller, record_id(id))
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute(
                f"SELECT {_DELIVERY} FROM webhook_delivery WHERE webhook_id = %(webhook)s"
                " AND (%(before)s::uuid IS NULL OR seq < (SELECT seq FROM webhook_delivery WHERE id = %(before)s"
                " AND webhook_id = %(webhook)s)) AND (%(status)s::text IS NULL OR status = %(status)s)"
                " ORDER BY seq DESC LIMIT %(limit)s",
                {
                    "webhook": webhook["id"],
                    "before": asked["before"],
                    "status": asked["status"],
                    "limit": asked["limit"] + 1,
                },
            )
            rows = await cursor.fetchall()
        shown, following = rows[: asked["limit"]], None
        if len(rows) > asked["limit"]:
            chosen = f"&status={asked['status']}" if asked["status"] else ""
            path = f"/v1/webhooks/{webhook['id']}/deliveries?limit={asked['limit']}{chosen}&before={shown[-1]['id']}"
            following = request.app.state.public_url + path
        return json_response({"items": [_shown(row) for row in shown], "next": following}, headers=PRIVATE)

    async def again(connection: Connection, webhook_id: UUID, condition: str, values: Mapping[str, Any]) -> Response:
        cursor = await connection.execute(
            "UPDATE webhook_delivery SET status = 'pending', attempts = 0, next_attempt_at = now(), finished_at = NULL"
            f" WHERE webhook_id = %(webhook)s AND event <> 'webhook.challenge' AND {condition}",
            {**values, "webhook": webhook_id},
        )
        await connection.execute("UPDATE webhook SET leased_until = NULL WHERE id = %s", [webhook_id])
        await connection.execute(f"NOTIFY {JOBS_CHANNEL}")
        return json_response({"queued": cursor.rowcount}, 202, PRIVATE)

    @router.post(
        "/{id}/redeliver",
        operation_id="redeliverAll",
        summary="Send again what failed",
        status_code=202,
        responses=responses({202: answer(Queued, "On its way.")}, "not-found", "invalid-parameter"),
        openapi_extra={"parameters": query_parameters(resend_parameters), **secured(scope)},
    )
    async def redeliver_all(request: Request, id: str, caller: Caller = member(scope)) -> Response:
        since = read_query(request, resend_parameters)["since"]

        async def work(connection: Connection) -> Response:
            webhook = await _one(connection, caller, record_id(id), lock=True)
            condition = "status = 'failed' AND (%(since)s::timestamptz IS NULL OR created_at >= %(since)s)"
            return await again(connection, webhook["id"], condition, {"since": since})

        return await transact(request, work)

    @router.post(
        "/{id}/deliveries/{delivery}/redeliver",
        operation_id="redeliverOne",
        summary="Send one message again, under the same webhook-id",
        status_code=202,
        responses=responses({202: answer(Queued, "On its way.")}, "not-found"),
        openapi_extra=secured(scope),
    )
    async def redeliver_one(request: Request, id: str, delivery: str, caller: Caller = member(scope)) -> Response:
        async def work(connection: Connection) -> Response:
            webhook = await _one(connection, caller, record_id(id), lock=True)
            response = await again(connection, webhook["id"], "id = %(delivery)s", {"delivery": record_id(delivery)})
            if response.body == b'{"queued":0}':
                raise Problem("not-found")
            return response

        return await transact(request, work)

    async def noted(connection: Connection, caller: Caller, action: str, webhook_id: UUID) -> None:
        await audit.record(
            connection,
            action,
            audit.by(caller),
            organisation_id=caller.organisation_id,
            details={"webhook": str(webhook_id)},
        )

    return router
