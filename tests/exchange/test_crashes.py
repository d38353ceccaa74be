"""kill -9 of the service, of the database and of a pull, at random moments: nothing lost, nothing doubled."""

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.client import Minga
from app.db.migrate import ROOT
from app.kinds.findings import FINDINGS
from tests.exchange.service import Service
from tests.records.bodies import publishable

LINES = 300


@contextmanager
def receiver() -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """A receiver of webhooks: its address, and the messages by webhook-id."""
    got: dict[str, dict[str, Any]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["content-length"])))
            got[self.headers["webhook-id"]] = message
            answer = json.dumps(message["data"]).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def content(folder: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(line) for path in folder.glob("*.ndjson") for line in path.read_bytes().split(b"\n") if line]
    assert len(found) == len({one["id"] for one in found})
    return {one["id"]: one for one in found}


def exported(minga: Minga, to: Path) -> dict[str, dict[str, Any]]:
    with to.open("wb") as out:
        minga.export("findings", out)
    records = [json.loads(line) for line in to.read_bytes().split(b"\n") if line]
    return {one["id"]: one for one in records if "id" in one}


@pytest.mark.parametrize("rounds", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_at_random_moments_nothing_is_lost_or_doubled(rounds: int, tmp_path: Path) -> None:
    chance = random.Random(rounds)
    service = Service(tmp_path / "data")
    service.start()
    folder = tmp_path / "copy"
    try:
        named = service.member("Example CSO A")
        identity = {name: named[name] for name in ("client_id", "client_secret")}
        pulling = {
            **service.environment,
            "XDG_CONFIG_HOME": str(tmp_path / "none"),
            "MINGA_URL": service.url,
            "MINGA_CLIENT_ID": identity["client_id"],
            "MINGA_CLIENT_SECRET": identity["client_secret"],
        }
        with receiver() as (url, messages), Minga(service.url, retries=12, **identity) as minga:
            minga.request("POST", "/v1/webhooks", json={"url": url, "label": "crash"})
            for number in range(rounds):
                lines = [
                    publishable(FINDINGS, title=f"Round {number}, line {line}", tlp="green") for line in range(LINES)
                ]
                body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
                reports: list[Any] = []

                def send(body: bytes = body, number: int = number, reports: list[Any] = reports) -> None:
                    reports.append(minga.import_records(body, kind="finding", key=f"round-{number}"))

                sending = threading.Thread(target=send)
                sending.start()
                pull = subprocess.Popen(
                    [sys.executable, "-m", "app.cli", "pull", str(folder), "--json"],
                    cwd=ROOT,
                    env=pulling,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                time.sleep(chance.uniform(0, 1.2))
                victim = chance.choice(["service", "database", "both"])
                if victim != "service":
                    service.kill_database()
                if victim != "database":
                    service.kill()
                    service.start()
                time.sleep(chance.uniform(0, 0.5))
                pull.kill()
                pull.wait()
                sending.join(120)
                (report,) = reports
                assert (report.status, report.created, report.failed) == ("done", LINES, 0), (number, victim)
            records = exported(minga, tmp_path / "export.ndjson")
            assert len(records) == rounds * LINES
            assert len({record["title"] for record in records.values()}) == rounds * LINES
            for _ in range(20):
                subprocess.run(
                    [sys.executable, "-m", "app.cli", "pull", str(folder), "--json"],
                    cwd=ROOT,
                    env=pulling,
                    check=True,
                    capture_output=True,
                )
                if content(folder) == records:
                    break
                time.sleep(0.5)
            assert content(folder) == records
            limit = time.monotonic() + 60 + rounds * LINES / 50
            told: set[str] = set()
            while time.monotonic() < limit and told < records.keys():
                time.sleep(0.2)
                told = {one["data"]["id"] for one in list(messages.values()) if one["type"] == "record.upserted"}
            assert told == records.keys()
    finally:
        service.stop()
