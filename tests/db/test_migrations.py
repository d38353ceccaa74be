"""Migrations: numbered, reversible on a filled database, run by one process at a time, and equal to the tables."""

import re
import threading
from pathlib import Path

import psycopg
import pytest

from app.db import migrate, schema
from app.db.embedded import EmbeddedPostgres

FILES = migrate.files()


def test_files_are_numbered_without_a_gap_and_chained() -> None:
    names = [path.stem for path in (migrate.MIGRATIONS / "versions").glob("*.py")]
    assert all(re.fullmatch(r"\d{4}_[a-z0-9_]+", name) for name in names), "named like 0007_what_it_does.py"
    numbers = [f"{number:04}" for number in range(1, len(FILES) + 1)]
    assert [file.name[:4] for file in FILES] == numbers
    assert schema.revisions() == numbers
    assert migrate.head() == numbers[-1]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_migration_needs_an_extension(file: Path) -> None:
    assert "CREATE EXTENSION" not in file.read_text().upper()


def test_a_migrated_database_equals_the_declared_tables(database_url: str) -> None:
    assert schema.drift(database_url) == []


def test_up_down_up_leaves_nothing_behind(empty_database_url: str) -> None:
    schema.upgrade(empty_database_url)
    before = objects(empty_database_url)
    schema.downgrade(empty_database_url, "base")
    assert objects(empty_database_url) == {"alembic_version"}
    schema.upgrade(empty_database_url)
    assert objects(empty_database_url) == before


async def test_each_step_down_and_up_works_on_a_filled_database(database_url: str) -> None:
    from app.db.pool import Database
    from app.kinds import founding

    async with Database(database_url, size=2) as database:
        assert await founding.load(database) > 20
    for below in ["base", *[file.name[:4] for file in FILES[:-1]]][::-1]:
        schema.downgrade(database_url, below)
        schema.upgrade(database_url)
        assert schema.drift(database_url) == []


def test_several_processes_may_migrate_at_once(empty_database_url: str) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            migrate.migrate(empty_database_url)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert schema.drift(empty_database_url) == []


def test_a_migration_does_not_wait_long_for_a_table_in_use(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "LOCK_TIMEOUT_SECONDS", 1)
    with psycopg.connect(database_url) as connection:
        connection.execute("SELECT count(*) FROM organisation, webhook")
        with pytest.raises(migrate.MigrationError, match="lock timeout"):
            schema.downgrade(database_url, "base")
    assert schema.drift(database_url) == []


def test_an_unreachable_database_is_a_clear_error(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(migrate.MigrationError, match="does not answer"):
        migrate.migrate(postgres.url.replace("/minga?", "/nowhere?"))


def objects(url: str) -> set[str]:
    """Tables, indexes, sequences, types and functions of the database."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " UNION SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
            " UNION SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd')"
        ).fetchall()
    return {str(row[0]) for row in rows} - {"alembic_version_pkc"}
