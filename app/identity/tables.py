"""Tables of the identity room: who is here, who belongs to whom, which credentials and keys live, what was done.

The declarations serve migrations and the drift check; run-time statements are SQL text in the modules beside this one.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import UUID as PgUuid
from sqlmodel import Field, SQLModel

from app.identity.vocabulary import KINDS, LISTINGS, STATUSES


def _one_of(column: str, values: tuple[str, ...], name: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=name)


def _id() -> Any:
    return Field(sa_column=Column(PgUuid(as_uuid=True), primary_key=True))


def _text(*, nullable: bool = False, default: str | None = None, unique: bool = False) -> Any:
    server_default = None if default is None else text(f"'{default}'")
    return Field(sa_column=Column(Text(collation="C"), nullable=nullable, server_default=server_default, unique=unique))


def _instant(*, nullable: bool = False, now: bool = False) -> Any:
    return Field(
        sa_column=Column(DateTime(timezone=True), nullable=nullable, server_default=text("now()") if now else None)
    )


def _reference(table: str, *, nullable: bool = False, index: bool = False) -> Any:
    return Field(sa_column=Column(PgUuid(as_uuid=True), ForeignKey(f"{table}.id"), nullable=nullable, index=index))


class Organisation(SQLModel, table=True):
    """A principal. A network is an organisation with `network` set, under the same id."""

    __tablename__ = "organisation"
    __table_args__ = (
        _one_of("kind", KINDS, "organisation_kind"),
        _one_of("listing", LISTINGS, "organisation_listing"),
        _one_of("status", STATUSES, "organisation_status"),
        CheckConstraint("version >= 1 AND access_epoch >= 1", name="organisation_counters"),
        Index("organisation_country", "country"),
    )

    id: UUID = _id()
    name: str = _text()
    acronym: str | None = _text(nullable=True)
    names: dict[str, str] = Field(sa_column=Column(JSONB, nullable=False, server_default=text("'{}'::jsonb")))
    kind: str = _text()
    country: str | None = _text(nullable=True)
    region: str | None = _text(nullable=True)
    network: bool = Field(sa_column_kwargs={"server_default": text("false")})
    listing: str = _text(default="members")
    status: str = _text()
    access_epoch: int = Field(sa_column=Column(BigInteger, nullable=False, server_default=text("1")))
    website: str | None = _text(nullable=True)
    languages: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False, server_default=text("'{}'::text[]")))
    sources: list[Any] = Field(sa_column=Column(JSONB, nullable=False, server_default=text("'[]'::jsonb")))
    external_id: str | None = _text(nullable=True, unique=True)
    created_at: datetime = _instant(now=True)
    updated_at: datetime = _instant(now=True)
    version: int = Field(sa_column_kwargs={"server_default": text("1")})


class Membership(SQLModel, table=True):
    """An organisation in a network. It counts once both sides have agreed, until either ends it.

    `*_agreed_by` is the credential that consented; null together with `by_operator` means the node's operator
    recorded both consents from the command line.
    """

    __tablename__ = "membership"
    __table_args__ = (
        CheckConstraint("network_id <> organisation_id", name="membership_two_parties"),
        CheckConstraint(
            "network_agreed_at IS NOT NULL OR organisation_agreed_at IS NOT NULL", name="membership_someone_agreed"
        ),
        CheckConstraint("(ended_at IS NULL) = (ended_by IS NULL)", name="membership_end_told"),
        _one_of("ended_by", ("network", "organisation", "operator"), "membership_ended_by"),
        Index(
            "membership_open",
            "network_id",
            "organisation_id",
            unique=True,
            postgresql_where=text("ended_at IS NULL"),
        ),
        Index("membership_of_organisation", "organisation_id", postgresql_where=text("ended_at IS NULL")),
    )

    id: UUID = _id()
    network_id: UUID = _reference("organisation")
    organisation_id: UUID = _reference("organisation")
    network_agreed_at: datetime | None = _instant(nullable=True)
    network_agreed_by: UUID | None = _reference("credential", nullable=True)
    organisation_agreed_at: datetime | None = _instant(nullable=True)
    organisation_agreed_by: UUID | None = _reference("credential", nullable=True)
    by_operator: bool = Field(sa_column_kwargs={"server_default": text("false")})
    ended_at: datetime | None = _instant(nullable=True)
    ended_by: str | None = _text(nullable=True)
    created_at: datetime = _instant(now=True)


class Credential(SQLModel, table=True):
    """A script's or site's access. Secrets are kept as keyed hashes; two are valid while one is being rotated out."""

    __tablename__ = "credential"
    __table_args__ = (
        CheckConstraint(
            "(previous_secret_hash IS NULL) = (previous_expires_at IS NULL)", name="credential_rotation_ends"
        ),
    )

    id: UUID = _id()
    client_id: str = _text(unique=True)
    organisation_id: UUID = _reference("organisation", index=True)
    label: str = _text()
    scopes: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    secret_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    previous_secret_hash: bytes | None = Field(sa_column=Column(LargeBinary, nullable=True))
    previous_expires_at: datetime | None = _instant(nullable=True)
    expires_at: datetime | None = _instant(nullable=True)
    revoked_at: datetime | None = _instant(nullable=True)
    last_used_at: datetime | None = _instant(nullable=True)
    created_at: datetime = _instant(now=True)


class RevokedToken(SQLModel, table=True):
    """An access token refused before its end, by its `jti`."""

    __tablename__ = "revoked_token"
    __table_args__ = (Index("revoked_token_of_credential", "credential_id", "expires_at"),)

    jti: str = Field(sa_column=Column(Text(collation="C"), primary_key=True))
    credential_id: UUID = _reference("credential")
    expires_at: datetime = _instant()


class ClaimCode(SQLModel, table=True):
    """A one-time code with which an organisation takes its entry; only its keyed hash is kept."""

    __tablename__ = "claim_code"

    id: UUID = _id()
    organisation_id: UUID = _reference("organisation", index=True)
    code_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False, unique=True))
    expires_at: datetime = _instant()
    used_at: datetime | None = _instant(nullable=True)
    created_at: datetime = _instant(now=True)


class SigningKey(SQLModel, table=True):
    """A key that signs access tokens: the private half sealed under the master secret, the public half as JWK."""

    __tablename__ = "signing_key"

    kid: str = Field(sa_column=Column(Text(collation="C"), primary_key=True))
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    public_jwk: dict[str, str] = Field(sa_column=Column(JSONB, nullable=False))
    published_at: datetime = _instant(now=True)
    active_from: datetime = _instant()
    retired_at: datetime | None = _instant(nullable=True)
    removed_at: datetime | None = _instant(nullable=True)


class AuditEvent(SQLModel, table=True):
    """What was done about access, never changed afterwards: a trigger refuses UPDATE, DELETE and TRUNCATE.

    `organisation_id` is the organisation concerned, `actor_*` who acted; both null with `actor` = operator or system.
    No foreign keys: an event outlives whatever it tells of.
    """

    __tablename__ = "audit_event"
    __table_args__ = (
        _one_of("actor", ("credential", "steward", "operator", "system"), "audit_event_actor"),
        Index("audit_event_of_organisation", "organisation_id", "seq"),
        Index("audit_event_of_actor", "actor_organisation_id", "seq"),
        Index("audit_event_of_stewards", "seq", postgresql_where=text("actor = 'steward'")),
    )

    seq: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    id: UUID = Field(sa_column=Column(PgUuid(as_uuid=True), nullable=False, unique=True))
    at: datetime = _instant(now=True)
    action: str = _text()
    actor: str = _text()
    actor_organisation_id: UUID | None = Field(sa_column=Column(PgUuid(as_uuid=True), nullable=True))
    actor_credential_id: UUID | None = Field(sa_column=Column(PgUuid(as_uuid=True), nullable=True))
    organisation_id: UUID | None = Field(sa_column=Column(PgUuid(as_uuid=True), nullable=True))
    details: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False, server_default=text("'{}'::jsonb")))
