"""The client: one small surface, patient where that is safe, and never talking to a stranger."""

import inspect
import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import app.client
from app.client import (
    AsyncMinga,
    ConflictError,
    Minga,
    MingaError,
    NotAuthorisedError,
    NotFoundError,
    ProblemError,
    RateLimitedError,
    ResyncRequiredError,
    TransportError,
)
from tests.client.fake import BASE, Fake, breaks, refuses

SURFACE = [
    *("AsyncMinga", "Change", "ChangePage", "ConflictError", "ExportReport", "ImportReport", "Minga", "MingaError"),
    *("MirrorReport", "NotAuthorisedError", "NotFoundError", "ProblemError", "Progress", "RateLimitedError", "Record"),
    *("ResyncRequiredError", "TransportError", "WebhookError", "pull", "verify_webhook"),
]


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waiting takes no time, and is noted."""
    taken: list[float] = []
    monkeypatch.setattr("time.sleep", taken.append)
    return taken


@pytest.fixture
def minga(fake: Fake, pauses: list[float]) -> Iterator[Minga]:
    transport = httpx.MockTransport(fake)
    with Minga(BASE, client_id="c:1", client_secret="mng_x", transport=transport) as opened:
        yield opened


def test_surface_is_pinned() -> None:
    assert sorted(app.client.__all__) == sorted(SURFACE)
    errors = [getattr(app.client, name) for name in SURFACE if name.endswith("Error")]
    assert all(issubclass(error, MingaError) for error in errors)


def test_both_clients_offer_the_same() -> None:
    def surface(client: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(client, inspect.isfunction)
        return {
            name.replace("aclose", "close"): list(inspect.signature(method).parameters)
            for name, method in methods
            if not name.startswith("_")
        }

    assert surface(Minga) == surface(AsyncMinga)


def test_client_imports_nothing_else_of_the_app() -> None:
    folder = Path(app.client.__file__).parent
    for path in folder.glob("*.py"):
        for line in path.read_text().splitlines():
            if line.startswith(("from app", "import app")):
                assert line.startswith("from app.client"), path


@pytest.mark.parametrize(
    "address", ["minga.example.org", "ftp://x", "http://minga.example.org", "https://u:p@x", "https://x/?a=b"]
)
def test_shapeless_or_open_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError):
        Minga(address)
    with pytest.raises(ValueError):
        Minga("https://x", client_id="a")


def test_token_is_got_once_sent_by_basic_and_renewed_before_it_ends(minga: Minga, fake: Fake) -> None:
    minga.me()
    minga.me()
    assert fake.tokens == 1
    assert fake.requests[0].headers["authorization"] == "Basic YyUzQTE6bW5nX3g="
    fake.token_life = 10
    minga._session.token = None
    minga.me()
    minga.me()
    assert fake.tokens == 3


def test_refused_token_is_renewed_once(minga: Minga, fake: Fake) -> None:
    minga.me()
    fake.faults = [refuses(401, "invalid-token")]
    minga.me()
    assert fake.tokens == 2
    fake.faults = [refuses(401, "invalid-token"), None, refuses(401, "invalid-token")]
    with pytest.raises(NotAuthorisedError):
        minga.me()


def test_wrong_secret_is_said_plainly(minga: Minga, fake: Fake) -> None:
    fake.faults = [lambda request: httpx.Response(401, json={"error": "invalid_client"})]
    with pytest.raises(NotAuthorisedError) as caught:
        minga.me()
    assert caught.value.code == "invalid_client"


def test_secret_is_not_shown(minga: Minga) -> None:
    assert "mng_x" not in repr(minga._session)


def test_lost_answer_to_a_post_is_repeated_under_the_same_key(minga: Minga, fake: Fake, pauses: list[float]) -> None:
    minga.me()
    fake.faults = [breaks(httpx.ReadError), refuses(503), refuses(409, "idempotency-in-flight")]
    made = minga.create("cases", {"title": "Kinshasa"})
    keys = {
        request.headers["idempotency-key"]
        for request in fake.requests
        if request.method == "POST" and "/v1" in request.url.path
    }
    assert len(keys) == 1
    assert len(fake.records) == 1
    assert minga.create("cases", {"title": "Kinshasa"}, key="mine") == minga.create("cases", {"title": "x"}, key="mine")
    assert made["version"] == 1
    assert len(pauses) == 3


def test_pauses_grow_and_differ(minga: Minga, fake: Fake, pauses: list[float]) -> None:
    minga.me()
    fake.faults = [breaks(httpx.ConnectError)] * 5
    minga.me()
    assert all(0.25 * 2**number <= pause <= 0.5 * 2**number for number, pause in enumerate(pauses))


def test_retry_after_is_heeded_up_to_the_patience(minga: Minga, fake: Fake, pauses: list[float]) -> None:
    minga.me()
    fake.faults = [refuses(429, "rate-limited", **{"Retry-After": "7"})]
    minga.me()
    assert 7 <= pauses[-1] <= 7.5
    fake.faults = [refuses(429, "rate-limited", **{"Retry-After": "3600"})]
    with pytest.raises(RateLimitedError) as caught:
        minga.me()
    assert caught.value.retry_after_seconds == 3600


def test_line_that_stays_broken_is_a_transport_error(minga: Minga, fake: Fake) -> None:
    minga.me()
    fake.faults = [breaks(httpx.ConnectTimeout)] * 6
    with pytest.raises(TransportError):
        minga.me()


def test_lost_answer_to_a_replacement_is_not_repeated(minga: Minga, fake: Fake) -> None:
    fake.put("a")
    minga.me()
    fake.faults = [breaks(httpx.ReadError)]
    with pytest.raises(TransportError):
        minga.replace("cases", "a", {"title": "new"}, version=1)
    fake.faults = [breaks(httpx.ConnectError)]
    assert minga.replace("cases", "a", {"title": "new"}, version=1)["title"] == "new"
    with pytest.raises(ConflictError) as caught:
        minga.replace("cases", "a", {"title": "newer"}, version=1)
    assert (caught.value.status, caught.value.code) == (412, "stale-version")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "insufficient-scope", NotAuthorisedError),
        (404, "not-found", NotFoundError),
        (410, "withdrawn", NotFoundError),
        (410, "resync-required", ResyncRequiredError),
        (409, "conflict", ConflictError),
        (422, "invalid-body", ProblemError),
        (500, "internal", ProblemError),
    ],
)
def test_each_problem_has_its_error(minga: Minga, fake: Fake, status: int, code: str, kind: type) -> None:
    minga.me()
    fake.faults = [refuses(status, code)]
    with pytest.raises(kind) as caught:
        minga.me()
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.request_id) == (code, "r1")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"code": 3}'])
def test_answers_of_strangers_are_errors_of_the_tree(minga: Minga, fake: Fake, body: bytes) -> None:
    minga.me()
    fake.faults = [lambda request: httpx.Response(400, content=body)]
    with pytest.raises(ProblemError):
        minga.me()
    fake.faults = [lambda request: httpx.Response(200, content=body if body != b'{"code": 3}' else b"1")]
    with pytest.raises(MingaError):
        minga.me()


def test_pages_are_followed_at_the_address_the_client_was_given(minga: Minga, fake: Fake) -> None:
    for number in range(8):
        fake.put(f"r{number}")
    assert [len(page) for page in minga.pages("cases")] == [3, 3, 2]
    assert len(list(minga.records("cases", region=["AFR", "LAC"], tlp=None, count=True))) == 8
    first = next(one for one in fake.requests if "region" in str(one.url))
    assert first.url.query == b"region=AFR&region=LAC&count=true"


def test_changes_end_when_nothing_waits_and_can_be_taken_up(minga: Minga, fake: Fake) -> None:
    for number in range(5):
        fake.put(f"r{number}")
    pages = list(minga.changes(kinds="case"))
    assert [len(page.items) for page in pages] == [3, 2]
    fake.remove("r1")
    (later,) = minga.changes(pages[-1].next, wait_seconds=2)
    assert [(item.type, item.id, item.version) for item in later.items] == [("removed", "r1", 2)]
    assert fake.requests[-1].url.params["wait"] == "2"
    fake.epoch += 1
    with pytest.raises(ResyncRequiredError):
        list(minga.changes(later.next))


def test_export_that_breaks_off_goes_on_after_the_last_whole_row(minga: Minga, fake: Fake) -> None:
    for number in range(6):
        fake.put(f"r{number}", title=f'line\u2028 "quoted,\n{number}"')
    for format in ("ndjson", "csv"):
        whole = io.BytesIO()
        minga.export("cases", whole, format=format)
        for cut in range(0, len(whole.getvalue()), 7):
            fake.export_cut = cut
            out = io.BytesIO()
            seen: list[int | None] = []
            report = minga.export("cases", out, format=format, progress=lambda *given, to=seen: to.append(given[0]))
            assert out.getvalue() == whole.getvalue(), (format, cut)
            assert report.rows == seen[-1] == 6
            assert report.feed is not None
            assert report.feed.endswith("after=0-0")


def test_import_is_packed_sent_and_waited_for(minga: Minga, fake: Fake, tmp_path: Path) -> None:
    path = tmp_path / "cases.ndjson"
    path.write_text('{"title": "good"}\n{"title": "bad"}\n' * 3000)
    seen: list[tuple[int, int | None]] = []
    fake.faults = [None, breaks(httpx.WriteError)]
    report = minga.import_records(path, kind="case", progress=lambda done, total: seen.append((done, total)))
    assert (report.created, report.failed, report.problems[0]["line"]) == (3000, 3000, 2)
    sent = [request for request in fake.requests if request.url.path == "/v1/imports"]
    assert len({request.headers["idempotency-key"] for request in sent}) == 1
    assert sent[0].headers["content-type"] == "application/x-ndjson"
    assert sent[0].url.params["kind"] == "case"
    assert seen[-1][0] == 6000
    with pytest.raises(ValueError):
        minga.import_records(tmp_path / "cases.xlsx")


def test_report_that_breaks_off_goes_on_behind_the_last_whole_line(minga: Minga, fake: Fake) -> None:
    report = minga.import_records(b'{"title": "bad"}\n{"title": "good"}\n' * 3)
    assert report.id is not None
    assert (report.more, report.complete) == (True, True)
    whole = [(line, code) for line in (1, 3, 5) for code in ("blank", "odd")]
    assert [(one["line"], one["code"]) for one in minga.import_entries(report.id)] == whole
    assert [(one["line"], one["code"]) for one in minga.import_entries(report.id, after=1)] == whole[2:]
    size = len(fake.answers["report"])
    for cut in range(0, size, 5):
        fake.report_cuts = [cut, 60]
        assert [(one["line"], one["code"]) for one in minga.import_entries(report.id)] == whole, cut
    fake.report_cuts = [10] * 7
    with pytest.raises(TransportError):
        list(minga.import_entries(report.id))


@pytest.mark.anyio
async def test_asynchronous_client_does_the_same(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_pause(seconds: float) -> None:
        return None

    monkeypatch.setattr("app.client.asynchronous.asyncio.sleep", no_pause)
    for number in range(5):
        fake.put(f"r{number}")
    transport = httpx.MockTransport(fake)
    async with AsyncMinga(BASE, client_id="c", client_secret="s", transport=transport) as minga:
        assert (await minga.me())["organisation"]["name"] == "Example CSO A"
        fake.faults = [breaks(httpx.ReadError), refuses(503)]
        assert (await minga.create("cases", {"title": "x"}))["title"] == "x"
        assert [record["id"] async for record in minga.records("cases")][:5] == ["r0", "r1", "r2", "r3", "r4"]
        assert [len(page.items) async for page in minga.changes()] == [3, 3]
        out = io.BytesIO()
        fake.export_cut = 100
        assert (await minga.export("cases", out)).rows == 6
        report = await minga.import_records(b'{"title": "bad"}\n' * 50)
        assert report.failed == 50
        assert report.id is not None
        fake.report_cuts = [100, 300]
        lines = [one["line"] async for one in minga.import_entries(report.id)]
        assert lines == [line for line in range(1, 51) for _ in range(2)]
        with pytest.raises(NotFoundError):
            await minga.get("cases", "missing")
