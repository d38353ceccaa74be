"""A running `minga serve` in a process of its own, as an operator would start it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.db.migrate import ROOT

PATIENCE_SECONDS = 300


@dataclass
class Service:
    """The process, the address it printed, and everything it wrote on standard output until then."""

    process: subprocess.Popen[str]
    url: str
    printed: str
    data: Path

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=PATIENCE_SECONDS)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(PATIENCE_SECONDS)


def environment(**settings: str) -> dict[str, str]:
    """Our environment without the settings of whoever runs the tests."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("MINGA_")}
    return {**own, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", **settings}


def minga(*words: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    command = [sys.executable, "-m", "app.cli", *words]
    return subprocess.run(
        command, cwd=cwd, env=environment(**settings), capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )


@contextmanager
def serving(folder: Path, *words: str, **settings: str) -> Iterator[Service]:
    """The service once it is ready, with its data in `folder/data`; what is left of it is killed at the end."""
    log = (folder / "log").open("a")
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "serve", *words],
        cwd=folder,
        env=environment(**settings),
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    try:
        with process, log:
            try:
                yield Service(process, *_until_ready(process, folder / "log"), folder / "data")
            finally:
                process.kill()
    finally:
        for left in processes(folder):
            with suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)
        # A killed process is gone a moment later, on a busy machine much later.
        wait_until(lambda: not processes(folder), PATIENCE_SECONDS)


def _until_ready(process: subprocess.Popen[str], log: Path) -> tuple[str, str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "/v1/issues" in line:
            break
    printed = "".join(lines)
    found = re.search(r"^ready (\S+)$", printed, re.MULTILINE)
    assert found, f"not ready: {log.read_text()[-2000:]}"
    return found[1], printed


def processes(folder: Path, words_of: bytes = b"") -> list[int]:
    """Every process, zombies apart, that works below the folder or names it on its command line.

    With `words_of`, only those whose command line holds this too.
    """
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
            place = os.readlink(process / "cwd")
        except OSError:
            continue
        if (
            words
            and words_of in words
            and (os.fsencode(folder) in words or place.startswith(str(folder)))
            and int(process.name) != os.getpid()
        ):
            found.append(int(process.name))
    return found


def signalled(processes: Iterable[int], number: int) -> None:
    """Sends a signal to those that are still there: some processes of a database last a moment only."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Come back when the condition holds. Errors: AssertionError after so many seconds."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"not within {seconds} s"
        time.sleep(0.05)


def status(url: str) -> int:
    """The status of an address, 0 when nobody answers."""
    try:
        return httpx.get(url, timeout=PATIENCE_SECONDS).status_code
    except httpx.TransportError:
        return 0


def curls(printed: str) -> Sequence[str]:
    """The commands below `ready`, as printed."""
    return [line.strip() for line in printed.splitlines() if line.strip().startswith("curl ")]
