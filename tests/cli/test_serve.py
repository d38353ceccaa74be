"""`minga serve` as an operator sees it: ready, ports, ends, kills, workers. Every test runs a real process."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.db.cluster import process_id
from tests.cli.service import curls, minga, processes, serving, status, wait_until
from tests.databases import fresh_database

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes through /proc")


def token(url: str, data: Path) -> str:
    told = json.loads((data / "demo-credential.json").read_bytes())
    answer = httpx.post(
        f"{url}/oauth/token",
        data={"grant_type": "client_credentials"},
        auth=(told["client_id"], told["client_secret"]),
        timeout=300,
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def test_first_start_second_start_and_orderly_end(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", "0") as service:
        assert service.url.startswith("http://127.0.0.1:")
        assert service.get("/readyz").status_code == 200
        assert len(service.get("/v1/issues?limit=50").json()["items"]) == 12
        for name in ("secret", "demo-credential.json", "demo-credential.curl"):
            assert stat.S_IMODE((service.data / name).stat().st_mode) == 0o600
        assert stat.S_IMODE(service.data.stat().st_mode) & 0o066 == 0
        secret = (service.data / "secret").read_text()
        shown = json.loads((service.data / "demo-credential.json").read_bytes())
        for word in (secret, shown["client_secret"]):
            assert word not in service.printed
            assert word not in (tmp_path / "log").read_text()
        assert service.stop() == 0
    assert processes(tmp_path) == []

    with serving(tmp_path, "--port", "0") as again:
        assert (again.data / "secret").read_text() == secret
        assert json.loads((again.data / "demo-credential.json").read_bytes()) == shown
        assert len(again.get("/v1/issues?limit=50").json()["items"]) == 12
        again.process.send_signal(signal.SIGINT)
        assert again.process.wait(300) == 0
    assert processes(tmp_path) == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_printed_commands_work_as_printed(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", "0") as service:
        get_token, list_issues = (
            json.loads(subprocess.run(line, shell=True, capture_output=True, check=True, cwd="/").stdout)
            for line in curls(service.printed)
        )
        assert get_token["token_type"] == "Bearer"
        assert len(list_issues["items"]) == 12


def test_taken_port_is_passed_over_unless_it_was_asked_for(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8000))
        except OSError:
            pass  # somebody else has it, which serves as well
        else:
            taken.listen()
        refused = minga("serve", "--port", "8000", cwd=tmp_path)
        assert refused.returncode == 1
        assert "Port 8000 of 127.0.0.1 cannot be used" in refused.stderr
        assert not (tmp_path / "data").exists()
        with serving(tmp_path) as service:
            assert int(service.url.rpartition(":")[2]) in range(8001, 8101)
            assert service.get("/healthz").status_code == 200


def test_killed_service_leaves_nothing_after_restart_and_end(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", "0") as service:
        headers = {"Authorization": f"Bearer {token(service.url, service.data)}"}
        body = {"title": "Kept through a kill", "language": "en"}
        made = httpx.post(f"{service.url}/v1/issues", json=body, headers=headers, timeout=300)
        assert made.status_code == 201, made.text
        database = process_id(service.data / "pgdata")
        service.process.kill()
        service.process.wait()
        with serving(tmp_path, "--port", "0") as again:
            assert process_id(again.data / "pgdata") == database, "the server left behind is used again"
            headers = {"Authorization": f"Bearer {token(again.url, again.data)}"}
            kept = httpx.get(f"{again.url}/v1/issues/{made.json()['id']}", headers=headers, timeout=300)
            assert kept.json()["title"] == body["title"]
            assert again.stop() == 0
        assert processes(tmp_path) == []


def test_killed_database_comes_back_under_writes_by_itself(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    answers: set[int] = set()
    over = threading.Event()

    with serving(tmp_path, "--port", "0", MINGA_RATE_LIMIT="off") as service:
        headers = {"Authorization": f"Bearer {token(service.url, service.data)}"}

        def write() -> None:
            with httpx.Client(base_url=service.url, headers=headers, timeout=300) as client:
                while not over.is_set():
                    answer = client.post("/v1/issues", json={"title": "Written under fire", "language": "en"})
                    answers.add(answer.status_code)
                    if answer.status_code == 201:
                        acknowledged.append(answer.json()["id"])

        writer = threading.Thread(target=write)
        writer.start()
        wait_until(lambda: len(acknowledged) > 20)
        database = process_id(service.data / "pgdata")
        assert database is not None
        for process in processes(service.data / "pgdata"):
            os.kill(process, signal.SIGKILL)
        assert service.get("/healthz").status_code == 200
        before = len(acknowledged)
        wait_until(lambda: len(acknowledged) > before + 5)
        over.set()
        writer.join()
        assert process_id(service.data / "pgdata") != database
        assert answers <= {201, 503}
        with httpx.Client(base_url=service.url, headers=headers, timeout=300) as client:
            for id_ in acknowledged:
                assert client.get(f"/v1/issues/{id_}").status_code == 200
        assert service.stop() == 0
    assert processes(tmp_path) == []


def test_workers_are_replaced_and_end_with_their_parent(tmp_path: Path) -> None:
    def workers() -> set[int]:
        return set(processes(tmp_path, b"app.cli.worker_process"))

    with serving(tmp_path, "--port", "0", "--workers", "2") as service:
        before = workers()
        assert len(before) == 2
        environment = b"".join(Path(f"/proc/{process}/environ").read_bytes() for process in before)
        assert (service.data / "secret").read_bytes() not in environment
        os.kill(min(before), signal.SIGKILL)
        wait_until(lambda: len(workers()) == 2 and workers() != before)
        wait_until(lambda: status(f"{service.url}/readyz") == 200)
        service.process.kill()
        service.process.wait()
        wait_until(lambda: not workers())
        assert status(f"{service.url}/healthz") == 0
        with serving(tmp_path, "--port", "0", "--workers", "2") as again:
            assert again.get("/v1/issues").status_code == 200
            assert again.stop() == 0
        assert processes(tmp_path) == []


def test_requests_in_flight_end_before_the_service_does(tmp_path: Path) -> None:
    results: list[int] = []
    with serving(tmp_path, "--port", "0", MINGA_RATE_LIMIT="off") as service:

        def read() -> None:
            with httpx.Client(base_url=service.url, timeout=300) as client:
                try:
                    while True:
                        results.append(client.get("/v1/issues?view=full&limit=50").status_code)
                except httpx.TransportError:
                    pass  # refused: the service no longer listens

        readers = [threading.Thread(target=read) for _ in range(4)]
        for reader in readers:
            reader.start()
        wait_until(lambda: len(results) > 20)
        assert service.stop() == 0
        for reader in readers:
            reader.join()
    assert set(results) == {200}


POST = b"POST /v1/issues HTTP/1.1\r\nHost: 127.0.0.1\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
UNREADABLE = {
    "length and chunks": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "bad chunk": POST + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nabc\r\n0\r\n\r\n",
    "NUL": GET + b"X-Marker: a\0b\r\n\r\n",
    "folded header": GET + b"X-Marker: a\r\n b\r\n\r\n",
    "another protocol": b"\x16\x03\x01\x00 marker\r\n\r\n",
}


def test_what_is_not_http_is_refused_and_heads_are_limited(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", "0") as service:
        host, _, port = service.url.removeprefix("http://").partition(":")

        def answer_to(*parts: bytes) -> bytes:
            with socket.create_connection((host, int(port)), timeout=300) as line:
                answer = b""
                try:
                    for part in parts:
                        line.sendall(part)
                except ConnectionError:
                    pass  # refused before all was sent
                try:
                    while received := line.recv(4096):
                        answer += received
                except ConnectionResetError:
                    pass
                return answer

        for name, request in UNREADABLE.items():
            answer = answer_to(request)
            assert answer.startswith(b"HTTP/1.1 400 "), name
            assert b'"code":"bad-request"' in answer, name
            assert b"arker" not in answer, name
        for length in (100_000, 1_000_000):
            assert answer_to(GET + b"X-Long: " + b"x" * length).startswith(b"HTTP/1.1 431 "), length
        assert service.get("/healthz").status_code == 200


def test_demonstration_credential_is_taken_back_where_others_can_reach_the_service(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", "0") as service:
        told = json.loads((service.data / "demo-credential.json").read_bytes())
        assert service.stop() == 0
    settings = {"MINGA_PUBLIC_URL": "https://minga.example.org", "MINGA_ALLOWED_HOSTS": "127.0.0.1"}
    with serving(tmp_path, "--port", "0", "--host", "0.0.0.0", **settings) as service:
        assert not (service.data / "demo-credential.json").exists()
        assert not (service.data / "demo-credential.curl").exists()
        port = service.url.rpartition(":")[2]
        answer = httpx.post(
            f"http://127.0.0.1:{port}/oauth/token",
            data={"grant_type": "client_credentials"},
            auth=(told["client_id"], told["client_secret"]),
            timeout=300,
        )
        assert answer.status_code == 401


def test_lost_secret_is_told_and_nothing_new_is_made_up(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", "0") as service:
        assert service.stop() == 0
    (tmp_path / "data" / "secret").unlink()
    refused = minga("serve", "--port", "0", cwd=tmp_path)
    assert refused.returncode == 1
    assert "cannot be opened without it" in refused.stderr
    other = minga("serve", "--port", "0", cwd=tmp_path, MINGA_SECRET="Zq8vYt3LrWn5KxJdBhPmGf2Tc7Us4Eo9")
    assert other.returncode == 1
    assert "not the one this database was used with" in other.stderr
    assert processes(tmp_path) == []


def test_postgresql_of_ones_own_works_the_same_and_gets_no_demonstration(tmp_path: Path, postgres: Any) -> None:
    settings = {"MINGA_SECRET": "Zq8vYt3LrWn5KxJdBhPmGf2Tc7Us4Eo9", "MINGA_PUBLIC_URL": "https://minga.example.org"}
    with fresh_database(postgres, None) as url:
        refused = minga("serve", "--port", "0", cwd=tmp_path, MINGA_DATABASE_URL=url)
        assert refused.returncode == 1
        assert "MINGA_PUBLIC_URL is needed" in refused.stderr
        with serving(
            tmp_path, "--port", "0", MINGA_DATABASE_URL=url, MINGA_ALLOWED_HOSTS="127.0.0.1", **settings
        ) as service:
            assert service.get("/readyz").status_code == 200
            issues = service.get("/v1/issues?limit=50").json()["items"]
            assert len(issues) == 12
            assert issues[0]["url"].startswith("https://minga.example.org/v1/issues/")
            assert "CLIENT_ID:CLIENT_SECRET" in service.printed
            assert not (tmp_path / "data").exists()
            assert service.stop() == 0
