"""Identity: organisations, memberships, credentials, tokens, keys, audit, idempotency answers.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NAME = sa.Text(collation="C")
INSTANT = sa.DateTime(timezone=True)
NOW = sa.text("now()")

APPEND_ONLY = """
CREATE FUNCTION audit_event_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_event is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_event_rows_stay BEFORE UPDATE OR DELETE ON audit_event
    FOR EACH ROW EXECUTE FUNCTION audit_event_append_only();
CREATE TRIGGER audit_event_table_stays BEFORE TRUNCATE ON audit_event
    FOR EACH STATEMENT EXECUTE FUNCTION audit_event_append_only();
"""


def upgrade() -> None:
    op.create_table(
        "audit_event",
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("at", INSTANT, server_default=NOW, nullable=False),
        sa.Column("action", NAME, nullable=False),
        sa.Column("actor", NAME, nullable=False),
        sa.Column("actor_organisation_id", sa.UUID(), nullable=True),
        sa.Column("actor_credential_id", sa.UUID(), nullable=True),
        sa.Column("organisation_id", sa.UUID(), nullable=True),
        sa.Column("details", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.CheckConstraint("actor IN ('credential', 'steward', 'operator', 'system')", name="audit_event_actor"),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("audit_event_of_actor", "audit_event", ["actor_organisation_id", "seq"], unique=False)
    op.create_index("audit_event_of_organisation", "audit_event", ["organisation_id", "seq"], unique=False)
    op.create_index(
        "audit_event_of_stewards", "audit_event", ["seq"], unique=False, postgresql_where=sa.text("actor = 'steward'")
    )
    op.create_table(
        "idempotency_answer",
        sa.Column("key_digest", sa.LargeBinary(), nullable=False),
        sa.Column("request_digest", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("headers", postgresql.JSONB(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("held_back", sa.String(length=8), nullable=True),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("key_digest"),
    )
    op.create_index("idempotency_answer_created_at", "idempotency_answer", ["created_at"], unique=False)
    op.create_table(
        "organisation",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("acronym", NAME, nullable=True),
        sa.Column("names", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("country", NAME, nullable=True),
        sa.Column("region", NAME, nullable=True),
        sa.Column("network", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("listing", NAME, server_default=sa.text("'members'"), nullable=False),
        sa.Column("status", NAME, nullable=False),
        sa.Column("access_epoch", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("website", NAME, nullable=True),
        sa.Column("languages", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False),
        sa.Column("sources", postgresql.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("external_id", NAME, nullable=True),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        sa.Column("updated_at", INSTANT, server_default=NOW, nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.CheckConstraint(
            "kind IN ('civil-society-organisation', 'network', 'academia', 'think-tank',"
            " 'international-ngo', 'donor', 'intergovernmental', 'node')",
            name="organisation_kind",
        ),
        sa.CheckConstraint("listing IN ('public', 'members', 'unlisted')", name="organisation_listing"),
        sa.CheckConstraint(
            "status IN ('not-claimed', 'invited', 'active', 'suspended', 'left')", name="organisation_status"
        ),
        sa.CheckConstraint("version >= 1 AND access_epoch >= 1", name="organisation_counters"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("external_id"),
    )
    op.create_index("organisation_country", "organisation", ["country"], unique=False)
    op.create_table(
        "signing_key",
        sa.Column("kid", NAME, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("public_jwk", postgresql.JSONB(), nullable=False),
        sa.Column("published_at", INSTANT, server_default=NOW, nullable=False),
        sa.Column("active_from", INSTANT, nullable=False),
        sa.Column("retired_at", INSTANT, nullable=True),
        sa.Column("removed_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("kid"),
    )
    op.create_table(
        "claim_code",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("organisation_id", sa.UUID(), nullable=False),
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("used_at", INSTANT, nullable=True),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["organisation_id"], ["organisation.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("code_hash"),
    )
    op.create_index("ix_claim_code_organisation_id", "claim_code", ["organisation_id"], unique=False)
    op.create_table(
        "credential",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("client_id", NAME, nullable=False),
        sa.Column("organisation_id", sa.UUID(), nullable=False),
        sa.Column("label", NAME, nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("previous_secret_hash", sa.LargeBinary(), nullable=True),
        sa.Column("previous_expires_at", INSTANT, nullable=True),
        sa.Column("expires_at", INSTANT, nullable=True),
        sa.Column("revoked_at", INSTANT, nullable=True),
        sa.Column("last_used_at", INSTANT, nullable=True),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        sa.CheckConstraint(
            "(previous_secret_hash IS NULL) = (previous_expires_at IS NULL)", name="credential_rotation_ends"
        ),
        sa.ForeignKeyConstraint(["organisation_id"], ["organisation.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("client_id"),
    )
    op.create_index("ix_credential_organisation_id", "credential", ["organisation_id"], unique=False)
    op.create_table(
        "membership",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("network_id", sa.UUID(), nullable=False),
        sa.Column("organisation_id", sa.UUID(), nullable=False),
        sa.Column("network_agreed_at", INSTANT, nullable=True),
        sa.Column("network_agreed_by", sa.UUID(), nullable=True),
        sa.Column("organisation_agreed_at", INSTANT, nullable=True),
        sa.Column("organisation_agreed_by", sa.UUID(), nullable=True),
        sa.Column("by_operator", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.Column("ended_by", NAME, nullable=True),
        sa.Column("created_at", INSTANT, server_default=NOW, nullable=False),
        sa.CheckConstraint("ended_by IN ('network', 'organisation', 'operator')", name="membership_ended_by"),
        sa.CheckConstraint("(ended_at IS NULL) = (ended_by IS NULL)", name="membership_end_told"),
        sa.CheckConstraint(
            "network_agreed_at IS NOT NULL OR organisation_agreed_at IS NOT NULL", name="membership_someone_agreed"
        ),
        sa.CheckConstraint("network_id <> organisation_id", name="membership_two_parties"),
        sa.ForeignKeyConstraint(["network_agreed_by"], ["credential.id"]),
        sa.ForeignKeyConstraint(["network_id"], ["organisation.id"]),
        sa.ForeignKeyConstraint(["organisation_agreed_by"], ["credential.id"]),
        sa.ForeignKeyConstraint(["organisation_id"], ["organisation.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "membership_of_organisation",
        "membership",
        ["organisation_id"],
        unique=False,
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index(
        "membership_open",
        "membership",
        ["network_id", "organisation_id"],
        unique=True,
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "revoked_token",
        sa.Column("jti", NAME, nullable=False),
        sa.Column("credential_id", sa.UUID(), nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["credential_id"], ["credential.id"]),
        sa.PrimaryKeyConstraint("jti"),
    )
    op.create_index("revoked_token_of_credential", "revoked_token", ["credential_id", "expires_at"], unique=False)
    op.execute(APPEND_ONLY)


def downgrade() -> None:
    for table in (
        "revoked_token",
        "membership",
        "credential",
        "claim_code",
        "signing_key",
        "organisation",
        "idempotency_answer",
        "audit_event",
    ):
        op.drop_table(table)
    op.execute("DROP FUNCTION audit_event_append_only")
