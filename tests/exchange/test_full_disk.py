"""A disk that is really full: clear refusals, nothing acknowledged lost, nothing half, and on by itself (safety W8)."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from app.db.cluster import running_sockets
from app.kinds.findings import FINDINGS
from tests.exchange.service import Service
from tests.records.bodies import publishable

MEGABYTE = 1_000_000
DISK_MB = 240
RESERVE_MB = 64
PATIENCE_SECONDS = 600


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=0711", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


class Ballast:
    """What somebody else keeps on the disk."""

    def __init__(self, disk: Path) -> None:
        self._file = disk / "ballast"
        self._disk = disk

    def leave(self, size_bytes: int) -> None:
        """Grows until no more than so much is free."""
        with self._file.open("ab") as out:
            while (room := free(self._disk)) > size_bytes:
                with suppress(OSError):  # somebody else took the rest
                    out.write(bytes(min(MEGABYTE, room - size_bytes)))
                    out.flush()

    def give_up(self) -> None:
        """All of it goes."""
        self._file.unlink(missing_ok=True)


def free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"not within {seconds} s"
        time.sleep(0.05)


def finding(title: str) -> dict[str, Any]:
    return publishable(FINDINGS, title=title, tlp="green")


def lines(prefix: str, count: int) -> bytes:
    return b"".join(json.dumps(finding(f"{prefix} {number}")).encode() + b"\n" for number in range(count))


class Member:
    """A member's connection, without a client that would try again by itself."""

    def __init__(self, service: Service, credential: dict[str, str]) -> None:
        self.pair = (credential["client_id"], credential["client_secret"])
        self.http = httpx.Client(base_url=service.url, timeout=PATIENCE_SECONDS)
        self.http.headers["Authorization"] = f"Bearer {self.token()}"

    def token(self) -> str:
        answer = self.http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=self.pair)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def post(self, title: str) -> httpx.Response:
        return self.http.post("/v1/findings", json=finding(title), headers={"Idempotency-Key": title})

    def send(self, name: str, count: int) -> httpx.Response:
        headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": name}
        return self.http.post("/v1/imports?kind=finding", content=lines(name, count), headers=headers)

    def report(self, answer: httpx.Response) -> dict[str, Any]:
        assert answer.status_code in (200, 202), answer.text
        found: dict[str, Any] = self.http.get(answer.headers["Location"]).json()
        return found

    def titles(self) -> list[str]:
        """Every title, by the export."""
        answer = self.http.get("/v1/exports/findings.ndjson")
        assert answer.status_code == 200, answer.text
        records = [json.loads(line) for line in answer.content.split(b"\n") if line]
        return sorted(one["title"] for one in records if "id" in one)


def no_room(answer: httpx.Response) -> bool:
    assert answer.status_code == 507, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Retry-After"].isdigit()
    return bool(answer.json()["code"] == "insufficient-storage")


def test_without_room_writing_waits_and_reading_goes_on(disk: Path) -> None:
    ballast = Ballast(disk)
    service = Service(disk / "data", apart=True, MINGA_DISK_RESERVE_MB=str(RESERVE_MB))
    service.start()
    try:
        member = Member(service, service.member("Example CSO A"))
        made = [member.post(f"made {number}") for number in range(10)]
        assert {answer.status_code for answer in made} == {201}
        expected = [f"made {number}" for number in range(10)]
        an_import_that_was_accepted_waits(service, member, ballast)
        expected += [f"waiting {number}" for number in range(200)]

        ballast.leave(RESERVE_MB * MEGABYTE - 4 * MEGABYTE)
        record = made[0].json()
        address, match = f"/v1/findings/{record['id']}", {"If-Match": '"1"'}
        assert no_room(member.post("refused"))
        assert no_room(member.http.patch(address, json={"summary": "Changed."}, headers=match))
        assert no_room(member.send("refused", 10))
        assert no_room(member.http.post("/v1/webhooks", json={"url": "https://example.org/", "label": "none"}))
        assert member.http.get(address).json() == record
        assert member.titles() == sorted(expected)
        for path in ("/v1/findings?q=budgets", "/v1/changes", "/v1/me", "/readyz"):
            assert member.http.get(path).status_code == 200
        # What takes something back, and what proves who is calling, is not refused.
        assert member.token()
        assert member.http.delete(f"/v1/findings/{made[1].json()['id']}", headers=match).status_code == 200
        expected.remove("made 1")
        assert member.titles() == sorted(expected)

        ballast.give_up()
        assert member.post("refused").status_code == 201
        assert member.report(member.send("refused", 10))["counts"]["created"] == 10
        assert member.http.patch(address, json={"summary": "Changed."}, headers=match).status_code == 200
        expected += ["refused", *(f"refused {number}" for number in range(10))]
        an_import_stops_between_parts(member, ballast)
        expected += [f"long {number}" for number in range(4000)]
        assert member.titles() == sorted(expected)
        member.http.close()
    finally:
        ballast.give_up()
        service.stop()


def an_import_that_was_accepted_waits(service: Service, member: Member, ballast: Ballast) -> None:
    """Received before and worked on after there was room; not a record of it in between."""
    service.kill_worker()
    answer = member.send("waiting", 200)
    assert answer.status_code == 202
    ballast.leave(RESERVE_MB * MEGABYTE - 4 * MEGABYTE)
    service.start_worker()
    time.sleep(3)  # time enough for a worker that would begin
    assert member.report(answer)["lines_done"] == 0
    assert not [title for title in member.titles() if title.startswith("waiting")]
    ballast.give_up()
    wait_until(lambda: member.report(answer)["status"] == "done")
    assert member.report(answer)["counts"]["created"] == 200


def an_import_stops_between_parts(member: Member, ballast: Ballast) -> None:
    """Wherever the room ends, the records stored are those of whole parts, as the report says."""
    with ThreadPoolExecutor(1) as aside:
        sending = aside.submit(member.send, "long", 4000)
        wait_until(lambda: sending.done() or any(title.startswith("long") for title in member.titles()))
        ballast.leave(RESERVE_MB * MEGABYTE - 4 * MEGABYTE)
        answer = sending.result()

    def as_reported() -> bool:
        before, there = member.report(answer), [title for title in member.titles() if title.startswith("long")]
        if before != member.report(answer):
            return False  # a part came between
        assert len(there) == len(set(there)) == before["lines_done"] == before["counts"]["created"]
        assert before["counts"]["failed"] == 0
        return True

    wait_until(as_reported)
    ballast.give_up()
    wait_until(lambda: member.report(answer)["status"] == "done")
    assert as_reported()


def panic(service: Service) -> None:
    """Writes to the log of PostgreSQL until its next file finds no room, which PostgreSQL cannot survive."""
    sockets = running_sockets(service.home / "pgdata")
    with suppress(psycopg.OperationalError), psycopg.connect(f"postgresql://postgres@/postgres?host={sockets}") as to:
        for _ in range(2 * DISK_MB):
            to.execute("SELECT pg_logical_emit_message(false, 'test', repeat('x', 1000000))")
    assert "PANIC" in (service.home / "postgresql.log").read_text()


@pytest.mark.slow
def test_not_a_byte_is_left_and_the_database_may_go_down(disk: Path) -> None:
    """Without any reserve PostgreSQL itself meets the end of the disk; once there is room, all goes on by itself."""
    ballast = Ballast(disk)
    service = Service(disk / "data", MINGA_DISK_RESERVE_MB="0")
    service.start()
    acknowledged: list[str] = []
    asked: list[str] = []
    try:
        assert service.process is not None
        process = service.process.pid
        member = Member(service, service.member("Example CSO A"))

        def ask(title: str) -> int:
            asked.append(title)
            try:
                status = member.post(title).status_code
            except httpx.TransportError:
                return 0
            if status == 201:
                acknowledged.append(title)
            return status

        imports: list[str] = []
        for number, left in enumerate((0, 12, 0, 6)):
            assert ask(f"before {number}") == 201
            ballast.leave(left * MEGABYTE)
            while True:
                imports.append(f"import {number}.{len(imports)}")
                refused = member.send(imports[-1], 1000).status_code
                if refused != 200:
                    break
            assert refused in (202, 503, 507)
            ballast.leave(0)
            if number % 2:
                panic(service)
            statuses = {ask(f"during {number} {one}") for one in range(20)}
            assert statuses <= {201, 503, 507}
            assert member.http.get("/healthz").status_code == 200
            time.sleep(3)  # the supervisor tries in vain meanwhile
            print(f"turn {number}: import {refused}, records {sorted(statuses)}")
            ballast.give_up()
            wait_until(lambda: member.http.get("/readyz").status_code == 200)
            wait_until(lambda number=number: ask(f"after {number}") == 201)
            assert set(acknowledged) <= set(member.titles())
            for title in dict.fromkeys(asked):  # each key once more: done if it was not, else nothing
                wait_until(lambda title=title: member.post(title).status_code == 201)
            for name in imports:
                again = member.send(name, 1000)
                wait_until(lambda again=again: member.report(again)["status"] == "done")
                assert member.report(again)["counts"]["created"] == 1000
            expected = {*asked, *(f"{name} {line}" for name in imports for line in range(1000))}
            assert member.titles() == sorted(expected)
        assert service.process is not None
        assert service.process.pid == process
        assert service.process.poll() is None
        member.http.close()
    finally:
        ballast.give_up()
        service.stop()
