"""A database that dies or falls silent under writes: 503 meanwhile, and back by itself, nothing lost."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from app.db.cluster import process_id
from tests.cli.service import processes, serving, signalled
from tests.service.community import seconds_until
from tests.service.writers import WRITERS, Log, check, finished, started

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes through /proc")

BACK_SECONDS = 300
SILENT_SECONDS = 2


def lose_the_database(folder: Path, rounds: int) -> None:
    """The database dies in several ways and falls silent while the service writes; it is back each time."""
    log = Log()
    with serving(folder, "--port", "0", "--workers", "2", MINGA_RATE_LIMIT="off") as service:

        def postgres() -> list[int]:
            return processes(folder / "data" / "pgdata")

        def postmaster_dies() -> None:
            server = process_id(folder / "data" / "pgdata")
            assert server is not None
            os.kill(server, signal.SIGKILL)

        def all_of_it_dies() -> None:
            signalled(postgres(), signal.SIGKILL)

        def one_connection_dies() -> None:
            backends = processes(folder / "data" / "pgdata", b"minga minga")
            signalled([random.choice(backends)], signal.SIGKILL)

        def falls_silent() -> None:
            silent = postgres()
            signalled(silent, signal.SIGSTOP)
            time.sleep(SILENT_SECONDS)
            assert service.get("/healthz").status_code == 200
            signalled(silent, signal.SIGCONT)

        for _ in range(rounds):
            for act in (postmaster_dies, all_of_it_dies, one_connection_dies, falls_silent):
                threads = started(service, log)
                act()
                before = len(log.made)
                seconds_until(lambda before=before: len(log.made) > before + WRITERS * 2, BACK_SECONDS)
                finished(log, threads)
                # Each worker finds out for itself, and any of them may be asked.
                seconds_until(lambda: service.get("/readyz").status_code == 200, BACK_SECONDS)
        check(service, log)
        assert service.stop() == 0
    assert processes(folder) == []


def test_lost_database_comes_back_by_itself(tmp_path: Path) -> None:
    lose_the_database(tmp_path, 1)


@pytest.mark.slow
def test_database_lost_many_times_comes_back_by_itself(tmp_path: Path) -> None:
    lose_the_database(tmp_path, 6)
