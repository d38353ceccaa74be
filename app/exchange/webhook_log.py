"""The log of a webhook: what was sent and what came of it, pings, and sending again."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from psycopg.rows import dict_row

from app.db.pool import Connection, Database, ring_after_commit
from app.exchange import feed, webhook_rows
from app.exchange.wake import JOBS_CHANNEL
from app.exchange.webhook_rows import PRIVATE, SCOPE, as_json, one
from app.exchange.webhook_shapes import DeliveryPage, Queued
from app.http import query
from app.http.openapi import answer, responses, secured
from app.http.problem import Problem
from app.http.query import query_parameters, read_query
from app.http.responses import json_response
from app.http.transact import transact
from app.identity.access import member
from app.identity.caller import Caller
from app.records.router import record_id

MOST_PINGS = 10
_DELIVERY = "id, event, record_id, status, attempts, last_outcome, next_attempt_at, created_at, finished_at"


def delivery_router() -> APIRouter:
    """Router of the messages of a webhook."""
    router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])
    log_parameters = {
        "limit": query.integer(1, 200, 50).described("Number of items on a page."),
        "before": query.uuid().described("Only messages older than this one; `next` holds it."),
        "status": query.choice("pending", "delivered", "failed", "dropped").described("Only messages of this status."),
    }
    resend_parameters = {"since": query.instant().described("Only failed messages made since then.")}

    @router.post(
        "/{id}/test",
        operation_id="testWebhook",
        summary="Send a ping",
        status_code=202,
        responses=responses({202: answer(Queued, "On its way; see the deliveries.")}, "not-found", "conflict"),
        openapi_extra=secured(SCOPE),
    )
    async def send_ping(request: Request, id: str, caller: Caller = member(SCOPE)) -> Response:
        async def work(connection: Connection) -> Response:
            webhook = await one(connection, caller, record_id(id), lock=True)
            if webhook["status"] != "active":
                raise Problem("conflict", "The webhook is not active; enable it first.")
            waiting = "webhook_id = %s AND event = 'webhook.ping' AND status = 'pending'"
            cursor = await connection.execute(f"SELECT FROM webhook_delivery WHERE {waiting}", [webhook["id"]])
            if cursor.rowcount >= MOST_PINGS:
                raise Problem("conflict", f"{MOST_PINGS} pings wait to be sent already.")
            await webhook_rows.queue(connection, webhook["id"], "webhook.ping")
            return json_response({"queued": 1}, 202, PRIVATE)

        return await transact(request, work)

    @router.get(
        "/{id}/deliveries",
        operation_id="listWebhookDeliveries",
        summary="The log of a webhook, newest first; kept for 30 days",
        responses=responses({200: answer(DeliveryPage, "A page.")}, "not-found", "invalid-parameter"),
        openapi_extra={"parameters": query_parameters(log_parameters), **secured(SCOPE)},
    )
    async def list_deliveries(request: Request, id: str, caller: Caller = member(SCOPE)) -> Response:
        asked = read_query(request, log_parameters)
        conditions = ["webhook_id = %(webhook)s"]
        if asked["before"]:
            conditions.append(
                "seq < (SELECT seq FROM webhook_delivery WHERE id = %(before)s AND webhook_id = %(webhook)s)"
            )
        if asked["status"]:
            conditions.append("status = %(status)s")
        database: Database = request.app.state.database
        async with database.connection() as connection:
            webhook = await one(connection, caller, record_id(id))
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute(
                f"SELECT {_DELIVERY} FROM webhook_delivery WHERE {' AND '.join(conditions)}"
                f" ORDER BY seq DESC LIMIT {asked['limit'] + 1}",
                {"webhook": webhook["id"], "before": asked["before"], "status": asked["status"]},
            )
            rows = await cursor.fetchall()
            shown, following = rows[: asked["limit"]], None
            # What the organisation could read when a message was noted, it may not even know any more.
            reads = "records:read" in caller.scopes
            ids = [row["record_id"] for row in shown if reads and row["record_id"] is not None]
            told = await feed.known(connection, caller, ids)
            shown = [{**row, "record_id": row["record_id"] if row["record_id"] in told else None} for row in shown]
        if len(rows) > asked["limit"]:
            chosen = f"&status={asked['status']}" if asked["status"] else ""
            path = f"/v1/webhooks/{webhook['id']}/deliveries?limit={asked['limit']}{chosen}&before={shown[-1]['id']}"
            following = request.app.state.public_url + path
        return json_response({"items": [as_json(row) for row in shown], "next": following}, headers=PRIVATE)

    async def again(connection: Connection, webhook_id: UUID, condition: str, values: Mapping[str, Any]) -> int:
        """How many messages of those that fit are to be sent again, at once."""
        cursor = await connection.execute(
            "UPDATE webhook_delivery SET status = 'pending', attempts = 0, next_attempt_at = now(), finished_at = NULL"
            f" WHERE webhook_id = %(webhook)s AND event <> 'webhook.challenge' AND {condition}",
            {**values, "webhook": webhook_id},
        )
        await webhook_rows.rest_no_longer(connection, webhook_id)
        ring_after_commit(connection, JOBS_CHANNEL)
        return cursor.rowcount

    @router.post(
        "/{id}/redeliver",
        operation_id="redeliverAll",
        summary="Send again what failed",
        status_code=202,
        responses=responses({202: answer(Queued, "On its way.")}, "not-found", "invalid-parameter"),
        openapi_extra={"parameters": query_parameters(resend_parameters), **secured(SCOPE)},
    )
    async def redeliver_all(request: Request, id: str, caller: Caller = member(SCOPE)) -> Response:
        since = read_query(request, resend_parameters)["since"]

        async def work(connection: Connection) -> Response:
            webhook = await one(connection, caller, record_id(id), lock=True)
            condition = "status = 'failed' AND (%(since)s::timestamptz IS NULL OR created_at >= %(since)s)"
            count = await again(connection, webhook["id"], condition, {"since": since})
            return json_response({"queued": count}, 202, PRIVATE)

        return await transact(request, work)

    @router.post(
        "/{id}/deliveries/{delivery}/redeliver",
        operation_id="redeliverOne",
        summary="Send one message again, under the same webhook-id",
        status_code=202,
        responses=responses({202: answer(Queued, "On its way.")}, "not-found"),
        openapi_extra=secured(SCOPE),
    )
    async def redeliver_one(request: Request, id: str, delivery: str, caller: Caller = member(SCOPE)) -> Response:
        async def work(connection: Connection) -> Response:
            webhook = await one(connection, caller, record_id(id), lock=True)
            if not await again(connection, webhook["id"], "id = %(delivery)s", {"delivery": record_id(delivery)}):
                raise Problem("not-found")
            return json_response({"queued": 1}, 202, PRIVATE)

        return await transact(request, work)

    return router
