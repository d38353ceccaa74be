"""An import under way when its worker ends: told to end, it gives the import back; killed, its lease runs out first."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from app.kinds.issues import ISSUES
from tests.cli.service import Service, environment, minga, serving, wait_until
from tests.records.bodies import publishable
from tests.service.community import token

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes through /proc")

LINES = 20_000
END_SECONDS = 60
SECRET = "Kd7wQz3MbVn9XrTjHcLgPf5Ys2Ua8Eo4Ri"


@contextmanager
def working(folder: Path, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """A `minga worker` that has begun."""
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "worker"],
        cwd=folder,
        env=environment(**settings),
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stderr is not None
            assert "working" in process.stderr.readline()
            yield process
        finally:
            process.kill()


@contextmanager
def importing(service: Service, folder: Path, **settings: str) -> Iterator[list[int]]:
    """An import that takes a while, sent by a member made on the command line; at the end the status of its answer."""
    words = ("--name", "Example CSO A", "--country", "UY", "--kind", "cso", "--json")
    made = json.loads(minga("admin", "organisation", "add", *words, cwd=folder, **settings).stdout)
    words = ("--organisation", made["id"], "--label", "upload", "--json")
    told = json.loads(minga("admin", "credential", "add", *words, cwd=folder, **settings).stdout)
    line = json.dumps({"kind": "issue", **publishable(ISSUES)}).encode() + b"\n"
    headers = {**token(service, (told["client_id"], told["client_secret"])), "Content-Type": "application/x-ndjson"}
    statuses: list[int] = []

    def send() -> None:
        url = f"{service.url}/v1/imports"
        statuses.append(httpx.post(url, content=line * LINES, headers=headers, timeout=120).status_code)

    sending = threading.Thread(target=send)
    sending.start()
    try:
        yield statuses
    finally:
        sending.join()


def state(url: str) -> dict[str, Any]:
    """The import as the database has it."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT status, lines_done, lease_owner, leased_until IS NOT NULL, created,"
            " (SELECT count(*) FROM record), (SELECT count(*) FROM revision) FROM import_job"
        ).fetchone()
    names = ("status", "lines_done", "lease_owner", "leased", "created", "records", "revisions")
    return {} if row is None else dict(zip(names, row, strict=True))


@pytest.mark.parametrize("who", ["service", "worker", "killed worker"])
def test_another_worker_goes_on(tmp_path: Path, empty_database_url: str, who: str) -> None:
    settings = {
        "MINGA_DATABASE_URL": empty_database_url,
        "MINGA_PUBLIC_URL": "http://127.0.0.1",
        "MINGA_SECRET": SECRET,
        "MINGA_FOUNDING_DATA": "off",
        "MINGA_EMBEDDED_WORKER": "on" if who == "service" else "off",
    }

    def begun() -> bool:
        return state(empty_database_url).get("lines_done", 0) > 0

    with serving(tmp_path, "--port", "0", **settings) as service:
        with importing(service, tmp_path, **settings) as statuses:
            if who == "service":
                wait_until(begun, END_SECONDS)
                assert service.stop() == 0
            else:
                with working(tmp_path, **settings) as worker:
                    wait_until(begun, END_SECONDS)
                    if who == "worker":
                        worker.terminate()
                        assert worker.wait(END_SECONDS) == 0
                    else:
                        worker.kill()
                        worker.wait()
        assert statuses == [202]
    left = state(empty_database_url)
    assert left["status"] == "running"
    if who == "killed worker":
        assert left["lease_owner"] is not None
        assert left["leased"] is True
        return
    assert (left["lease_owner"], left["leased"]) == (None, False)
    with working(tmp_path, **settings):
        wait_until(lambda: state(empty_database_url)["status"] == "done", 5 * END_SECONDS)
    found = state(empty_database_url)
    assert [found[name] for name in ("created", "records", "revisions")] == [LINES] * 3
