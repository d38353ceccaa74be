"""The processes that are measured: the real service on its own data folder, and the bare application."""

import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import httpx

from app.cli.place import Place, read_settings, working_place
from app.db.migrate import ROOT
from app.db.pool import Database
from app.identity import credentials, organisations

READY_SECONDS = 120
STOP_SECONDS = 40


@dataclass(frozen=True, slots=True)
class Service:
    """A running service: its address, the place of its database, its process."""

    url: str
    place: Place
    pid: int

    def resident_megabytes(self) -> int:
        """Memory the process holds now (Linux; 0 elsewhere)."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return 0
        return int(status.partition("VmRSS:")[2].split()[0]) // 1024


@contextmanager
def process(*words: str, environment: dict[str, str] | None = None) -> Iterator[tuple[str, int]]:
    """The address a Python process prints as `ready …`, and its number; the process is ended with the block.

    Errors: RuntimeError when it does not become ready.
    """
    settings = {name: value for name, value in os.environ.items() if not name.startswith("MINGA_")}
    started = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env={**settings, **(environment or {})}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert started.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(started.stdout, selectors.EVENT_READ)
            limit = time.monotonic() + READY_SECONDS
            line = ""
            while not line.startswith("ready ") and started.poll() is None and time.monotonic() < limit:
                if selector.select(timeout=1):
                    line = started.stdout.readline()
        if not line.startswith("ready "):
            raise RuntimeError(f"{' '.join(words)} did not become ready")
        yield line.split()[1], started.pid
    finally:
        started.terminate()
        try:
            started.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@contextmanager
def service() -> Iterator[Service]:
    """The service with one worker, an empty embedded database and no rate limit; all of it is gone afterwards."""
    environment = {
        "MINGA_RATE_LIMIT": "off",
        "MINGA_FOUNDING_DATA": "off",
        "MINGA_WORKERS": "1",
        "MINGA_PORT": "0",
        "MINGA_LOG_LEVEL": "warning",
    }
    with tempfile.TemporaryDirectory(prefix="minga-bench-") as folder:
        home = Path(folder) / "data"
        with (
            process("-m", "app.cli", "serve", "--data-dir", str(home), environment=environment) as (url, pid),
            working_place(read_settings(data_dir=home, founding_data=False), migrated=False) as place,
        ):
            yield Service(url, place, pid)


@asynccontextmanager
async def database_of(running: Service) -> AsyncIterator[Database]:
    """The database of the service."""
    async with Database(running.place.database_url, size=2) as database:
        yield database


async def organisation(database: Database, running: Service, name: str) -> tuple[UUID, dict[str, str]]:
    """A new organisation and the headers with which it calls: a token that the service gave at /oauth/token."""
    async with database.transaction() as connection:
        made = await organisations.add(connection, name=name, kind="civil-society-organisation", country="UY")
    return made.id, await token(database, running, made.id)


async def token(database: Database, running: Service, owner: UUID) -> dict[str, str]:
    """Headers with a fresh token of an organisation, through a credential of its own."""
    async with database.transaction() as connection:
        credential = await credentials.add(connection, running.place.secret, owner, "Bench")
    async with httpx.AsyncClient(base_url=running.url) as client:
        answer = await client.post(
            "/oauth/token",
            data={"grant_type": "client_credentials"},
            auth=(credential["client_id"], credential["client_secret"]),
        )
    answer.raise_for_status()
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}
