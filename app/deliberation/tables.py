"""Tables of deliberation: what is relational by nature. Lists, charters and actions are ordinary records."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Boolean, CheckConstraint, Column, DateTime, ForeignKey, Identity, Index, Text
from sqlalchemy import Uuid as SqlUuid
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel


def _reference(table: str, *, primary_key: bool = False, nullable: bool = False) -> "Column[UUID]":
    return Column(SqlUuid, ForeignKey(f"{table}.id"), primary_key=primary_key, nullable=nullable)


def _instant(*, nullable: bool = False, now: bool = False) -> "Column[datetime]":
    return Column(DateTime(timezone=True), nullable=nullable, server_default=sql("now()") if now else None)


class Endorsement(SQLModel, table=True):
    """The ledger of endorsements: a row for each change of mind, never altered (a trigger refuses it).

    An organisation's position at any time is its newest row until then; `withdrawn` means it has none.
    """

    __tablename__ = "endorsement"
    __table_args__ = (
        CheckConstraint("position IN ('yes', 'no', 'abstain', 'withdrawn')", name="endorsement_position"),
        CheckConstraint("display IN ('public', 'members')", name="endorsement_display"),
        Index("endorsement_of_issue", "issue_id", "organisation_id", sql("seq DESC")),
        Index("endorsement_of_organisation", "organisation_id"),
    )

    seq: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    issue_id: UUID = Field(sa_column=_reference("record"))
    organisation_id: UUID = Field(sa_column=_reference("organisation"))
    position: str = Field(sa_column=Column(Text, nullable=False))
    statement: str | None = Field(sa_column=Column(Text))
    display: str = Field(sa_column=Column(Text, nullable=False))
    credential_id: UUID | None = Field(sa_column=Column(SqlUuid))
    at: datetime = Field(sa_column=_instant())


class Round(SQLModel, table=True):
    """A vote on the issues of a list, under the settings that held when it was opened."""

    __tablename__ = "round"
    __table_args__ = (
        CheckConstraint("stage IN ('endorsement', 'ranking')", name="round_stage"),
        CheckConstraint("ballot_display IN ('open', 'anonymous')", name="round_ballot_display"),
        CheckConstraint("status IN ('open', 'closed')", name="round_status"),
        CheckConstraint("(status = 'closed') = (closed_at IS NOT NULL)", name="round_closed_at"),
        CheckConstraint("(charter_id IS NULL) = (charter_version IS NULL)", name="round_charter"),
        Index("round_open", "issue_list_id", unique=True, postgresql_where=sql("status = 'open'")),
        Index("round_of_list", "issue_list_id", "id"),
    )

    id: UUID = Field(sa_column=Column(SqlUuid, primary_key=True))
    issue_list_id: UUID = Field(sa_column=_reference("record"))
    stage: str = Field(sa_column=Column(Text, nullable=False))
    ballot_display: str = Field(sa_column=Column(Text, nullable=False))
    status: str = Field(sa_column=Column(Text, nullable=False))
    issues: list[UUID] = Field(sa_column=Column(ARRAY(SqlUuid), nullable=False))
    settings: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    charter_id: UUID | None = Field(sa_column=_reference("record", nullable=True))
    charter_version: int | None = Field(sa_column=Column(BigInteger))
    opened_at: datetime = Field(sa_column=_instant())
    closed_at: datetime | None = Field(sa_column=_instant(nullable=True))


class Ballot(SQLModel, table=True):
    """One organisation's ballot in a round. `region` and `counted` are set at close; a trigger refuses change after."""

    __tablename__ = "ballot"

    round_id: UUID = Field(sa_column=_reference("round", primary_key=True))
    organisation_id: UUID = Field(sa_column=_reference("organisation", primary_key=True))
    content: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    region: str | None = Field(sa_column=Column(Text))
    counted: bool | None = Field(sa_column=Column(Boolean))
    created_at: datetime = Field(sa_column=_instant())
    updated_at: datetime = Field(sa_column=_instant())


class RoundResult(SQLModel, table=True):
    """What a closed round came to, never altered: the ballots with the regions they counted for, and the outcome."""

    __tablename__ = "round_result"

    round_id: UUID = Field(sa_column=_reference("round", primary_key=True))
    ballots_sha256: str = Field(sa_column=Column(Text, nullable=False))
    salt: str = Field(sa_column=Column(Text, nullable=False))
    inputs: list[Any] = Field(sa_column=Column(JSONB, nullable=False))
    outcome: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    sealed_at: datetime = Field(sa_column=_instant())


class ActionPartner(SQLModel, table=True):
    """A partner named in an action that has agreed to be one."""

    __tablename__ = "action_partner"

    action_id: UUID = Field(sa_column=_reference("record", primary_key=True))
    organisation_id: UUID = Field(sa_column=_reference("organisation", primary_key=True))
    accepted_at: datetime = Field(sa_column=_instant(now=True))
