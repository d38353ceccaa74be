"""Tables of the record machinery. Declared here, migrated by alembic, written only by `store`."""

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
    LargeBinary,
    SmallInteger,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR
from sqlalchemy.types import UserDefinedType
from sqlmodel import Field, SQLModel

STATUSES = "status IN ('draft', 'published', 'withdrawn')"
LABELS = "tlp IN ('clear', 'green', 'amber', 'amber+strict')"


class Xid8(UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """The type's name in SQL."""
        return "xid8"


def _sorted_text(*, nullable: bool = False) -> Column[str]:
    return Column(Text(collation="C"), nullable=nullable)


def _instant(*, nullable: bool = False) -> Column[datetime]:
    return Column(DateTime(timezone=True), nullable=nullable)


def _strings() -> Column[list[str]]:
    return Column(ARRAY(Text), nullable=False, server_default=text("'{}'"))


class Record(SQLModel, table=True):
    """A record as it is now: what all kinds share as columns, what is particular in `content`.

    `refs_guarded` is true when a reader may exist who reads this record but not everything it refers to: then the
    stored document is parsed when read, and loses the ids this reader may not have (rules of reference: marking.py).
    `starts` is the start of the body's `period`, for ordering events and counting by time.
    """

    __tablename__ = "record"
    id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    kind: str = Field(sa_column=_sorted_text())
    organisation_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("organisation.id"), nullable=False))
    external_id: str | None = Field(sa_column=_sorted_text(nullable=True))
    status: str = Field(sa_column=Column(Text, nullable=False))
    stage: str | None = Field(sa_column=Column(Text))
    tlp: str = Field(sa_column=Column(Text, nullable=False))
    audience: list[UUID] = Field(sa_column=Column(ARRAY(Uuid), nullable=False, server_default=text("'{}'")))
    language: str = Field(sa_column=Column(Text, nullable=False))
    title: str = Field(sa_column=_sorted_text())
    summary: str | None = Field(sa_column=Column(Text))
    countries: list[str] = Field(sa_column=_strings())
    regions: list[str] = Field(sa_column=_strings())
    topics: list[str] = Field(sa_column=_strings())
    licence: str | None = Field(sa_column=Column(Text))
    content: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    starts: str | None = Field(sa_column=_sorted_text(nullable=True))
    version: int = Field(sa_column=Column(BigInteger, nullable=False))
    refs_guarded: bool = Field(sa_column=Column(Boolean, nullable=False, server_default=text("false")))
    quarantined_at: datetime | None = Field(sa_column=_instant(nullable=True))
    erased_at: datetime | None = Field(sa_column=_instant(nullable=True))
    created_at: datetime = Field(sa_column=_instant())
    updated_at: datetime = Field(sa_column=_instant())
    published_at: datetime | None = Field(sa_column=_instant(nullable=True))
    __table_args__ = (
        CheckConstraint(STATUSES, name="record_status"),
        CheckConstraint(LABELS, name="record_tlp"),
        CheckConstraint("tlp LIKE 'amber%' OR cardinality(audience) = 0", name="record_audience_applies"),
        CheckConstraint("status <> 'published' OR published_at IS NOT NULL", name="record_published_at"),
        UniqueConstraint("organisation_id", "kind", "external_id", name="record_external_id"),
        Index(
            "record_clear",
            "kind",
            text("created_at DESC"),
            text("id DESC"),
            postgresql_where=text("status = 'published' AND tlp = 'clear'"),
        ),
        Index(
            "record_open",
            "kind",
            text("created_at DESC"),
            text("id DESC"),
            postgresql_where=text("status = 'published' AND tlp IN ('clear', 'green')"),
        ),
        Index("record_own", "organisation_id", "kind", text("created_at DESC"), text("id DESC")),
        Index("record_updated", "kind", text("updated_at DESC"), text("id DESC")),
        Index("record_places", "countries", "regions", "topics", postgresql_using="gin"),
        Index("record_content", "content", postgresql_using="gin", postgresql_ops={"content": "jsonb_path_ops"}),
    )


class Document(SQLModel, table=True):
    """The record's JSON, rendered at write time: one row per language, brief and full, as UTF-8 bytes."""

    __tablename__ = "document"
    record_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("record.id"), primary_key=True))
    language: str = Field(sa_column=Column(Text, primary_key=True))
    brief: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    full: bytes = Field(sa_column=Column("full_view", LargeBinary, nullable=False))
    render_version: int = Field(sa_column=Column(SmallInteger, nullable=False))


class SearchText(SQLModel, table=True):
    """Folded words of a record in one language."""

    __tablename__ = "search_text"
    record_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("record.id"), primary_key=True))
    language: str = Field(sa_column=Column(Text, primary_key=True))
    words: str = Field(sa_column=Column(TSVECTOR, nullable=False))
    __table_args__ = (Index("search_text_words", "words", postgresql_using="gin"),)


class RecordReader(SQLModel, table=True):
    """Who is named in the audience of a published amber record, in the order of lists.

    `through_network` is false for amber+strict: then a name reaches the named organisation only, never members of a
    network of that name.
    """

    __tablename__ = "record_reader"
    organisation_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("organisation.id"), primary_key=True))
    record_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("record.id"), primary_key=True))
    kind: str = Field(sa_column=_sorted_text())
    created_at: datetime = Field(sa_column=_instant())
    through_network: bool = Field(sa_column=Column(Boolean, nullable=False))
    __table_args__ = (
        Index("record_reader_order", "organisation_id", "kind", text("created_at DESC"), text("record_id DESC")),
        Index("record_reader_record", "record_id"),
    )


class Link(SQLModel, table=True):
    """A relation between two records, filled from the typed references of a body."""

    __tablename__ = "link"
    from_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("record.id"), primary_key=True))
    relation: str = Field(sa_column=Column(Text(collation="C"), primary_key=True))
    to_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("record.id"), primary_key=True))
    __table_args__ = (Index("link_back", "to_id", "relation", text("from_id DESC")),)


class OrganisationLink(SQLModel, table=True):
    """A reference of a record's body to an organisation (a role in an event, a partner)."""

    __tablename__ = "organisation_link"
    from_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("record.id"), primary_key=True))
    relation: str = Field(sa_column=Column(Text(collation="C"), primary_key=True))
    organisation_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("organisation.id"), primary_key=True))
    __table_args__ = (Index("organisation_link_back", "organisation_id", "relation", text("from_id DESC")),)


class Revision(SQLModel, table=True):
    """One row for each change of a record: the only log. History, feed, exports and webhooks read it.

    `xid` orders rows by transaction; readers stay below the oldest running one, so that no row appears behind them.
    `envelope` and `body` are the record after the change; `…_before` are null for the first version.
    """

    __tablename__ = "revision"
    seq: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    xid: int = Field(sa_column=Column(Xid8, nullable=False, server_default=text("pg_current_xact_id()")))
    record_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("record.id"), nullable=False))
    kind: str = Field(sa_column=_sorted_text())
    version: int = Field(sa_column=Column(BigInteger, nullable=False))
    action: str = Field(sa_column=Column(Text, nullable=False))
    organisation_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("organisation.id"), nullable=False))
    actor_organisation_id: UUID | None = Field(sa_column=Column(Uuid))
    actor_credential_id: UUID | None = Field(sa_column=Column(Uuid))
    status_before: str | None = Field(sa_column=Column(Text))
    tlp_before: str | None = Field(sa_column=Column(Text))
    audience_before: list[UUID] | None = Field(sa_column=Column(ARRAY(Uuid)))
    status: str = Field(sa_column=Column(Text, nullable=False))
    tlp: str = Field(sa_column=Column(Text, nullable=False))
    audience: list[UUID] = Field(sa_column=Column(ARRAY(Uuid), nullable=False))
    envelope: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    body: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    at: datetime = Field(sa_column=_instant())
    __table_args__ = (
        UniqueConstraint("record_id", "version", name="revision_version"),
        Index("revision_order", "xid", "seq"),
        CheckConstraint(STATUSES, name="revision_status"),
        CheckConstraint(LABELS, name="revision_tlp"),
    )


class Translation(SQLModel, table=True):
    """The texts of a record in another language, with a version of their own."""

    __tablename__ = "translation"
    record_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("record.id"), primary_key=True))
    language: str = Field(sa_column=Column(Text, primary_key=True))
    version: int = Field(sa_column=Column(BigInteger, nullable=False))
    body: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    updated_at: datetime = Field(sa_column=_instant())
