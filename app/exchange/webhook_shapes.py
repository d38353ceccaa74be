"""What goes in and out at `/v1/webhooks`."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.exchange import guard
from app.records.fields import Name


class WebhookInput(BaseModel):
    """A webhook to register."""

    model_config = ConfigDict(extra="forbid")
    url: str = Field(max_length=guard.MAXIMUM_URL_BYTES, description="An https address on the public internet.")
    label: Name = Field(description="What you call it.")
    kinds: list[str] = Field(default_factory=list, max_length=50, description="Only these kinds; none: all.")


class WebhookChanges(BaseModel):
    """What may be changed later; for another address register another webhook."""

    model_config = ConfigDict(extra="forbid")
    label: Name | None = None
    kinds: list[str] | None = Field(None, max_length=50)


class WebhookView(BaseModel):
    """A webhook. `unverified` until its receiver has echoed the challenge; `disabled` says why in `reason`."""

    id: UUID
    url: str
    label: str
    kinds: list[str]
    credential_id: UUID | None = Field(description="The credential it rests on, and ends with.")
    status: Literal["unverified", "active", "disabled"]
    reason: str | None
    failing_since: datetime | None
    previous_secret_until: datetime | None
    pending: int
    created_at: datetime
    updated_at: datetime


class WebhookSecret(WebhookView):
    """A webhook with its secret, which is shown this once."""

    secret: str


class WebhookPage(BaseModel):
    """The webhooks of an organisation, oldest first."""

    items: list[WebhookView]
    next: None


class DeliveryView(BaseModel):
    """A message in the log: what it was about, and how the last attempt ended, by class of answer only."""

    id: UUID
    event: Literal["record.changed", "webhook.challenge", "webhook.ping", "access.changed"]
    record_id: UUID | None
    status: Literal["pending", "delivered", "failed", "dropped"]
    attempts: int
    last_outcome: str | None
    next_attempt_at: datetime | None
    created_at: datetime
    finished_at: datetime | None


class DeliveryPage(BaseModel):
    """Deliveries, newest first."""

    items: list[DeliveryView]
    next: str | None


class Queued(BaseModel):
    """How many messages will be sent (again)."""

    queued: int
