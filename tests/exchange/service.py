"""The service as its own processes, for tests that kill it or need several workers."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from app.db.migrate import ROOT

READY_SECONDS = 300
STOP_SECONDS = 120


class Service:
    """The service on a data folder of its own, on one port, started again after each kill.

    `workers` are server processes. `apart` gives background jobs to a `minga worker`, which is started and killed on
    its own.
    """

    def __init__(self, home: Path, *, workers: int = 1, apart: bool = False, **settings: str) -> None:
        self.home = home
        self.apart = apart
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        self.port = self._held.getsockname()[1]
        if sys.platform != "linux":
            self._held.close()  # elsewhere the service could not have the port while we keep it for its next start
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MINGA_")},
            "MINGA_RATE_LIMIT": "off",
            "MINGA_FOUNDING_DATA": "off",
            "MINGA_PUBLIC_URL": self.url,
            "MINGA_WEBHOOK_LOOPBACK": "on",
            "MINGA_LOG_LEVEL": "error",
            "MINGA_WORKERS": str(workers),
            **settings,
        }
        self.process: subprocess.Popen[str] | None = None
        self.worker: subprocess.Popen[str] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a command of Minga is started with."""
        return {**self._environment, "MINGA_EMBEDDED_WORKER": "off" if self.apart else "on"}

    def start(self) -> None:
        """Comes back when the service is ready, and its worker works if it has one."""
        words = ["serve", "--data-dir", str(self.home), "--port", str(self.port)]
        self.process = self._started(words, "ready ", stdout=subprocess.PIPE)
        if self.apart and self.worker is None:
            self.start_worker()

    def start_worker(self) -> None:
        """Comes back when the worker works."""
        self.worker = self._started(["worker", "--data-dir", str(self.home)], "working", stderr=subprocess.PIPE)

    def _started(self, words: list[str], said: str, **pipe: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", *words], cwd=ROOT, env=self.environment, text=True, **pipe
        )
        told: list[str] = []
        heard = threading.Event()

        def listen() -> None:
            # To its end, so that the process never waits for somebody to read what it says.
            with process.stdout or process.stderr or io.StringIO() as pipe:
                for line in pipe:
                    told.append(line)
                    if line.startswith(said):
                        heard.set()
            heard.set()

        threading.Thread(target=listen, daemon=True).start()
        heard.wait(READY_SECONDS)
        if not any(line.startswith(said) for line in told):
            process.kill()
            raise AssertionError(f"`minga {words[0]}` ended with {process.wait()}: {''.join(told)[-2000:]}")
        return process

    def kill(self) -> None:
        """kill -9 of the service; its database is left behind."""
        assert self.process is not None
        _end(self.process, signal.SIGKILL)
        self.process = None

    def kill_worker(self) -> None:
        """kill -9 of the worker."""
        assert self.worker is not None
        _end(self.worker, signal.SIGKILL)
        self.worker = None

    def kill_database(self) -> None:
        """kill -9 of the first process of the database."""
        for pid_file in self.home.glob("*/postmaster.pid"):
            with suppress(ProcessLookupError, FileNotFoundError, IndexError):
                os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)

    def restart(self, *, apart: bool) -> None:
        """The orderly end, and a new start with the worker inside or apart."""
        self._end()
        self.apart = apart
        self.start()

    def stop(self) -> None:
        """The orderly end of the processes there are; the last one stops the database."""
        try:
            self._end()
        finally:
            self._held.close()

    def _end(self) -> None:
        for process in (self.worker, self.process):
            if process is not None:
                _end(process, signal.SIGTERM)
        self.process = self.worker = None

    def run(self, *words: str) -> dict[str, Any]:
        """The document an operator's command gives."""
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *words, "--json"],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return dict(json.loads(done.stdout))

    def member(self, name: str, *, network: bool = False) -> dict[str, str]:
        """A new organisation with a credential: `id`, `client_id`, `client_secret`."""
        kind = "network" if network else "civil-society-organisation"
        asked = ["admin", "organisation", "add", "--name", name, "--country", "CD", "--kind", kind]
        made = self.run(*asked, *(["--network"] if network else []), "--data-dir", str(self.home))
        credential = self.run(
            *("admin", "credential", "add", "--organisation", made["id"], "--label", "test"),
            *("--data-dir", str(self.home)),
        )
        return {"id": made["id"], **{name: credential[name] for name in ("client_id", "client_secret")}}


def _end(process: subprocess.Popen[str], order: signal.Signals) -> None:
    process.send_signal(order)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
