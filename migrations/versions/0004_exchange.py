"""Exchange: imports under way, webhooks, and the messages that are to be delivered to them."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE import_job (
        id UUID NOT NULL,
        organisation_id UUID NOT NULL,
        credential_id UUID NOT NULL,
        kind TEXT,
        format TEXT NOT NULL,
        dry_run BOOLEAN NOT NULL,
        atomic BOOLEAN NOT NULL,
        key_digest BYTEA,
        body_digest BYTEA,
        status TEXT NOT NULL,
        reason TEXT,
        lines_total INTEGER DEFAULT 0 NOT NULL,
        lines_done INTEGER DEFAULT 0 NOT NULL,
        next_part INTEGER DEFAULT 0 NOT NULL,
        created INTEGER DEFAULT 0 NOT NULL,
        updated INTEGER DEFAULT 0 NOT NULL,
        unchanged INTEGER DEFAULT 0 NOT NULL,
        failed INTEGER DEFAULT 0 NOT NULL,
        problems JSONB DEFAULT '[]' NOT NULL,
        lines JSONB DEFAULT '[]' NOT NULL,
        leased_until TIMESTAMP WITH TIME ZONE,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        finished_at TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (id),
        CONSTRAINT import_job_status CHECK (status IN ('receiving', 'queued', 'running', 'done', 'failed')),
        CONSTRAINT import_job_format CHECK (format IN ('ndjson', 'csv')),
        FOREIGN KEY(organisation_id) REFERENCES organisation (id),
        FOREIGN KEY(credential_id) REFERENCES credential (id)
    )
    """,
    "CREATE UNIQUE INDEX import_job_key ON import_job (credential_id, key_digest)",
    "CREATE INDEX import_job_of_organisation ON import_job (organisation_id, id DESC)",
    "CREATE INDEX import_job_open ON import_job (created_at) WHERE status IN ('receiving', 'queued', 'running')",
    """
    CREATE TABLE import_part (
        job_id UUID NOT NULL,
        number INTEGER NOT NULL,
        count INTEGER NOT NULL,
        lines BYTEA NOT NULL,
        PRIMARY KEY (job_id, number),
        FOREIGN KEY(job_id) REFERENCES import_job (id) ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE webhook (
        id UUID NOT NULL,
        organisation_id UUID NOT NULL,
        url TEXT NOT NULL,
        label TEXT NOT NULL,
        kinds TEXT[] NOT NULL,
        status TEXT NOT NULL,
        reason TEXT,
        challenge TEXT NOT NULL,
        sealed_secret BYTEA NOT NULL,
        sealed_previous BYTEA,
        previous_until TIMESTAMP WITH TIME ZONE,
        place_xid BIGINT NOT NULL,
        place_seq BIGINT NOT NULL,
        lineage BYTEA NOT NULL,
        access_epoch BIGINT NOT NULL,
        failing_since TIMESTAMP WITH TIME ZONE,
        leased_until TIMESTAMP WITH TIME ZONE,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (id),
        CONSTRAINT webhook_status CHECK (status IN ('unverified', 'active', 'disabled')),
        FOREIGN KEY(organisation_id) REFERENCES organisation (id)
    )
    """,
    "CREATE INDEX webhook_of_organisation ON webhook (organisation_id, id)",
    """
    CREATE TABLE webhook_delivery (
        id UUID NOT NULL,
        seq BIGINT GENERATED ALWAYS AS IDENTITY,
        webhook_id UUID NOT NULL,
        event TEXT NOT NULL,
        record_id UUID,
        status TEXT NOT NULL,
        attempts SMALLINT DEFAULT 0 NOT NULL,
        next_attempt_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        last_outcome TEXT,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        finished_at TIMESTAMP WITH TIME ZONE,
        PRIMARY KEY (id),
        CONSTRAINT webhook_delivery_event CHECK
            (event IN ('record.changed', 'webhook.challenge', 'webhook.ping', 'access.changed')),
        CONSTRAINT webhook_delivery_status CHECK (status IN ('pending', 'delivered', 'failed', 'dropped')),
        FOREIGN KEY(webhook_id) REFERENCES webhook (id) ON DELETE CASCADE,
        FOREIGN KEY(record_id) REFERENCES record (id)
    )
    """,
    "CREATE INDEX webhook_delivery_due ON webhook_delivery (webhook_id, next_attempt_at) WHERE status = 'pending'",
    "CREATE INDEX webhook_delivery_finished ON webhook_delivery (finished_at) WHERE finished_at IS NOT NULL",
    "CREATE INDEX webhook_delivery_log ON webhook_delivery (webhook_id, seq DESC)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for table in ("webhook_delivery", "webhook", "import_part", "import_job"):
        op.drop_table(table)
