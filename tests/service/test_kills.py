"""`kill -9` of service and database under writes: what was acknowledged is there, nothing is half there."""

import signal
from pathlib import Path

import pytest

from tests.cli.service import processes, serving, signalled
from tests.service.writers import Log, check, finished, started

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes through /proc")


def kill_the_service(folder: Path, rounds: int) -> None:
    """Each round ends with the service killed under writes, and then its database."""
    log = Log()
    for number in range(rounds):
        with serving(folder, "--port", "0", "--workers", str(2 - number % 2), MINGA_RATE_LIMIT="off") as service:
            if log.made:
                check(service, log)
            threads = started(service, log)
            signalled(processes(folder, b"app.cli"), signal.SIGKILL)
            service.process.wait()
            finished(log, threads)
            assert set(log.statuses) <= {200, 201}
        assert processes(folder) == []
    with serving(folder, "--port", "0", MINGA_RATE_LIMIT="off") as service:
        check(service, log)
        assert service.stop() == 0
    assert processes(folder) == []


def test_killed_service_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    kill_the_service(tmp_path, 1)


@pytest.mark.slow
def test_service_killed_many_times_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    kill_the_service(tmp_path, 12)
