"""The schema: alembic's part of migrating, and what differs between the database and the declared tables.

`upgrade` waits for its turn on an advisory lock, so any number of processes may start at once. Inside, no statement
waits longer than 5 s for a table: a service that still runs is more important than an upgrade that cannot begin.
"""

import importlib
from collections.abc import Callable
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, create_engine, text
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool
from sqlalchemy.types import UserDefinedType
from sqlmodel import SQLModel

from app.db.migrate import MIGRATIONS, ROOT, MigrationError
from app.db.pool import driver_url

LOCK_KEY = 0x6D696E6761  # "minga"
TURN_SECONDS = 300
LOCK_TIMEOUT_SECONDS = 5
FOREIGN_PREFIXES = ("alembic_version",)


def upgrade(url: str, target: str = "head") -> None:
    """Bring the database to `target`. Errors: MigrationError."""
    _alone(url, lambda config: command.upgrade(config, target))


def downgrade(url: str, target: str) -> None:
    """Take the database back to `target` (`base` empties it). Errors: MigrationError."""
    _alone(url, lambda config: command.downgrade(config, target))


def revisions() -> list[str]:
    """The ids of all migrations, oldest first."""
    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()][::-1]


def drift(url: str) -> list[Any]:
    """What differs between the migrated database and the declared tables, as alembic's operations; empty is right."""
    declared = metadata()
    with _connect(url) as connection:
        # Column types of ours that SQLAlchemy does not know when it reads a database back.
        for column in (column for table in declared.tables.values() for column in table.columns):
            if isinstance(column.type, UserDefinedType):
                ischema_names.setdefault(column.type.get_col_spec(), type(column.type))
        return list(compare_metadata(MigrationContext.configure(connection, opts=comparison()), declared))


def metadata() -> MetaData:
    """The declared tables of every room that has a `tables.py`."""
    for file in sorted((ROOT / "app").glob("*/tables.py")):
        importlib.import_module(f"app.{file.parent.name}.tables")
    return SQLModel.metadata


def comparison() -> dict[str, Any]:
    """Options with which alembic compares tables; those of libraries are their own affair."""

    def ours(item: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
        table = getattr(item, "table", None)
        return not (name if kind == "table" or table is None else table.name or "").startswith(FOREIGN_PREFIXES)  # type: ignore[union-attr]

    return {"compare_type": True, "compare_server_default": False, "include_object": ours}


def _alone(url: str, work: Callable[[Config], None]) -> None:
    try:
        with _connect(url) as connection:
            connection.execute(text(f"SET lock_timeout = '{TURN_SECONDS}s'"))
            connection.execute(text(f"SELECT pg_advisory_lock({LOCK_KEY})"))
            connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'"))
            connection.commit()
            try:
                work(_config(connection))
            finally:
                connection.rollback()
                connection.execute(text(f"SELECT pg_advisory_unlock({LOCK_KEY})"))
                connection.commit()
    except OperationalError as error:
        raise MigrationError(f"the database could not be migrated: {error.orig}") from error


def _connect(url: str) -> Connection:
    address = "postgresql+psycopg://" + driver_url(url).partition("://")[2]
    return create_engine(address, poolclass=NullPool, connect_args={"options": "-c timezone=UTC"}).connect()


def _config(connection: Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
