"""Deliberation: the ledger of endorsements, rounds, ballots, sealed results, partners of actions.

Three triggers hold what must hold whoever writes: the ledger and the results are only added to (SQLSTATE MG002), and
no ballot of a closed round comes, goes or changes (SQLSTATE MG003).
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

APPEND_ONLY = ("endorsement", "round_result")


def reference(name: str, table: str, *, primary_key: bool = False, nullable: bool = False) -> "sa.Column[object]":
    return sa.Column(name, sa.Uuid, sa.ForeignKey(f"{table}.id"), primary_key=primary_key, nullable=nullable)


def instant(name: str, *, nullable: bool = False) -> "sa.Column[object]":
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "endorsement",
        sa.Column("seq", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        reference("issue_id", "record"),
        reference("organisation_id", "organisation"),
        sa.Column("position", sa.Text, nullable=False),
        sa.Column("statement", sa.Text),
        sa.Column("display", sa.Text, nullable=False),
        sa.Column("credential_id", sa.Uuid),
        instant("at"),
        sa.CheckConstraint("position IN ('yes', 'no', 'abstain', 'withdrawn')", name="endorsement_position"),
        sa.CheckConstraint("display IN ('public', 'members')", name="endorsement_display"),
    )
    op.create_index("endorsement_of_issue", "endorsement", ["issue_id", "organisation_id", sa.text("seq DESC")])
    op.create_index("endorsement_of_organisation", "endorsement", ["organisation_id"])
    op.create_table(
        "round",
        sa.Column("id", sa.Uuid, primary_key=True),
        reference("issue_list_id", "record"),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("ballot_display", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("issues", sa.ARRAY(sa.Uuid), nullable=False),
        sa.Column("settings", postgresql.JSONB, nullable=False),
        reference("charter_id", "record", nullable=True),
        sa.Column("charter_version", sa.BigInteger),
        instant("opened_at"),
        instant("closed_at", nullable=True),
        sa.CheckConstraint("stage IN ('endorsement', 'ranking')", name="round_stage"),
        sa.CheckConstraint("ballot_display IN ('open', 'anonymous')", name="round_ballot_display"),
        sa.CheckConstraint("status IN ('open', 'closed')", name="round_status"),
        sa.CheckConstraint("(status = 'closed') = (closed_at IS NOT NULL)", name="round_closed_at"),
        sa.CheckConstraint("(charter_id IS NULL) = (charter_version IS NULL)", name="round_charter"),
    )
    op.create_index("round_open", "round", ["issue_list_id"], unique=True, postgresql_where=sa.text("status = 'open'"))
    op.create_index("round_of_list", "round", ["issue_list_id", "id"])
    op.create_table(
        "ballot",
        reference("round_id", "round", primary_key=True),
        reference("organisation_id", "organisation", primary_key=True),
        sa.Column("content", postgresql.JSONB, nullable=False),
        sa.Column("region", sa.Text),
        sa.Column("counted", sa.Boolean),
        instant("created_at"),
        instant("updated_at"),
    )
    op.create_table(
        "round_result",
        reference("round_id", "round", primary_key=True),
        sa.Column("ballots_sha256", sa.Text, nullable=False),
        sa.Column("salt", sa.Text, nullable=False),
        sa.Column("inputs", postgresql.JSONB, nullable=False),
        sa.Column("outcome", postgresql.JSONB, nullable=False),
        instant("sealed_at"),
    )
    op.create_table(
        "action_partner",
        reference("action_id", "record", primary_key=True),
        reference("organisation_id", "organisation", primary_key=True),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
    )
    op.execute(
        """
        CREATE FUNCTION deliberation_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'rows of % are only added', TG_TABLE_NAME USING ERRCODE = 'MG002';
        END $$
        """
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION deliberation_append_only()"
        )
    op.execute(
        """
        CREATE FUNCTION ballot_sealed() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            of_round uuid := CASE WHEN TG_OP = 'DELETE' THEN OLD.round_id ELSE NEW.round_id END;
        BEGIN
            IF (SELECT status FROM round WHERE id = of_round) = 'closed' THEN
                RAISE EXCEPTION 'the round is closed' USING ERRCODE = 'MG003';
            END IF;
            RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER ballot_sealed BEFORE INSERT OR UPDATE OR DELETE ON ballot"
        " FOR EACH ROW EXECUTE FUNCTION ballot_sealed()"
    )


def downgrade() -> None:
    for table in ("action_partner", "round_result", "ballot", "round", "endorsement"):
        op.drop_table(table)
    op.execute("DROP FUNCTION ballot_sealed")
    op.execute("DROP FUNCTION deliberation_append_only")
