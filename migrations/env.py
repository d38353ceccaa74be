"""Alembic's entry: runs the migrations on the connection that `app.db.schema` holds the lock with."""

from alembic import context

from app.db.schema import comparison, metadata

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("Migrations run through app.db.schema: `./minga serve` at start, `./minga check` for drift.")

context.configure(
    connection=connection,
    target_metadata=metadata(),
    transaction_per_migration=True,
    **comparison(),
)
with context.begin_transaction():
    context.run_migrations()
