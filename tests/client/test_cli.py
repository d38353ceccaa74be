"""The member's commands: one JSON document, exit codes, and a credential nobody else can read."""

import argparse
import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import cli_client
from app.cli_client import commands, credential
from tests.client.fake import BASE, Fake

Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def service() -> Iterator[tuple[Fake, str]]:
    """The service in memory behind a real port."""
    fake = Fake()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            if self.headers.get("transfer-encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(length)
            given = fake(httpx.Request(self.command, BASE + self.path, headers=dict(self.headers), content=body))
            content = given.read()
            self.send_response(given.status_code)
            for name, value in given.headers.items():
                if name not in ("content-length", "transfer-encoding"):
                    self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = answer

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield fake, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def run(
    service: tuple[Fake, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command; gives exit code, standard output (read as JSON with --json) and standard error."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("MINGA_URL", "MINGA_CLIENT_ID", "MINGA_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    parser = argparse.ArgumentParser()
    cli_client.register(parser.add_subparsers(required=True))

    def run(*words: str) -> tuple[int, Any, str]:
        capsys.readouterr()
        code = cli_client.carry_out(parser.parse_args(words))
        out, err = capsys.readouterr()
        return code, json.loads(out) if "--json" in words else out, err

    return run


@pytest.fixture
def member(run: Run, service: tuple[Fake, str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The same, after login."""
    monkeypatch.setenv("MINGA_CLIENT_SECRET", "mng_secret")
    assert run("login", "--url", service[1], "--client-id", "c1")[0] == 0
    monkeypatch.delenv("MINGA_CLIENT_SECRET")
    return run


def test_login_stores_a_credential_for_its_owner_alone(member: Run) -> None:
    path = credential.config_path()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert member("me", "--json")[:2] == (
        0,
        {"organisation": {"id": "o1", "name": "Example CSO A"}, "scopes": ["records:read"]},
    )
    os.chmod(path, 0o644)
    code, document, told = member("me", "--json")
    assert (code, document["error"]["code"]) == (2, "usage")
    assert "chmod 600" in told


def test_stored_secret_is_not_sent_to_another_service(member: Run, service: tuple[Fake, str]) -> None:
    service[0].requests.clear()
    member("me", "--url", service[1].replace("127.0.0.1", "localhost"))
    assert "authorization" not in service[0].requests[0].headers


def test_without_a_service_the_use_is_wrong(run: Run) -> None:
    assert run("me")[0] == 2
    assert run("login", "--client-id", "c")[0] == 2


def test_list_show_and_push(member: Run, service: tuple[Fake, str], tmp_path: Path) -> None:
    fake = service[0]
    for number in range(8):
        fake.put(f"r{number}")
    code, document, _ = member("list", "cases", "--count", "5", "--filter", "region=AFR", "--json")
    assert (code, len(document["items"])) == (0, 5)
    assert member("list", "cases")[1].count("\n") == 8
    assert member("show", "cases", "r3", "--json")[1]["id"] == "r3"
    code, document, _ = member("show", "cases", "none", "--json")
    assert (code, document["error"]["code"], document["error"]["status"]) == (1, "not-found", 404)
    body = tmp_path / "case.json"
    body.write_text('{"title": "Kinshasa"}')
    first, second = (member("push", "cases", str(body), "--json")[1] for _ in range(2))
    assert first == second
    body.write_text('{"id": "r3", "title": "new"}')
    assert member("push", "cases", str(body), "--json")[1]["version"] == 2
    body.write_text("[1]")
    assert member("push", "cases", str(body))[0] == 2
    assert member("list", "cases", "--filter", "region")[0] == 2


def test_pull_watch_export_and_import(member: Run, service: tuple[Fake, str], tmp_path: Path) -> None:
    fake = service[0]
    for number in range(4):
        fake.put(f"r{number}")
    code, document, _ = member("pull", str(tmp_path / "copy"), "--kinds", "case", "--json")
    assert (code, document["written"], document["records"]) == (0, 4, {"case": 4})
    code, document, _ = member("watch", "--all", "--count", "4", "--json")
    assert (code, [item["id"] for item in document["items"]]) == (0, ["r0", "r1", "r2", "r3"])
    fake.put("r9")
    assert json.loads(member("watch", "--after", document["next"], "--count", "1")[1])["id"] == "r9"
    assert member("watch", "--json")[0] == 2
    out = tmp_path / "cases.csv"
    code, document, _ = member("export", "cases", "--format", "csv", "--out", str(out), "--json")
    assert (code, document["rows"], out.read_bytes().count(b"\r\n")) == (0, 5, 6)
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []
    lines = tmp_path / "new.ndjson"
    lines.write_text('{"title": "good"}\n')
    assert member("import", str(lines), "--kind", "case", "--json")[1]["counts"]["created"] == 1
    lines.write_text('{"title": "good"}\n{"title": "bad"}\n')
    code, document, told = member("import", str(lines), "--json")
    assert (code, document["counts"]["failed"]) == (1, 1)
    assert "line 2: /title blank" in told
    assert member("import", str(tmp_path / "none.ndjson"))[0] == 2


def test_watch_ends_after_as_many_changes_as_asked(member: Run, service: tuple[Fake, str]) -> None:
    for number in range(5):
        service[0].put(f"r{number}")
    _, document, _ = member("watch", "--all", "--count", "2", "--json")
    assert [item["id"] for item in document["items"]] == ["r0", "r1"]
    _, document, _ = member("watch", "--after", document["next"], "--count", "3", "--json")
    assert [item["id"] for item in document["items"]] == ["r2", "r3", "r4"]
    assert member("watch", "--after", "r1", "--count", "1")[0] == 2


def test_misuse_is_told_in_one_document(member: Run, tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text('{"title": "good"}\n')
    for words, hint in (
        (("import", str(lines)), "--format"),
        (("import", str(tmp_path / "none.csv")), "none.csv"),
        (("push", "cases", str(tmp_path / "none.json")), "none.json"),
        (("list", "cases", "--filter", "region"), "region=AFR"),
    ):
        code, document, told = member(*words, "--json")
        assert (code, document["error"]["code"]) == (2, "usage")
        assert hint in document["error"]["detail"]
        assert hint in told
    assert member("import", str(lines), "--format", "ndjson", "--json")[0] == 0


def test_interrupted_command_ends_with_its_document(
    member: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "pull", interrupted)
    code, document, told = member("pull", str(tmp_path / "copy"), "--json")
    assert (code, document["error"]["code"]) == (1, "interrupted")
    assert "Traceback" not in told


def test_export_that_fails_leaves_the_old_file_and_nothing_else(
    member: Run, service: tuple[Fake, str], tmp_path: Path
) -> None:
    out = tmp_path / "cases.ndjson"
    out.write_text("as it was")
    service[0].refusals["cases.ndjson"] = (404, "not-found")
    assert member("export", "cases", "--out", str(out), "--json")[0] == 1
    assert {path.name for path in tmp_path.iterdir()} == {"cases.ndjson", "config"}
    assert out.read_text() == "as it was"


def test_dry_run_says_that_nothing_is_stored(member: Run, tmp_path: Path) -> None:
    lines = tmp_path / "cases.ndjson"
    lines.write_text('{"title": "good"}\n')
    assert "nothing is stored" in member("import", str(lines), "--kind", "case", "--dry-run")[1]


def test_import_tells_of_every_refused_line(member: Run, service: tuple[Fake, str], tmp_path: Path) -> None:
    lines = tmp_path / "cases.ndjson"
    lines.write_text('{"title": "bad"}\n' * 1500)
    code, document, told = member("import", str(lines), "--json")
    assert (code, document["counts"]["failed"], len(document["problems"])) == (1, 1500, 1000)
    expected = [f"line {line}: /title {code}" for line in range(1, 1501) for code in ("blank", "odd")]
    assert told.splitlines() == expected
    service[0].refusals["report.ndjson"] = (404, "not-found")
    code, document, told = member("import", str(lines), "--json")
    assert (code, document["counts"]["failed"]) == (1, 1500)
    assert "could not be read" in told
