"""`minga doctor`: whether what is stored is sound. It reads only.

Database, migrations, tables and keys are looked at; then every stored body is validated against today's schemas and
every stored document compared with a fresh rendering. A service may write meanwhile.
"""

import asyncio
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from app.cli.outcome import DONE, FAILED, show
from app.cli.place import Place, in_transaction, read_settings, working_place
from app.db import migrate, schema
from app.db.pool import Connection
from app.identity import tokens
from app.kinds import KINDS
from app.records import doctor
from app.sealing import NotSealedHere

OLDEST_VERSION = 150000


def register(commands: Any) -> None:
    """Declare the command."""
    parser: ArgumentParser = commands.add_parser("doctor", help="examine database, keys and every stored record")
    parser.add_argument("--data-dir", type=Path, help="folder of the embedded database (./data)")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.set_defaults(run=run)


def run(arguments: Namespace, _: list[str]) -> int:
    """0 when nothing is wrong, 1 with the findings otherwise. Errors: CommandFailed."""
    with working_place(read_settings(data_dir=arguments.data_dir), migrated=False) as place:
        findings = asyncio.run(in_transaction(place, lambda connection: _examine(connection, place)))
        findings += [{"check": "tables", "detail": repr(found)} for found in schema.drift(place.database_url)]
    if arguments.json:
        show({"ok": not findings, "findings": findings}, json=True)
    else:
        show(findings or "nothing is wrong", json=False)
    return FAILED if findings else DONE


async def _examine(connection: Connection, place: Place) -> list[dict[str, Any]]:
    """What is wrong, one mapping for each finding; identifiers and codes, never content."""
    findings: list[dict[str, Any]] = []
    # One snapshot for all statements: a service that writes meanwhile must not look like a fault.
    await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    if connection.info.server_version < OLDEST_VERSION:
        findings.append({"check": "database", "detail": "PostgreSQL 15 or newer is needed"})
    cursor = await connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    if (row := await cursor.fetchone()) and row[0]:
        findings.append({"check": "database", "detail": "Minga connects as a superuser; give it a role of its own"})
    cursor = await connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL")
    row = await cursor.fetchone()
    if row is None or not row[0]:
        return [*findings, {"check": "migrations", "detail": "the database was never migrated"}]
    cursor = await connection.execute("SELECT version_num FROM alembic_version")
    row = await cursor.fetchone()
    if row is None or row[0] != migrate.head():
        return [*findings, {"check": "migrations", "detail": "not at the newest migration; start the service once"}]
    try:
        if (await tokens.load_keys(connection, place.secret, {})).signer is None:
            findings.append({"check": "keys", "detail": "there is no signing key; start the service once"})
    except NotSealedHere:
        findings.append({"check": "keys", "detail": "the master secret does not open the signing keys"})
    # A whole installation takes longer than a request may.
    await connection.execute("SET LOCAL statement_timeout = 0")
    async for finding in doctor.examine(connection, KINDS):
        findings.append({"check": "records", **finding})
    return findings
