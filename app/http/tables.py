"""The answers kept for Idempotency-Key."""

from datetime import datetime

from sqlalchemy import Column, DateTime, Index, LargeBinary, SmallInteger, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel


class IdempotencyAnswer(SQLModel, table=True):
    """The first committed answer to one (credential, method, path, key).

    `key_digest` and `request_digest` are SHA-256. `body` is null where the answer held a secret or its record was
    erased; `held_back` says which.
    """

    __tablename__ = "idempotency_answer"
    __table_args__ = (Index("idempotency_answer_created_at", "created_at"),)

    key_digest: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    request_digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    status: int = Field(sa_column=Column(SmallInteger, nullable=False))
    headers: list[list[str]] = Field(sa_column=Column(JSONB, nullable=False))
    body: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    held_back: str | None = Field(default=None, max_length=8, description="`secret`, `erased`, or null.")
    created_at: datetime = Field(
        sa_column=Column(DateTime(timezone=True), nullable=False, server_default=func.now()),
    )
