"""A service that is broken or lies: the client says so with a MingaError, and spends little on it."""

import asyncio
import gzip
import io
import json
import threading
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import brotli
import pytest

from app import cli_client
from app.cli.__main__ import main
from app.client import AsyncMinga, Minga, MingaError, pull

HUGE_BYTES = 100_000_000
LITTLE_BYTES = 20_000_000


@pytest.fixture(autouse=True)
def nothing_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("MINGA_URL", "MINGA_CLIENT_ID", "MINGA_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def answering(body: bytes, status: int = 200, **headers: str) -> Iterator[str]:
    """The address of a server on this machine that answers everything alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_DELETE = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def bomb(byte: bytes) -> bytes:
    """A gzip stream that unpacks to 100 MB of one byte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(byte * 1_000_000) for _ in range(HUGE_BYTES // 1_000_000)) + packer.flush()


@contextmanager
def refused_at_little_cost(match: str) -> Iterator[None]:
    tracemalloc.start()
    try:
        with pytest.raises(MingaError, match=match):
            yield
        assert tracemalloc.get_traced_memory()[1] < LITTLE_BYTES
    finally:
        tracemalloc.stop()


def test_packed_answers_are_unpacked_within_a_limit() -> None:
    packed = bomb(b" ")
    with answering(packed, Content_Encoding="gzip") as url, Minga(url, max_answer_bytes=1_000_000) as minga:
        with refused_at_little_cost("more than 1000000 bytes"):
            minga.me()
        with refused_at_little_cost("a row of more than"):
            minga.export("cases", io.BytesIO())
        with refused_at_little_cost("a row of more than"):
            list(minga.import_entries("i1"))


def test_packed_problem_is_unpacked_within_a_limit() -> None:
    with answering(bomb(b" "), 404, Content_Encoding="gzip") as url, Minga(url, max_answer_bytes=1_000_000) as minga:
        with refused_at_little_cost("more than 1000000 bytes"):
            minga.me()
        with refused_at_little_cost("more than 1000000 bytes"):
            minga.export("cases", io.BytesIO())


@pytest.mark.parametrize("named", ["gzip, gzip", "br", "gzip, br", "zstd", "deflate", "unheard-of"])
def test_packing_that_was_not_asked_for_is_not_unpacked(named: str) -> None:
    body = brotli.compress(b"{}") if named == "br" else gzip.compress(bomb(b" "))
    with answering(body, Content_Encoding=named) as url, Minga(url) as minga:
        with refused_at_little_cost("not asked for"):
            minga.me()
        with refused_at_little_cost("not asked for"):
            minga.export("cases", io.BytesIO())


def test_asynchronous_client_has_the_same_limits() -> None:
    async def ask(url: str) -> None:
        async with AsyncMinga(url, max_answer_bytes=1_000_000) as minga:
            with refused_at_little_cost("more than 1000000 bytes"):
                await minga.me()
            with refused_at_little_cost("a row of more than"):
                await minga.export("cases", io.BytesIO())

    with answering(bomb(b" "), Content_Encoding="gzip") as url:
        asyncio.run(ask(url))


def test_packed_answer_is_read_as_it_was() -> None:
    page = {"organisation": {"id": "o1", "name": "Example CSO A"}, "note": "é" * 100_000}
    with answering(gzip.compress(json.dumps(page).encode()), Content_Encoding="gzip") as url, Minga(url) as minga:
        assert minga.me() == page


@pytest.mark.parametrize(
    "packed", [gzip.compress(b"{}") + b"x", b"{}", gzip.compress(b"{}")[:-9]], ids=["more", "plain", "cut"]
)
def test_answer_that_is_not_packed_as_it_says_is_no_answer(packed: bytes) -> None:
    with (
        answering(packed, Content_Encoding="gzip") as url,
        Minga(url, retries=0) as minga,
        pytest.raises(MingaError),
    ):
        minga.me()


def test_being_sent_elsewhere_is_not_taken_for_done() -> None:
    with answering(b"", 302, Location="https://example.org/log-in") as url, Minga(url, token="t") as minga:
        with pytest.raises(MingaError, match="elsewhere"):
            minga.withdraw("cases", "c1", version=1)
        with pytest.raises(MingaError, match="elsewhere"):
            minga.export("cases", io.BytesIO())


def change(**changes: Any) -> dict[str, Any]:
    record = {"id": "a", "kind": "case", "version": 1}
    return {"type": "upsert", "kind": "case", "id": "a", "version": 1, "at": "x", "record": record, **changes}


@pytest.mark.parametrize(
    "item",
    [
        change(kind="../case"),
        change(kind="c" * 300),
        change(kind="CASE"),
        change(kind=7),
        change(id=7),
        change(id=["a"]),
        change(version="1"),
        change(version=None),
        change(record={"id": "b", "kind": "case"}),
        change(record={}),
        change(record="x"),
        change(record=None),
        change(record={"id": "a", "title": "\ud800"}),
        change(type="else"),
        {},
        7,
    ],
)
def test_folder_is_as_before_when_the_service_sends_nonsense(item: Any, tmp_path: Path) -> None:
    honest = json.dumps({"items": [change()], "next": "n1", "more": False}).encode()
    with answering(honest) as url, Minga(url) as minga:
        pull(minga, tmp_path)
    before = (tmp_path / "case.ndjson").read_bytes()
    lie = json.dumps({"items": [item], "next": "n2", "more": False}).encode()
    with answering(lie) as url, Minga(url) as minga, pytest.raises(MingaError):
        pull(minga, tmp_path)
    assert (tmp_path / "case.ndjson").read_bytes() == before
    with answering(honest) as url, Minga(url) as minga:
        assert pull(minga, tmp_path).kinds == {"case": 1}


@pytest.mark.parametrize("page", [{}, {"items": 7, "next": None}, {"items": [], "next": 7}, [], {"next": None}])
def test_page_that_is_none_is_said_to_be_none(page: Any) -> None:
    with answering(json.dumps(page).encode()) as url, Minga(url, retries=0) as minga:
        with pytest.raises(MingaError):
            list(minga.pages("cases"))
        with pytest.raises(MingaError):
            list(minga.changes())
        with pytest.raises(MingaError):
            minga.import_records(b"{}")


def test_page_that_leads_to_itself_ends() -> None:
    page = {"items": [], "next": "/v1/x?after=1", "more": True}
    with answering(json.dumps(page).encode()) as url, Minga(url) as minga:
        with pytest.raises(MingaError, match="again"):
            list(minga.changes())
        with pytest.raises(MingaError):
            list(minga.pages("cases"))


def test_list_of_empty_pages_ends() -> None:
    body = b'{"items": [], "next": "/v1/cases?cursor=more"}'
    with answering(body) as url, Minga(url) as minga, pytest.raises(MingaError, match="no page of a list"):
        list(minga.pages("cases"))


@pytest.mark.parametrize("address", ["http://[", "https://example.org:x/v1", "/v1/\x00", "/v1/" + "x" * 70_000])
def test_address_that_cannot_be_asked_is_said_to_be_so(address: str) -> None:
    page = {"items": [change()], "next": address, "more": True}
    with answering(json.dumps(page).encode()) as url, Minga(url) as minga, pytest.raises(MingaError):
        list(minga.changes())


def test_deep_nesting_is_no_answer() -> None:
    with answering(b"[" * 200_000) as url, Minga(url) as minga, pytest.raises(MingaError):
        minga.me()


@pytest.mark.parametrize("granted", [{}, {"access_token": "a\nb", "expires_in": 600}, {"access_token": "t"}, []])
def test_token_that_is_none_is_not_sent(granted: Any) -> None:
    with (
        answering(json.dumps(granted).encode()) as url,
        Minga(url, client_id="c", client_secret="s") as minga,
        pytest.raises(MingaError),
    ):
        minga.me()


def test_a_title_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    item = {"id": "a", "tlp": "clear", "status": "published", "title": "\x1b]0;x\x07\x9b2Jcalm"}
    page = {"items": [item], "next": None}
    with answering(json.dumps(page).encode()) as url:
        assert main(["list", "cases", "--url", url]) == cli_client.DONE
    shown = capsys.readouterr().out
    assert "calm" in shown
    assert not {"\x1b", "\x07", "\x9b"} & set(shown)


def test_files_that_were_closed_to_others_stay_closed(tmp_path: Path) -> None:
    out, kept = tmp_path / "cases.ndjson", tmp_path / "copy" / "case.ndjson"
    page = json.dumps({"items": [change()], "next": "n1", "more": False}).encode()
    with answering(page + b"\n") as url, Minga(url) as minga:
        for closed in (False, True):
            pull(minga, tmp_path / "copy")
            assert main(["export", "cases", "--out", str(out), "--url", url]) == cli_client.DONE
            if not closed:
                out.chmod(0o600)
                kept.chmod(0o600)
    assert [path.stat().st_mode & 0o777 for path in (out, kept)] == [0o600, 0o600]


def test_export_replaces_nothing_but_files(tmp_path: Path) -> None:
    with answering(b"{}\n") as url:
        assert main(["export", "cases", "--out", "/dev/null", "--url", url]) == cli_client.MISUSED
        assert main(["export", "cases", "--out", str(tmp_path), "--url", url]) == cli_client.MISUSED


def test_plain_http_that_was_allowed_once_is_allowed_for_that_service_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    cli_client.store_credential("http://a.example", "c", "s", insecure=True)
    monkeypatch.setenv("MINGA_CLIENT_ID", "c")
    monkeypatch.setenv("MINGA_CLIENT_SECRET", "s")
    assert main(["me", "--url", "http://b.example"]) == cli_client.MISUSED
