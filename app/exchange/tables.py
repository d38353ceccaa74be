"""Tables of the exchange: imports under way, webhooks, and what is to be delivered to them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    Uuid,
    text,
)
from sqlmodel import Field, SQLModel


def _instant(*, nullable: bool = False, now: bool = False) -> Any:
    default = text("now()") if now else None
    return Field(sa_column=Column(DateTime(timezone=True), nullable=nullable, server_default=default))


def _count() -> Any:
    return Field(sa_column=Column(Integer, nullable=False, server_default=text("0")))


class ImportJob(SQLModel, table=True):
    """An import: received in parts, worked through part by part, each in one transaction with its progress here.

    `next_part` moves in the transaction that stores the part's records, so no part is ever worked twice. What is told
    of the lines lies in `import_entry`; here is how much of it was kept, and how much found no room. `lease_owner`
    names the worker's claim, so that a worker ends no lease but its own.
    """

    __tablename__ = "import_job"
    id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    organisation_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("organisation.id"), nullable=False))
    credential_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("credential.id"), nullable=False))
    kind: str | None = Field(sa_column=Column(Text))
    format: str = Field(sa_column=Column(Text, nullable=False))
    dry_run: bool = Field(sa_column=Column(Boolean, nullable=False))
    atomic: bool = Field(sa_column=Column(Boolean, nullable=False))
    key_digest: bytes | None = Field(sa_column=Column(LargeBinary))
    body_digest: bytes | None = Field(sa_column=Column(LargeBinary))
    status: str = Field(sa_column=Column(Text, nullable=False))
    reason: str | None = Field(sa_column=Column(Text))
    lines_total: int = _count()
    lines_done: int = _count()
    next_part: int = _count()
    created: int = _count()
    updated: int = _count()
    unchanged: int = _count()
    failed: int = _count()
    repeated: int = _count()
    problems_kept: int = _count()
    problems_left_out: int = _count()
    problem_bytes: int = _count()
    lines_kept: int = _count()
    lines_left_out: int = _count()
    line_bytes: int = _count()
    leased_until: datetime | None = _instant(nullable=True)
    lease_owner: UUID | None = Field(sa_column=Column(Uuid))
    created_at: datetime = _instant(now=True)
    finished_at: datetime | None = _instant(nullable=True)
    __table_args__ = (
        CheckConstraint("status IN ('receiving', 'queued', 'running', 'done', 'failed')", name="import_job_status"),
        CheckConstraint("format IN ('ndjson', 'csv')", name="import_job_format"),
        Index("import_job_key", "credential_id", "key_digest", unique=True),
        Index("import_job_of_organisation", "organisation_id", text("id DESC")),
        Index("import_job_open", "created_at", postgresql_where=text("status IN ('receiving', 'queued', 'running')")),
    )


class ImportPart(SQLModel, table=True):
    """Lines of an import not yet worked through, as JSON: a list of [line number, value, problem code]."""

    __tablename__ = "import_part"
    job_id: UUID = Field(
        sa_column=Column(Uuid, ForeignKey("import_job.id", ondelete="CASCADE"), primary_key=True, nullable=False)
    )
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False, nullable=False))
    count: int = Field(sa_column=Column(Integer, nullable=False))
    lines: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class ImportEntry(SQLModel, table=True):
    """What is told of the lines of one part: problems, and in a dry run what lines would do; each NDJSON, deflated."""

    __tablename__ = "import_entry"
    job_id: UUID = Field(
        sa_column=Column(Uuid, ForeignKey("import_job.id", ondelete="CASCADE"), primary_key=True, nullable=False)
    )
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False, nullable=False))
    last_line: int = Field(sa_column=Column(Integer, nullable=False))
    problem_count: int = Field(sa_column=Column(Integer, nullable=False))
    problems: bytes | None = Field(sa_column=Column(LargeBinary))
    line_count: int = Field(sa_column=Column(Integer, nullable=False))
    lines: bytes | None = Field(sa_column=Column(LargeBinary))


class ImportName(SQLModel, table=True):
    """A record that a dry run would have changed by now, as 64 bits of a digest; gone when the import ends."""

    __tablename__ = "import_name"
    job_id: UUID = Field(
        sa_column=Column(Uuid, ForeignKey("import_job.id", ondelete="CASCADE"), primary_key=True, nullable=False)
    )
    name: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False, nullable=False))


class Webhook(SQLModel, table=True):
    """An address that is told of changes. It follows the feed from its place, with the rights of its organisation.

    Secrets are sealed; the previous one signs too until it expires. `challenge` is what the receiver must echo before
    anything is delivered. `leased_until` is the end of the lease of `leased_by`, or of a rest when nobody holds it.
    `credential_id` set it up, or enabled it last; the webhook ends with it.
    """

    __tablename__ = "webhook"
    id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    organisation_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("organisation.id"), nullable=False))
    credential_id: UUID | None = Field(sa_column=Column(Uuid, ForeignKey("credential.id")))
    url: str = Field(sa_column=Column(Text, nullable=False))
    label: str = Field(sa_column=Column(Text, nullable=False))
    kinds: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    status: str = Field(sa_column=Column(Text, nullable=False))
    reason: str | None = Field(sa_column=Column(Text))
    challenge: str = Field(sa_column=Column(Text, nullable=False))
    sealed_secret: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    sealed_previous: bytes | None = Field(sa_column=Column(LargeBinary))
    previous_until: datetime | None = _instant(nullable=True)
    place_xid: int = Field(sa_column=Column(BigInteger, nullable=False))
    place_seq: int = Field(sa_column=Column(BigInteger, nullable=False))
    lineage: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    access_epoch: int = Field(sa_column=Column(BigInteger, nullable=False))
    failing_since: datetime | None = _instant(nullable=True)
    challenged_at: datetime | None = _instant(nullable=True)
    leased_by: UUID | None = Field(sa_column=Column(Uuid))
    leased_until: datetime | None = _instant(nullable=True)
    created_at: datetime = _instant(now=True)
    updated_at: datetime = _instant(now=True)
    __table_args__ = (
        CheckConstraint("status IN ('unverified', 'active', 'disabled')", name="webhook_status"),
        Index("webhook_of_organisation", "organisation_id", "id"),
    )


class WebhookDelivery(SQLModel, table=True):
    """One message to one webhook: its id is `webhook-id` at every attempt. What it says is found when it is sent."""

    __tablename__ = "webhook_delivery"
    id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    seq: int = Field(sa_column=Column(BigInteger, Identity(always=True), nullable=False))
    webhook_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("webhook.id", ondelete="CASCADE"), nullable=False))
    event: str = Field(sa_column=Column(Text, nullable=False))
    record_id: UUID | None = Field(sa_column=Column(Uuid, ForeignKey("record.id")))
    status: str = Field(sa_column=Column(Text, nullable=False))
    attempts: int = Field(sa_column=Column(SmallInteger, nullable=False, server_default=text("0")))
    next_attempt_at: datetime = _instant(now=True)
    last_outcome: str | None = Field(sa_column=Column(Text))
    created_at: datetime = _instant(now=True)
    finished_at: datetime | None = _instant(nullable=True)
    __table_args__ = (
        CheckConstraint(
            "event IN ('record.changed', 'webhook.challenge', 'webhook.ping', 'access.changed')",
            name="webhook_delivery_event",
        ),
        CheckConstraint("status IN ('pending', 'delivered', 'failed', 'dropped')", name="webhook_delivery_status"),
        Index("webhook_delivery_due", "webhook_id", "next_attempt_at", postgresql_where=text("status = 'pending'")),
        Index("webhook_delivery_log", "webhook_id", text("seq DESC")),
        Index("webhook_delivery_finished", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
    )
