"""Migrations: numbered, reversible on a filled database, run by one process at a time, and equal to the tables."""

import json
import re
import threading
import zlib
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

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


def test_reports_of_imports_move_and_come_back(database_url: str) -> None:
    schema.downgrade(database_url, "0004")
    problems = [{"line": line, "pointer": "/title", "code": "réquired"} for line in (2, 2, 5)]
    lines = [{"line": 1, "action": "create"}, {"line": 3, "action": "unchanged"}]
    ids = [uuid4() for _ in range(3)]
    with psycopg.connect(database_url) as connection:
        organisation, credential = uuid4(), uuid4()
        connection.execute(
            "INSERT INTO organisation (id, name, kind, country, region, status) VALUES (%s, 'Example CSO A',"
            " 'civil-society-organisation', 'CD', 'AFR', 'active')",
            [organisation],
        )
        connection.execute(
            "INSERT INTO credential (id, organisation_id, client_id, label, secret_hash, scopes)"
            " VALUES (%s, %s, 'c1', 'test', %s, '{}')",
            [credential, organisation, b"x"],
        )
        for id_, told, judged in zip(ids, (problems, [], []), (lines, [], lines), strict=True):
            connection.execute(
                "INSERT INTO import_job (id, organisation_id, credential_id, format, dry_run, atomic, status, created,"
                " failed, problems, lines) VALUES (%s, %s, %s, 'ndjson', true, false, 'done', 4, 2, %s, %s)",
                [id_, organisation, credential, Jsonb(told), Jsonb(judged)],
            )
    schema.upgrade(database_url)
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT * FROM import_entry WHERE job_id = %s", [ids[0]]).fetchall()
        ((_, number, last_line, problem_count, packed, line_count, packed_lines),) = rows
        assert (number, last_line, problem_count, line_count) == (0, 5, 3, 2)
        assert [json.loads(line) for line in zlib.decompress(packed).splitlines()] == problems
        assert [json.loads(line) for line in zlib.decompress(packed_lines).splitlines()] == lines
        assert all(line.startswith(b'{"line":') for line in zlib.decompress(packed).splitlines())
        kept = connection.execute(
            "SELECT problems_kept, problems_left_out, problem_bytes, lines_kept, lines_left_out, line_bytes"
            " FROM import_job WHERE id = %s",
            [ids[0]],
        ).fetchone()
        assert kept == (3, 0, len(packed), 2, 2, len(packed_lines))
        assert connection.execute("SELECT count(*) FROM import_entry").fetchone() == (2,)
    schema.downgrade(database_url, "0004")
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT id, problems, lines FROM import_job").fetchall()
    assert {row[0]: row[1:] for row in rows} == {ids[0]: (problems, lines), ids[1]: ([], []), ids[2]: ([], lines)}
    schema.upgrade(database_url)


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
        for table in schema.metadata().tables:
            connection.execute(f"LOCK TABLE {table} IN ACCESS SHARE MODE")  # as a reader holds it
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
