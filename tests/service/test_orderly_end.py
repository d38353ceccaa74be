"""SIGTERM and Ctrl-C under load: what is in flight ends, nobody gets a 500, nothing is left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.cli.service import environment, processes, serving, wait_until
from tests.service.community import demonstration, unread
from tests.service.writers import Log, check, finished, started

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes through /proc")

END_SECONDS = 300


def half_sent(url: str, headers: dict[str, str], body: bytes) -> socket.socket:
    """A POST of an issue of which the service has the head and half of the body."""
    host, _, port = url.removeprefix("http://").partition(":")
    line = socket.create_connection((host, int(port)), timeout=300)
    head = f"POST /v1/issues HTTP/1.1\r\nHost: {host}\r\nAuthorization: {headers['Authorization']}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    line.sendall(head.encode() + body[: len(body) // 2])
    return line


@pytest.mark.parametrize(("workers", "order"), [("2", signal.SIGTERM), ("1", signal.SIGINT)])
def test_writes_in_flight_end_and_nothing_is_left(tmp_path: Path, workers: str, order: signal.Signals) -> None:
    log = Log()
    body = json.dumps({"title": "Half sent", "language": "en"}).encode()
    waited: list[int] = []
    with serving(tmp_path, "--port", "0", "--workers", workers, MINGA_RATE_LIMIT="off") as service:
        headers = demonstration(service)
        newest = httpx.get(f"{service.url}/v1/changes", headers=headers, timeout=300).json()["next"]

        def wait_for_changes() -> None:
            waited.append(httpx.get(f"{newest}&wait=30", headers=headers, timeout=300).status_code)

        waiting = threading.Thread(target=wait_for_changes)
        waiting.start()
        threads = started(service, log)
        line = half_sent(service.url, headers, body)
        wait_until(lambda: unread(service) and not any(unread(service)))
        time.sleep(0.3)
        service.process.send_signal(order)
        time.sleep(0.5)
        line.sendall(body[len(body) // 2 :])
        assert b" 201 " in line.recv(2000).partition(b"\r\n")[0]
        line.close()
        assert service.process.wait(END_SECONDS) == 0
        finished(log, threads)
        waiting.join()
    assert processes(tmp_path) == []
    assert set(log.statuses) <= {200, 201}
    assert set(waited) <= {200, 503}
    if order is signal.SIGTERM:
        with serving(tmp_path, "--port", "0", MINGA_RATE_LIMIT="off") as service:
            check(service, log)


def test_who_waits_for_changes_does_not_hold_the_end_back(tmp_path: Path) -> None:
    waited: list[tuple[int, object]] = []
    with serving(tmp_path, "--port", "0") as service:
        newest = service.get("/v1/changes?limit=200").json()["next"]

        def wait_for_changes() -> None:
            answer = httpx.get(f"{newest}&wait=30", timeout=300)
            waited.append((answer.status_code, answer.json()["items"]))

        waiting = [threading.Thread(target=wait_for_changes) for _ in range(3)]
        for one in waiting:
            one.start()
        wait_until(lambda: unread(service) == [0] * len(waiting))
        time.sleep(1)
        assert service.stop() == 0
        for one in waiting:
            one.join()
    # At the end of its grace the service would have said 503.
    assert waited == [(200, [])] * 3


def test_an_interrupted_terminal_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C reaches every process of the terminal's group at once."""
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "serve", "--port", "0", "--workers", "2"],
            cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        assert any(line.startswith("ready ") for line in process.stdout)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(END_SECONDS) == 0
        process.stdout.close()
        assert processes(tmp_path) == []
    finally:
        for left in processes(tmp_path):
            os.kill(left, signal.SIGKILL)


@pytest.mark.slow
def test_a_request_that_never_ends_is_told_to_come_again(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", "0") as service:
        line = half_sent(service.url, demonstration(service), b'{"title": "Never whole"}')
        wait_until(lambda: unread(service) == [0])
        time.sleep(0.3)
        service.process.terminate()
        assert line.recv(4000).startswith(b"HTTP/1.1 503 ")
        assert service.process.wait(END_SECONDS) == 0
        line.close()
    assert processes(tmp_path) == []
