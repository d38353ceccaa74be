"""A PostgreSQL of the operator's own: what the start asks for, two workers on it, and a pool that runs dry."""

import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.cli.service import Service, minga, processes, serving
from tests.service.community import admit, steward

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes through /proc")

SECRET = "Zq8vYt3LrWn5KxJdBhPmGf2Tc7Us4Eo9Xa"
SLOW_CLIENTS = 30
POOL = 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "MINGA_PUBLIC_URL is needed"),
        ({"MINGA_PUBLIC_URL": "http://127.0.0.1"}, "a master secret is needed"),
        ({"MINGA_PUBLIC_URL": "http://127.0.0.1", "MINGA_SECRET": "short"}, "too weak"),
        ({"MINGA_PUBLIC_URL": "http://127.0.0.1", "MINGA_SECRET": "a" * 64}, "repetition"),
        ({"MINGA_PUBLIC_URL": "http://127.0.0.1", "MINGA_SECRET": "change-me-" + SECRET}, "a sample"),
        ({"MINGA_PUBLIC_URL": "minga.example.org", "MINGA_SECRET": SECRET}, "must look like"),
    ],
)
def test_start_refuses_what_is_missing_or_weak(
    tmp_path: Path, empty_database_url: str, settings: dict[str, str], said: str
) -> None:
    refused = minga("serve", "--port", "0", cwd=tmp_path, MINGA_DATABASE_URL=empty_database_url, **settings)
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr
    assert SECRET not in refused.stderr
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
    assert not (tmp_path / "data").exists()


def test_a_database_that_does_not_answer_is_told_in_time(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        settings = {
            "MINGA_DATABASE_URL": f"postgresql://minga:{SECRET}@127.0.0.1:{port}/minga",
            "MINGA_PUBLIC_URL": "http://127.0.0.1",
            "MINGA_SECRET": SECRET[::-1],
        }
        refused = minga("serve", "--port", "0", cwd=tmp_path, **settings)
    assert refused.returncode == 1
    assert "database" in refused.stderr
    assert SECRET not in refused.stderr
    assert "Traceback" not in refused.stderr


def test_two_services_on_one_database_and_a_pool_that_runs_dry(tmp_path: Path, empty_database_url: str) -> None:
    settings = {
        "MINGA_DATABASE_URL": empty_database_url,
        "MINGA_PUBLIC_URL": "http://127.0.0.1",
        "MINGA_SECRET": SECRET,
        "MINGA_POOL_SIZE": str(POOL),
        "MINGA_RATE_LIMIT": "off",
    }
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    with serving(folders[0], "--port", "0", **settings) as service:
        assert not (folders[0] / "data").exists()
        assert len(service.get("/v1/issues?limit=50").json()["items"]) == 12
        member = admit(service, steward(service, folders[0], **settings))
        a_locked_record_holds_nobody_else(service, member.headers, empty_database_url)
        slow_bodies_hold_no_connection(service, member.headers)
        with serving(folders[1], "--port", "0", "--workers", "2", **settings) as second:
            assert httpx.get(f"{second.url}/v1/me", headers=member.headers, timeout=300).status_code == 200
            assert len(second.get("/v1/issues?limit=50").json()["items"]) == 12
            assert second.stop() == 0
        assert service.stop() == 0
    assert processes(tmp_path) == []


def a_locked_record_holds_nobody_else(service: Service, headers: dict[str, str], database_url: str) -> None:
    """Thirty writers wait for three connections: each is answered in time, and the service goes on by itself."""
    made = httpx.post(
        f"{service.url}/v1/issues", json={"title": "Locked", "language": "en"}, headers=headers, timeout=300
    ).json()

    def patch(number: int) -> int:
        answer = httpx.patch(
            f"{service.url}/v1/issues/{made['id']}",
            json={"title": f"Locked {number}"},
            headers={**headers, "If-Match": '"1"'},
            timeout=300,
        )
        if answer.status_code == 503:
            assert answer.headers["Retry-After"]
        return answer.status_code

    with psycopg.connect(database_url) as holder:
        holder.execute("SELECT 1 FROM record WHERE id = %s FOR UPDATE", [made["id"]])
        with ThreadPoolExecutor(SLOW_CLIENTS) as threads:
            waiting = [threads.submit(patch, number) for number in range(SLOW_CLIENTS)]
            time.sleep(1)
            assert service.get("/healthz").status_code == 200
            read = httpx.get(f"{service.url}/v1/issues?region=AFR", headers=headers, timeout=300)
            assert read.status_code in (200, 503)
            answers = [one.result() for one in waiting]
    # The holder never lets go: whoever is answered at all has not waited for it.
    assert set(answers) == {503}
    assert patch(0) == 200


def slow_bodies_hold_no_connection(service: Service, headers: dict[str, str]) -> None:
    """Clients that send a body a byte at a time, or never read the answer, keep nobody else waiting."""
    host, _, port = service.url.removeprefix("http://").partition(":")
    head = f"POST /v1/issues HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"
    head += f"Authorization: {headers['Authorization']}\r\n\r\n"
    wide = f"GET /v1/issues?view=full&limit=200 HTTP/1.1\r\nHost: {host}\r\n\r\n"
    lines = []
    try:
        for number in range(SLOW_CLIENTS):
            line = socket.create_connection((host, int(port)), timeout=300)
            lines.append(line)
            line.sendall((head + "{" if number % 2 else wide * 20).encode())
        with ThreadPoolExecutor(4) as threads:
            paths = ["/v1/issues", "/v1/findings?region=AFR", "/v1/me", "/readyz"] * 5
            statuses = Counter(
                threads.map(lambda path: httpx.get(service.url + path, headers=headers, timeout=300).status_code, paths)
            )
        assert statuses == {200: len(paths)}
    finally:
        for line in lines:
            line.close()
