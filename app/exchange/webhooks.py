"""`/v1/webhooks`: addresses that are told of changes, as the Standard Webhooks specification has them.

A webhook follows the change feed with the rights its organisation has at the moment of sending. Messages are thin: they
say which record changed, never what stands in it. Before the first of them the receiver proves that it wants them.

Source: api.md §5; safety S11, H1, H6; docs/guides/webhooks.md.
"""

import secrets
from collections.abc import Mapping
from uuid import UUID

from fastapi import APIRouter, Request, Response
from psycopg.rows import dict_row

from app.db.ids import new_id
from app.db.pool import Connection, ring_after_commit
from app.exchange import feed_place, guard, signing, webhook_rows
from app.exchange.wake import JOBS_CHANNEL
from app.exchange.webhook_rows import COLUMNS, PRIVATE, SCOPE, SECRET_PURPOSE, as_json, one
from app.exchange.webhook_sending import BACKOFF_SECONDS
from app.exchange.webhook_shapes import WebhookChanges, WebhookInput, WebhookPage, WebhookSecret, WebhookView
from app.http.body import json_body, validated
from app.http.limits import publish
from app.http.openapi import IDEMPOTENCY_KEY, answer, request_body, responses, secured
from app.http.problem import Fault, Problem, register
from app.http.query import read_query
from app.http.responses import empty_response, json_response
from app.http.transact import transact
from app.identity import audit
from app.identity.access import member, require_scope
from app.identity.caller import Caller
from app.records.kind import Kind
from app.records.router import record_id
from app.settings import Settings

MOST_WEBHOOKS = 10
OVERLAP_HOURS = 24
CHALLENGE_PAUSE_SECONDS = 10
REGISTRATIONS_AN_HOUR = 30
"""Of one organisation: each sends a challenge to an address that may be anybody's."""

register({"webhook-limit": (409, "An organisation has at most ten webhooks.")})
TRIES = {"attempts": len(BACKOFF_SECONDS) + 1, "retried_for_hours": sum(BACKOFF_SECONDS) // 3600}
publish("webhooks", {"per_organisation": MOST_WEBHOOKS, "url_bytes": guard.MAXIMUM_URL_BYTES, **TRIES})


def checked_url(settings: Settings, url: str) -> str:
    """The address in its canonical form. Errors: 422 `invalid-body` with the reason as its code."""
    try:
        ports = settings.webhook_port_numbers
        return guard.parse(url, development=settings.webhook_loopback, ports=ports).url
    except guard.AddressRefused as error:
        raise Problem("invalid-body", errors=[Fault("/url", error.code)]) from None


async def challenge_again(connection: Connection, webhook_id: UUID) -> None:
    """Sends a challenge soon. Whoever asks again and again gets one at a time, ten seconds apart: the address may be
    that of somebody who never wanted any."""
    pending = "webhook_id = %(webhook)s AND event = 'webhook.challenge' AND status = 'pending'"
    cursor = await connection.execute(f"SELECT FROM webhook_delivery WHERE {pending}", {"webhook": webhook_id})
    if cursor.rowcount == 0:
        await webhook_rows.queue(connection, webhook_id, "webhook.challenge")
    await connection.execute(
        "UPDATE webhook_delivery SET next_attempt_at = greatest(now(),"
        " (SELECT challenged_at FROM webhook WHERE id = %(webhook)s) + make_interval(secs => %(pause)s))"
        f" WHERE {pending}",
        {"webhook": webhook_id, "pause": CHALLENGE_PAUSE_SECONDS},
    )
    ring_after_commit(connection, JOBS_CHANNEL)


async def require_room(connection: Connection, caller: Caller) -> None:
    """Passes when the organisation may register another webhook. Errors: 409 `webhook-limit`, 429 `rate-limited`."""
    # The organisation's row keeps two registrations from passing the limits together.
    await connection.execute("SELECT 1 FROM organisation WHERE id = %s FOR NO KEY UPDATE", [caller.organisation_id])
    cursor = await connection.execute(
        "SELECT (SELECT count(*) FROM webhook WHERE organisation_id = %(id)s), (SELECT count(*) FROM"
        " (SELECT action, at FROM audit_event WHERE organisation_id = %(id)s ORDER BY seq DESC LIMIT 1000) AS lately"
        " WHERE action = 'webhook.create' AND at > now() - interval '1 hour')",
        {"id": caller.organisation_id},
    )
    row = await cursor.fetchone()
    assert row is not None
    if row[0] >= MOST_WEBHOOKS:
        raise Problem("webhook-limit")
    if row[1] >= REGISTRATIONS_AN_HOUR:
        detail = f"At most {REGISTRATIONS_AN_HOUR} webhooks are registered in an hour."
        raise Problem("rate-limited", detail, headers={"Retry-After": "600"})


def webhook_router(kinds: Mapping[str, Kind]) -> APIRouter:
    """Router of the webhooks of an organisation."""
    router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])
    by_name = {name: kind.name for kind in kinds.values() for name in (kind.name, kind.plural)}

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
        openapi_extra=secured(SCOPE),
    )
    async def list_webhooks(request: Request, caller: Caller = member(SCOPE)) -> Response:
        read_query(request, {})
        async with request.app.state.database.connection() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute(
                f"SELECT {COLUMNS} FROM webhook WHERE organisation_id = %s ORDER BY id", [caller.organisation_id]
            )
            items = [as_json(row) for row in await cursor.fetchall()]
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
            **secured(SCOPE),
        },
    )
    async def create_webhook(request: Request, caller: Caller = member(SCOPE)) -> Response:
        """It rests on your credential, which needs `records:read` too, and ends with it."""
        require_scope(caller, "records:read")
        given = validated(WebhookInput, await json_body(request))
        url, wanted = checked_url(request.app.state.settings, given.url), checked_kinds(given.kinds)
        secret = signing.new_secret()

        async def work(connection: Connection) -> Response:
            await require_room(connection, caller)
            webhook_id, place = new_id(), await feed_place.now(connection)
            await connection.execute(
                "INSERT INTO webhook (id, organisation_id, credential_id, url, label, kinds, status, challenge,"
                " sealed_secret, place_xid, place_seq, lineage, access_epoch)"
                " VALUES (%s, %s, %s, %s, %s, %s, 'unverified', %s, %s, %s, %s, %s, %s)",
                [
                    webhook_id,
                    caller.organisation_id,
                    caller.credential_id,
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
            await webhook_rows.queue(connection, webhook_id, "webhook.challenge")
            await noted(connection, caller, "webhook.create", webhook_id)
            shown = as_json(await one(connection, caller, webhook_id), secret=secret)
            location = {"Location": f"{request.app.state.public_url}/v1/webhooks/{webhook_id}"}
            return json_response(shown, 201, PRIVATE | location)

        return await transact(request, work, credential_id=caller.credential_id, idempotent=True, holds_secret=True)

    @router.get(
        "/{id}",
        operation_id="getWebhook",
        summary="One webhook",
        responses=responses({200: answer(WebhookView, "The webhook.")}, "not-found"),
        openapi_extra=secured(SCOPE),
    )
    async def get_webhook(request: Request, id: str, caller: Caller = member(SCOPE)) -> Response:
        async with request.app.state.database.connection() as connection:
            return json_response(as_json(await one(connection, caller, record_id(id))), headers=PRIVATE)

    @router.patch(
        "/{id}",
        operation_id="changeWebhook",
        summary="Change label or kinds of a webhook",
        responses=responses({200: answer(WebhookView, "As it is now.")}, "not-found", "invalid-body"),
        openapi_extra={**request_body(WebhookChanges, example={"label": "Web site"}), **secured(SCOPE)},
    )
    async def change_webhook(request: Request, id: str, caller: Caller = member(SCOPE)) -> Response:
        given = validated(WebhookChanges, await json_body(request, "application/json", "application/merge-patch+json"))
        wanted = None if given.kinds is None else checked_kinds(given.kinds)

        async def work(connection: Connection) -> Response:
            webhook = await one(connection, caller, record_id(id), lock=True)
            await connection.execute(
                "UPDATE webhook SET label = coalesce(%s, label), kinds = coalesce(%s, kinds), updated_at = now()"
                " WHERE id = %s",
                [given.label, wanted, webhook["id"]],
            )
            return json_response(as_json(await one(connection, caller, webhook["id"])), headers=PRIVATE)

        return await transact(request, work)

    @router.delete(
        "/{id}",
        operation_id="deleteWebhook",
        summary="Remove a webhook and its log",
        status_code=204,
        responses=responses({204: None}, "not-found"),
        openapi_extra=secured(SCOPE),
    )
    async def delete_webhook(request: Request, id: str, caller: Caller = member(SCOPE)) -> Response:
        async def work(connection: Connection) -> Response:
            webhook = await one(connection, caller, record_id(id), lock=True)
            await connection.execute("DELETE FROM webhook WHERE id = %s", [webhook["id"]])
            await noted(connection, caller, "webhook.delete", webhook["id"])
            return empty_response()

        return await transact(request, work)

    @router.post(
        "/{id}/rotate",
        operation_id="rotateWebhookSecret",
        summary="A new secret; the one before signs too for 24 hours",
        responses=responses({200: answer(WebhookSecret, "With the new secret, shown this once.")}, "not-found"),
        openapi_extra={"parameters": [IDEMPOTENCY_KEY], **secured(SCOPE)},
    )
    async def rotate_secret(request: Request, id: str, caller: Caller = member(SCOPE)) -> Response:
        secret = signing.new_secret()

        async def work(connection: Connection) -> Response:
            webhook = await one(connection, caller, record_id(id), lock=True)
            await connection.execute(
                "UPDATE webhook SET sealed_previous = sealed_secret, sealed_secret = %s, updated_at = now(),"
                f" previous_until = now() + interval '{OVERLAP_HOURS} hours' WHERE id = %s",
                [request.app.state.secret.seal(SECRET_PURPOSE, secret.encode(), webhook["id"].bytes), webhook["id"]],
            )
            await noted(connection, caller, "webhook.rotate", webhook["id"])
            return json_response(as_json(await one(connection, caller, webhook["id"]), secret=secret), headers=PRIVATE)

        return await transact(request, work, credential_id=caller.credential_id, idempotent=True, holds_secret=True)

    @router.post(
        "/{id}/enable",
        operation_id="enableWebhook",
        summary="Send the challenge again; once echoed, what is pending is sent",
        status_code=202,
        responses=responses({202: answer(WebhookView, "The challenge is on its way.")}, "not-found"),
        openapi_extra=secured(SCOPE),
    )
    async def enable_webhook(request: Request, id: str, caller: Caller = member(SCOPE)) -> Response:
        """From then on it rests on your credential; one that is active goes on as it is."""
        require_scope(caller, "records:read")

        async def work(connection: Connection) -> Response:
            webhook = await one(connection, caller, record_id(id), lock=True)
            await connection.execute(
                "UPDATE webhook SET credential_id = %s, updated_at = now() WHERE id = %s",
                [caller.credential_id, webhook["id"]],
            )
            await connection.execute(
                "UPDATE webhook SET status = 'unverified', reason = NULL, failing_since = NULL"
                " WHERE id = %s AND status <> 'active'",
                [webhook["id"]],
            )
            await webhook_rows.rest_no_longer(connection, webhook["id"])
            await noted(connection, caller, "webhook.enable", webhook["id"])
            if webhook["status"] != "active":
                await challenge_again(connection, webhook["id"])
            return json_response(as_json(await one(connection, caller, webhook["id"])), 202, PRIVATE)

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
