"""Records: the one table of records, their documents, words, links and revisions.

Two triggers on `organisation` keep records true whoever changes an organisation: when it becomes less visible, the
records that name it are guarded again (`refs_guarded`), and it cannot become unlisted while it has records published
to readers who may not know it exists (SQLSTATE MG001).
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app.records.tables import Xid8

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATUSES = "status IN ('draft', 'published', 'withdrawn')"
LABELS = "tlp IN ('clear', 'green', 'amber', 'amber+strict')"


def instant(name: str, nullable: bool = False) -> "sa.Column[object]":
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def sorted_text(name: str, nullable: bool = False, primary_key: bool = False) -> "sa.Column[object]":
    return sa.Column(name, sa.Text(collation="C"), nullable=nullable, primary_key=primary_key)


def strings(name: str) -> "sa.Column[object]":
    return sa.Column(name, sa.ARRAY(sa.Text), nullable=False, server_default=sa.text("'{}'"))


def record_key(name: str = "record_id") -> "sa.Column[object]":
    return sa.Column(name, sa.Uuid, sa.ForeignKey("record.id"), primary_key=True)


def organisation_key(primary_key: bool = False) -> "sa.Column[object]":
    return sa.Column(
        "organisation_id", sa.Uuid, sa.ForeignKey("organisation.id"), nullable=False, primary_key=primary_key
    )


def upgrade() -> None:
    newest = [sa.text("created_at DESC"), sa.text("id DESC")]
    op.create_table(
        "record",
        sa.Column("id", sa.Uuid, primary_key=True),
        sorted_text("kind"),
        organisation_key(),
        sorted_text("external_id", nullable=True),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("stage", sa.Text),
        sa.Column("tlp", sa.Text, nullable=False),
        sa.Column("audience", sa.ARRAY(sa.Uuid), nullable=False, server_default=sa.text("'{}'")),
        sa.Column("language", sa.Text, nullable=False),
        sorted_text("title"),
        sa.Column("summary", sa.Text),
        strings("countries"),
        strings("regions"),
        strings("topics"),
        sa.Column("licence", sa.Text),
        sa.Column("content", postgresql.JSONB, nullable=False),
        sorted_text("starts", nullable=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("refs_guarded", sa.Boolean, nullable=False, server_default=sa.text("false")),
        instant("quarantined_at", nullable=True),
        instant("erased_at", nullable=True),
        instant("created_at"),
        instant("updated_at"),
        instant("published_at", nullable=True),
        sa.CheckConstraint(STATUSES, name="record_status"),
        sa.CheckConstraint(LABELS, name="record_tlp"),
        sa.CheckConstraint("tlp LIKE 'amber%' OR cardinality(audience) = 0", name="record_audience_applies"),
        sa.CheckConstraint("status <> 'published' OR published_at IS NOT NULL", name="record_published_at"),
        sa.UniqueConstraint("organisation_id", "kind", "external_id", name="record_external_id"),
    )
    op.create_index(
        "record_clear", "record", ["kind", *newest], postgresql_where=sa.text("status = 'published' AND tlp = 'clear'")
    )
    op.create_index(
        "record_open",
        "record",
        ["kind", *newest],
        postgresql_where=sa.text("status = 'published' AND tlp IN ('clear', 'green')"),
    )
    op.create_index("record_own", "record", ["organisation_id", "kind", *newest])
    op.create_index("record_updated", "record", ["kind", sa.text("updated_at DESC"), sa.text("id DESC")])
    op.create_index("record_places", "record", ["countries", "regions", "topics"], postgresql_using="gin")
    op.create_index(
        "record_content",
        "record",
        ["content"],
        postgresql_using="gin",
        postgresql_ops={"content": "jsonb_path_ops"},
    )
    op.create_table(
        "document",
        record_key(),
        sa.Column("language", sa.Text, primary_key=True),
        sa.Column("brief", sa.LargeBinary, nullable=False),
        sa.Column("full_view", sa.LargeBinary, nullable=False),
        sa.Column("render_version", sa.SmallInteger, nullable=False),
    )
    # A document is read whole and is sent compressed by the proxy or by us: storing it uncompressed saves the
    # decompression on every read.
    op.execute("ALTER TABLE document ALTER COLUMN full_view SET STORAGE EXTERNAL")
    op.create_table(
        "search_text",
        record_key(),
        sa.Column("language", sa.Text, primary_key=True),
        sa.Column("words", postgresql.TSVECTOR, nullable=False),
    )
    op.create_index("search_text_words", "search_text", ["words"], postgresql_using="gin")
    op.create_table(
        "record_reader",
        organisation_key(primary_key=True),
        record_key(),
        sorted_text("kind"),
        instant("created_at"),
        sa.Column("through_network", sa.Boolean, nullable=False),
    )
    op.create_index(
        "record_reader_order",
        "record_reader",
        ["organisation_id", "kind", sa.text("created_at DESC"), sa.text("record_id DESC")],
    )
    op.create_index("record_reader_record", "record_reader", ["record_id"])
    op.create_table(
        "link",
        record_key("from_id"),
        sorted_text("relation", primary_key=True),
        record_key("to_id"),
    )
    op.create_index("link_back", "link", ["to_id", "relation", sa.text("from_id DESC")])
    op.create_table(
        "organisation_link",
        record_key("from_id"),
        sorted_text("relation", primary_key=True),
        organisation_key(primary_key=True),
    )
    op.create_index(
        "organisation_link_back", "organisation_link", ["organisation_id", "relation", sa.text("from_id DESC")]
    )
    op.create_table(
        "revision",
        sa.Column("seq", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("xid", Xid8, nullable=False, server_default=sa.text("pg_current_xact_id()")),
        sa.Column("record_id", sa.Uuid, sa.ForeignKey("record.id"), nullable=False),
        sorted_text("kind"),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        organisation_key(),
        sa.Column("actor_organisation_id", sa.Uuid),
        sa.Column("actor_credential_id", sa.Uuid),
        sa.Column("status_before", sa.Text),
        sa.Column("tlp_before", sa.Text),
        sa.Column("audience_before", sa.ARRAY(sa.Uuid)),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("tlp", sa.Text, nullable=False),
        sa.Column("audience", sa.ARRAY(sa.Uuid), nullable=False),
        sa.Column("envelope", postgresql.JSONB, nullable=False),
        sa.Column("body", postgresql.JSONB, nullable=False),
        instant("at"),
        sa.UniqueConstraint("record_id", "version", name="revision_version"),
        sa.CheckConstraint(STATUSES, name="revision_status"),
        sa.CheckConstraint(LABELS, name="revision_tlp"),
    )
    op.create_index("revision_order", "revision", ["xid", "seq"])
    op.create_table(
        "translation",
        record_key(),
        sa.Column("language", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("body", postgresql.JSONB, nullable=False),
        instant("updated_at"),
    )
    op.execute(
        """
        CREATE FUNCTION organisation_hides() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.listing = 'unlisted' THEN
                -- A record being published at this moment holds the same lock, shared, until it is committed.
                PERFORM pg_advisory_xact_lock(hashtextextended('listing ' || NEW.id::text, 0));
            END IF;
            IF NEW.listing = 'unlisted' AND OLD.listing <> 'unlisted' AND EXISTS (
                SELECT 1 FROM record WHERE organisation_id = NEW.id AND status = 'published'
                AND tlp IN ('clear', 'green')
            ) THEN
                RAISE EXCEPTION 'has records published to readers who may not know it' USING ERRCODE = 'MG001';
            END IF;
            UPDATE record SET refs_guarded = true
            WHERE NOT refs_guarded AND id IN (SELECT from_id FROM organisation_link WHERE organisation_id = NEW.id);
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER organisation_hides BEFORE UPDATE OF listing, status ON organisation FOR EACH ROW"
        " WHEN (OLD.listing IS DISTINCT FROM NEW.listing OR OLD.status IS DISTINCT FROM NEW.status)"
        " EXECUTE FUNCTION organisation_hides()"
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER organisation_hides ON organisation")
    op.execute("DROP FUNCTION organisation_hides")
    for table in (
        "translation",
        "revision",
        "organisation_link",
        "link",
        "record_reader",
        "search_text",
        "document",
        "record",
    ):
        op.drop_table(table)
