"""Migrations: numbered, reversible on a filled database, run by one process at a time, and equal to the tables."""

import re
import threading
from pathlib import Path

import psycopg
import pytest

from app.db import migrate as migrations
from app.db.embedded import EmbeddedPostgres

FILES = sorted(path for path in (migrations.MIGRATIONS / "versions").glob("*.py"))


def test_files_are_numbered_without_a_gap_and_chained() -> None:
    numbers = [re.fullmatch(r"(\d{4})_[a-z0-9_]+", file.stem) for file in FILES]
    assert all(numbers), "a migration file is named like 0007_what_it_does.py"
    assert [int(number[1]) for number in numbers if number] == list(range(1, len(FILES) + 1))
    assert migrations.revisions() == [file.stem[:4] for file in FILES] or migrations.revisions() == [
        file.stem for file in FILES
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_migration_needs_an_extension(file: Path) -> None:
    assert "CREATE EXTENSION" not in file.read_text().upper()


def test_a_migrated_database_equals_the_declared_tables(database_url: str) -> None:
    assert migrations.drift(database_url) == []


def test_up_down_up_leaves_nothing_behind(empty_database_url: str) -> None:
    migrations.migrate(empty_database_url)
    before = objects(empty_database_url)
    migrations.downgrade(empty_database_url, "base")
    assert objects(empty_database_url) == {"alembic_version"}
    migrations.migrate(empty_database_url)
    assert objects(empty_database_url) == before


def test_two_processes_may_migrate_at_once(empty_database_url: str) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            migrations.migrate(empty_database_url)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert migrations.drift(empty_database_url) == []


def test_an_unreachable_database_is_a_clear_error(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(migrations.MigrationError, match="could not be migrated"):
        migrations.migrate(postgres.url.replace("/minga?", "/nowhere?"))


def objects(url: str) -> set[str]:
    """Tables, indexes, sequences, types and functions of the database."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " UNION SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
            " UNION SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd')"
        ).fetchall()
    return {str(row[0]) for row in rows} - {"alembic_version_pkc"}
