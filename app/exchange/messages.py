"""The messages webhooks send, for the `webhooks` section of the contract. Nothing is built from these models."""

from typing import Any, Literal
from uuid import UUID

from fastapi import FastAPI
from pydantic import BaseModel, Field

from app.http.openapi import header_parameter, request_body

SIGNED = [
    header_parameter("webhook-id", "Names the message; the same at every attempt.", required=True),
    header_parameter("webhook-timestamp", "Seconds since 1970, of this attempt.", required=True),
    header_parameter(
        "webhook-signature",
        "`v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`, one for each secret in use, separated by a space.",
        required=True,
    ),
]
GONE: dict[int | str, dict[str, Any]] = {410: {"description": "No more of these: the webhook is disabled at once."}}


class RecordData(BaseModel):
    """Which record, never what stands in it."""

    kind: str
    id: UUID
    version: int = Field(ge=1)
    erased: bool | None = Field(None, description="True when the owner erased it for good.")


class RecordUpserted(BaseModel):
    """A record changed or came into sight; read it if you need it."""

    type: Literal["record.upserted"]
    timestamp: str = Field(description="When it changed.", json_schema_extra={"format": "date-time"})
    data: RecordData


class RecordRemoved(BaseModel):
    """A record is gone for you: withdrawn, erased, or no longer marked for you."""

    type: Literal["record.removed"]
    timestamp: str = Field(description="When it went.", json_schema_extra={"format": "date-time"})
    data: RecordData


class Challenge(BaseModel):
    """The text to echo anywhere in the first kilobyte of a 2xx answer, before anything else is sent."""

    challenge: str


class WebhookChallenge(BaseModel):
    """Asks whether you want the messages of this webhook."""

    type: Literal["webhook.challenge"]
    timestamp: str = Field(json_schema_extra={"format": "date-time"})
    data: Challenge


class Nothing(BaseModel):
    """No data."""


class WebhookPing(BaseModel):
    """You asked for a test."""

    type: Literal["webhook.ping"]
    timestamp: str = Field(json_schema_extra={"format": "date-time"})
    data: Nothing


class AccessChanged(BaseModel):
    """What you may read has changed: bring your copy in step by a fresh start of the feed."""

    type: Literal["access.changed"]
    timestamp: str = Field(json_schema_extra={"format": "date-time"})
    data: Nothing


MESSAGES: tuple[tuple[str, str, type[BaseModel]], ...] = (
    ("record.upserted", "recordUpserted", RecordUpserted),
    ("record.removed", "recordRemoved", RecordRemoved),
    ("webhook.challenge", "webhookChallenge", WebhookChallenge),
    ("webhook.ping", "webhookPing", WebhookPing),
    ("access.changed", "accessChanged", AccessChanged),
)


def declare(app: FastAPI) -> None:
    """Adds the messages to the contract of `app`."""

    async def message() -> None:
        """Any 2xx answer within 15 seconds means received, whatever its body; all but that and 410 is tried again for
        more than a day, under the same `webhook-id`.
        """

    async def challenge() -> None:
        """A 2xx answer within 15 seconds whose first kilobyte holds `data.challenge` makes the webhook active; all but
        that and 410 is tried again for more than a day.
        """

    for name, operation_id, model in MESSAGES:
        summary = (model.__doc__ or "").strip()
        extra: dict[str, Any] = {"parameters": SIGNED, **request_body(model)}
        app.webhooks.post(
            name,
            operation_id=operation_id,
            summary=summary,
            tags=["webhooks"],
            openapi_extra=extra,
            status_code=200 if model is WebhookChallenge else 204,
            response_description="The challenge, anywhere in it." if model is WebhookChallenge else "Received.",
            responses=GONE,
        )(challenge if model is WebhookChallenge else message)
