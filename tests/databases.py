"""One embedded PostgreSQL for the whole test run, a migrated template in it, and a fresh database for each test.

Every pytest-xdist worker calls `start()`; the first one really starts the server, the last one to leave removes it.
"""

import hashlib
import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from app.db.cluster import ROLE
from app.db.embedded import EmbeddedPostgres
from app.db.migrate import MIGRATIONS, ROOT, migrate

# Losing power during a test loses nothing of value, so the tests do not wait for the disk.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_wal_size": "2GB"}
TEMPLATE_LOCK = 0x74656D706C
numbers = itertools.count(1)


def test_server() -> EmbeddedPostgres:
    """The server of this test run, the same for all its processes; not yet started."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())
    place = hashlib.sha256(f"{ROOT} {run}".encode()).hexdigest()[:8]
    home = Path(tempfile.gettempdir()) / f"minga-tests-{os.geteuid()}-{place}"
    return EmbeddedPostgres(home, settings=FAST, disposable=True)


def address_of(server: EmbeddedPostgres, name: str, *, superuser: bool = False) -> str:
    """The address of a database of the test server."""
    base = server.superuser_url if superuser else server.url
    head, _, query = base.partition("?")
    return f"{head.rpartition('/')[0]}/{name}?{query}"


def template(server: EmbeddedPostgres) -> str:
    """The name of a migrated database to copy; made once for each state of the migrations."""
    digest = hashlib.sha256()
    for file in sorted(MIGRATIONS.rglob("*.py")):
        digest.update(file.read_bytes())
    name = f"template_{digest.hexdigest()[:12]}"
    with psycopg.connect(server.superuser_url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [TEMPLATE_LOCK])
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            part = f"{name}_part"
            connection.execute(f"DROP DATABASE IF EXISTS {part} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {part} OWNER {ROLE}")
            migrate(address_of(server, part))
            connection.execute(f"ALTER DATABASE {part} RENAME TO {name}")
    return name


@contextmanager
def fresh_database(server: EmbeddedPostgres, source: str | None) -> Iterator[str]:
    """The address of a new database, a copy of `source` or empty; dropped afterwards."""
    name = f"test_{os.getpid()}_{next(numbers)}"
    with psycopg.connect(server.superuser_url, autocommit=True) as connection:
        copied = f"TEMPLATE {source}" if source else ""
        connection.execute(f"CREATE DATABASE {name} OWNER {ROLE} {copied}")
        try:
            yield address_of(server, name)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
