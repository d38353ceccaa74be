"""Webhooks: who holds a lease, when a challenge was sent, and on which credential a webhook rests."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "ALTER TABLE webhook ADD COLUMN leased_by UUID, ADD COLUMN challenged_at TIMESTAMP WITH TIME ZONE,"
        " ADD COLUMN credential_id UUID REFERENCES credential (id)"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE webhook DROP COLUMN credential_id, DROP COLUMN challenged_at, DROP COLUMN leased_by")
