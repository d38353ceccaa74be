"""Migrations: numbered files below `migrations/versions`, run at start by one process at a time.

alembic is loaded only where there is something to do: it takes longer to load than all the rest of a second start.
"""

from pathlib import Path

import psycopg

from app.db.pool import driver_url

ROOT = Path(__file__).resolve().parents[2]
MIGRATIONS = ROOT / "migrations"


class MigrationError(Exception):
    """The database could not be migrated; the text is for the operator."""


def files() -> list[Path]:
    """The migrations, oldest first; a file is named like `0007_what_it_does.py`, and its number is its id."""
    return sorted((MIGRATIONS / "versions").glob("[0-9]*.py"))


def head() -> str | None:
    """The id of the newest migration; None where there is none yet."""
    return files()[-1].name.partition("_")[0] if files() else None


def migrate(url: str) -> None:
    """Bring the database to the newest migration. Errors: MigrationError."""
    if _current(url) == head():
        return
    from app.db.schema import upgrade

    upgrade(url)


def _current(url: str) -> str | None:
    try:
        with psycopg.connect(driver_url(url), autocommit=True, connect_timeout=10) as connection:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except psycopg.errors.UndefinedTable:
        return None
    except (psycopg.Error, ValueError) as error:
        raise MigrationError(f"the database does not answer: {error}") from error
    return None if row is None else str(row[0])
