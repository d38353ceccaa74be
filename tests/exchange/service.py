"""The service as its own processes, for tests that kill it or need several workers."""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from app.db.migrate import ROOT

READY_SECONDS = 120


class Service:
    """The service on a data folder of its own, on one port, started again after each kill."""

    def __init__(self, home: Path, *, workers: int = 1) -> None:
        self.home = home
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MINGA_")},
            "MINGA_RATE_LIMIT": "off",
            "MINGA_FOUNDING_DATA": "off",
            "MINGA_PUBLIC_URL": self.url,
            "MINGA_WEBHOOK_LOOPBACK": "on",
            "MINGA_LOG_LEVEL": "error",
            "MINGA_WORKERS": str(workers),
        }
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        words = ["-m", "app.cli", "serve", "--data-dir", str(self.home), "--port", str(self.port)]
        self.process = subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        limit = time.monotonic() + READY_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while time.monotonic() < limit and self.process.poll() is None:
                if selector.select(1) and self.process.stdout.readline().startswith("ready "):
                    return
        raise AssertionError("the service did not become ready")

    def kill(self) -> None:
        """kill -9 of the service; its database is left behind."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def kill_database(self) -> None:
        """kill -9 of the first process of the database."""
        for pid_file in self.home.rglob("postmaster.pid"):
            os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            if self.process.stdout is not None:
                self.process.stdout.close()

    def run(self, *words: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *words, "--json"],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
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
