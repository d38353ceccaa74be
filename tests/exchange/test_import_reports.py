"""Reports of imports: every line is told of, once, whoever dies meanwhile; dry runs see what the file itself does."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI

from app.exchange import import_entries, import_preview, import_upload, import_work, imports
from app.exchange.worker import Worker
from app.kinds.issues import ISSUES
from tests.conftest import SCOPES, MakeOrganisation, Member
from tests.exchange.importing import NDJSON, dying_worker, ended, imported, issue, ndjson
from tests.records.bodies import publishable

pytestmark = pytest.mark.anyio


async def told(client: httpx.AsyncClient, owner: Member, report: dict[str, Any], **query: Any) -> list[dict[str, Any]]:
    """All entries of the whole report."""
    answer = await client.get(report["report"], params=query, headers=owner.headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["cache-control"] == "private, no-store"
    return [json.loads(line) for line in answer.text.split("\n") if line]


async def count(app: FastAPI, table: str) -> int:
    async with app.state.database.connection() as connection:
        row = await (await connection.execute(f"SELECT count(*) FROM {table}")).fetchone()
    assert row is not None
    return int(row[0])


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.02)


async def no_names(app: FastAPI) -> None:
    """Comes back when no import remembers names any more: they are dropped after its end."""

    async def gone() -> bool:
        return await count(app, "import_name") == 0

    await until(gone)


async def test_report_tells_of_every_line_and_its_head_of_the_first_thousand(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner = await make_organisation()
    lines = [issue(number) if number % 2 else {"kind": "issue", "titel": 1} for number in range(1, 2401)]
    report = await ended(client, owner, await imported(client, owner, ndjson(*lines), dry_run=True))
    assert report["counts"] == {"created": 1200, "updated": 0, "unchanged": 0, "failed": 1200}
    entries = await told(client, owner, report)
    problems = [entry for entry in entries if "code" in entry]
    judged = [entry for entry in entries if "action" in entry]
    assert [entry["line"] for entry in judged] == list(range(1, 2401, 2))
    assert sorted({entry["line"] for entry in problems}) == list(range(2, 2401, 2))
    assert [entry["line"] for entry in entries] == sorted(entry["line"] for entry in entries)
    assert (report["problems_kept"], report["lines_kept"], report["complete"]) == (len(problems), 1200, True)
    assert report["problems"] == problems[:1000]
    assert report["lines"] == judged[:1000]
    for after in (0, 1, 2, 499, 500, 501, 1203, 2399, 2400, 9999):
        assert await told(client, owner, report, after=after) == [one for one in entries if one["line"] > after]


async def test_report_is_for_its_organisation_and_well_asked_questions(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner, other = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    report = await imported(client, owner, ndjson({"kind": "issue"}))
    theirs = await client.get(report["report"], headers=other.headers)
    missing = await client.get(f"/v1/imports/{uuid4()}/report.ndjson", headers=other.headers)
    for answer in (theirs, missing):
        assert answer.status_code == 404
    assert {**theirs.json(), "request_id": ""} == {**missing.json(), "request_id": ""}
    assert (await client.get(report["report"])).status_code == 401
    narrow = await make_organisation(scopes=[scope for scope in SCOPES if scope != "exchange:bulk"])
    assert (await client.get(report["report"], headers=narrow.headers)).status_code == 403
    for wrong in ("after=-1", "after=x", "after=", f"after={2**31}", "after=1&after=2", "before=1"):
        answer = await client.get(f"{report['report']}?{wrong}", headers=owner.headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid-parameter"), wrong
    for name in ("nothing", str(uuid4())[:-1]):
        answer = await client.get(f"/v1/imports/{name}/report.ndjson", headers=owner.headers)
        assert answer.status_code == 404


@asynccontextmanager
async def slowly_read(app: FastAPI, owner: Member, report: dict[str, Any]) -> AsyncIterator[Callable[[], Any]]:
    """The report, read by somebody who takes a part when the test says so; None when it has ended, in order or not."""
    parts: asyncio.Queue[bytes | None] = asyncio.Queue()
    wanted = asyncio.Semaphore(0)
    path = httpx.URL(report["report"]).path
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(b"host", b"minga.test"), (b"authorization", owner.headers["Authorization"].encode())],
        "client": ("127.0.0.1", 1), "server": ("minga.test", 80),
    }  # fmt: skip
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if sent:
            await asyncio.Event().wait()
        sent.append({})
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body" and message.get("body"):
            await wanted.acquire()
            parts.put_nowait(message["body"])

    async def run() -> None:
        try:
            await app(scope, receive, send)
        finally:
            parts.put_nowait(None)

    reading = asyncio.create_task(run())

    async def take() -> bytes | None:
        wanted.release()
        async with asyncio.timeout(30):
            return await parts.get()

    try:
        yield take
    finally:
        reading.cancel()
        await asyncio.wait([reading])
        if not reading.cancelled():
            reading.exception()


async def test_reading_ends_with_the_credential_and_holds_no_connection(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_upload, "PART_LINES", 10)
    owner = await make_organisation()
    report = await ended(client, owner, await imported(client, owner, ndjson(*({"kind": "issue"} for _ in range(400)))))
    async with slowly_read(app, owner, report) as take:
        first = await take()
        assert first is not None
        assert json.loads(first.split(b"\n")[0])["line"] == 1

        async def all_free() -> bool:
            figures = app.state.database.pool.get_stats()
            return bool(figures["pool_available"] == figures["pool_size"])

        await until(all_free)
        async with app.state.database.transaction() as connection:
            await connection.execute("UPDATE credential SET revoked_at = now() WHERE organisation_id = %s", [owner.id])
        app.state.identity.forget()
        got = first
        while (part := await take()) is not None:
            got += part
    last = json.loads(got.rstrip(b"\n").split(b"\n")[-1])["line"]
    assert last < 400


async def test_problems_and_lines_have_rooms_of_their_own(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_upload, "PART_LINES", 50)
    monkeypatch.setattr(import_entries, "LINE_BYTES", 600)
    owner = await make_organisation()
    lines = [issue(number) if number % 50 else {"kind": "issue", "title": number} for number in range(1, 1001)]
    report = await ended(client, owner, await imported(client, owner, ndjson(*lines), dry_run=True))
    entries = await told(client, owner, report)
    judged = [entry["line"] for entry in entries if "action" in entry]
    assert {entry["line"] for entry in entries if "code" in entry} == set(range(50, 1001, 50))
    assert 0 < len(judged) == report["lines_kept"] < 980
    assert judged == [number for number in range(1, 1001) if number % 50][: len(judged)]
    assert report["complete"] is False


async def test_long_difference_names_its_places(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.exchange.import_lines.ENTRY_BYTES", 200)
    owner = await make_organisation()
    await imported(client, owner, ndjson(issue(1)))
    report = await imported(client, owner, ndjson(issue(1, summary="New words. " * 30)), dry_run=True)
    assert report["lines"][0]["changes"] == [{"op": "replace", "pointer": "/summary"}]


async def test_report_of_a_killed_worker_tells_of_each_line_once(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_upload, "PART_LINES", 10)
    monkeypatch.setattr(imports, "ANSWER_WITHIN_SECONDS", 0.0)
    owner = await make_organisation()
    deaths = dying_worker(monkeypatch, import_entries, "keep")
    # Every tenth line is about a record that the first line makes.
    lines = [issue(0 if number % 10 == 0 else number) for number in range(100)]
    report = await ended(client, owner, await imported(client, owner, ndjson(*lines), expected=202, dry_run=True))
    assert deaths == {"left": 0}
    entries = await told(client, owner, report)
    assert [entry["line"] for entry in entries] == list(range(1, 101))
    assert [entry["line"] for entry in entries if entry["action"] == "repeated"] == list(range(11, 101, 10))
    assert (report["counts"]["created"], report["repeated"], report["lines_kept"]) == (91, 9, 100)
    for table in ("record", "import_part"):
        assert await count(app, table) == 0, table
    await no_names(app)


async def test_dry_run_sees_what_the_file_does(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await make_organisation()
    await imported(client, owner, ndjson(*(issue(number) for number in range(1, 7))))
    items = (await client.get("/v1/issues?view=full", headers=owner.headers)).json()["items"]
    ids = {item["external_id"]: item["id"] for item in items}
    anew = {"summary": "New words."}
    asked: list[tuple[dict[str, Any], str]] = [
        (issue(10), "create"),
        (issue(10, **anew), "repeated"),  # made by an earlier line
        (issue(1, **anew), "update"),
        ({**issue(1), "id": ids["i-1"]}, "repeated"),  # changed by an earlier line under its other name
        (issue(1, **anew), "repeated"),
        (issue(2), "unchanged"),
        (issue(2, **anew), "update"),  # nothing has changed before
        ({**issue(2), "id": ids["i-2"], "version": 2}, "repeated"),
        ({**issue(3), "id": ids["i-3"], "external_id": "i-30"}, "update"),
        (issue(3), "repeated"),  # in earnest a new record: the name is free by now
        (issue(30), "repeated"),
        ({**issue(4), "id": ids["i-4"], "external_id": "i-5"}, "external-id-taken"),
        (issue(4), "unchanged"),
        ({**issue(5), "id": ids["i-5"], "version": 7}, "stale-version"),
        (issue(5, **anew), "update"),
        ({**issue(10), "title": ""}, "string-too-short"),  # wrong whatever was before
        ({"kind": "issue", **publishable(ISSUES)}, "create"),
        ({"kind": "issue", **publishable(ISSUES)}, "create"),
        ({**issue(6), "id": ids["i-6"], "external_id": "i-10"}, "repeated"),
    ]
    for size in (500, 3):
        monkeypatch.setattr(import_upload, "PART_LINES", size)
        report = await imported(client, owner, ndjson(*(line for line, _ in asked)), dry_run=True)
        entries = await told(client, owner, report)
        found = [(entry["line"], entry.get("action") or entry["code"]) for entry in entries]
        assert found == [(number, expected) for number, (_, expected) in enumerate(asked, 1)], size
        assert report["repeated"] == len([one for one in asked if one[1] == "repeated"])
        problems = {problem["code"]: problem for problem in report["problems"]}
        assert problems["external-id-taken"]["pointer"] == "/external_id"
        assert problems["stale-version"]["pointer"] == "/version"
        assert problems["stale-version"]["current_version"] == 1
        await no_names(app)
    assert (await client.get("/v1/issues?count=true", headers=owner.headers)).json()["total"] == 6


async def test_names_are_dropped_when_an_import_ends_also_those_left_behind(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_preview, "FORGET_AT_ONCE", 7)
    owner = await make_organisation()
    report = await imported(client, owner, ndjson(*(issue(number) for number in range(40))), dry_run=True, atomic=True)
    assert (report["status"], report["lines_kept"]) == ("done", 40)
    await no_names(app)
    async with app.state.database.connection() as connection:
        await connection.execute("INSERT INTO import_name SELECT id, 7 FROM import_job")
        left = await (await connection.execute(import_preview.LEFT_BEHIND)).fetchall()
    assert left == [(UUID(report["id"]),)]
    await import_preview.forget(app.state.database, left[0][0])
    assert await count(app, "import_name") == 0


async def test_preview_and_dry_run_refuse_an_external_id_that_is_taken(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner, other = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    body = publishable(ISSUES, external_id="a-1")
    assert (await client.post("/v1/issues?dry_run=true", json=body, headers=owner.headers)).status_code == 200
    await client.post("/v1/issues", json=body, headers=owner.headers)
    for query in ("", "?dry_run=true"):
        answer = await client.post(f"/v1/issues{query}", json=body, headers=owner.headers)
        assert (answer.status_code, answer.json()["code"]) == (409, "external-id-taken")
        free = {**body, "external_id": f"a-2{query}"}
        assert (await client.post(f"/v1/issues{query}", json=free, headers=owner.headers)).status_code in (200, 201)
    theirs = await client.post("/v1/issues?dry_run=true", json=body, headers=other.headers)
    assert theirs.status_code == 200


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("dry_run", [True, False])
async def test_one_record_changes_twice_under_both_its_names(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, atomic: bool, dry_run: bool
) -> None:
    owner = await make_organisation()
    await imported(client, owner, ndjson(issue(1), issue(2)))
    items = (await client.get("/v1/issues?view=full", headers=owner.headers)).json()["items"]
    ids = {item["external_id"]: item["id"] for item in items}
    lines = [
        {**issue(1, summary="First."), "id": ids["i-1"], "version": 1},
        issue(1, summary="Second.", version=2),
        {**issue(1, summary="Third."), "id": ids["i-1"], "version": 3},
        {**issue(2, summary="First."), "id": ids["i-2"]},
        issue(2, summary="Second."),
    ]
    report = await imported(client, owner, ndjson(*lines), atomic=atomic, dry_run=dry_run)
    assert report["status"] == "done", report
    assert report["problems"] == []
    if dry_run:
        assert [line["action"] for line in report["lines"]] == ["update", "repeated", "repeated", "update", "repeated"]
    else:
        assert report["counts"]["updated"] == 5
        shown = {one: (await client.get(f"/v1/issues/{ids[one]}", headers=owner.headers)).json() for one in ids}
        assert {one: (item["version"], item["summary"]) for one, item in shown.items()} == {
            "i-1": (4, "Third."),
            "i-2": (3, "Second."),
        }


@pytest.mark.parametrize("dry_run", [True, False])
async def test_failed_all_or_nothing_import_tells_what_was_wrong(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch,
    dry_run: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(import_upload, "PART_LINES", 10)
    owner = await make_organisation()
    lines = [issue(number) if number % 30 else {"kind": "issue", "title": ""} for number in range(1, 91)]
    report = await imported(client, owner, ndjson(*lines), atomic=True, dry_run=dry_run)
    assert (report["status"], report["reason"], report["counts"]["failed"]) == ("failed", "lines-refused", 3)
    entries = await told(client, owner, report)
    assert {entry["line"] for entry in entries if "code" in entry} == {30, 60, 90}
    assert len([entry for entry in entries if "action" in entry]) == (87 if dry_run else 0)
    assert await count(app, "record") == 0
    await no_names(app)


async def test_worker_gives_back_its_own_lease_and_no_other(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "ANSWER_WITHIN_SECONDS", 0.0)
    state = app.state
    owner = await make_organisation()
    begun, go_on = asyncio.Event(), asyncio.Event()
    real = import_work._carried_out

    async def slowly(*given: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await real(*given)

    async def lease() -> tuple[Any, ...]:
        async with state.database.connection() as connection:
            cursor = await connection.execute("SELECT lease_owner, leased_until > now() FROM import_job")
            row = await cursor.fetchone()
        assert row is not None
        return tuple(row)

    monkeypatch.setattr(import_work, "_carried_out", slowly)
    report = await imported(client, owner, ndjson(issue(1)), expected=202)
    async with asyncio.timeout(30):
        await begun.wait()
    before = await lease()
    assert before[1] is True
    stranger = Worker(state.database, state.bell, state.kinds, state.secret, state.settings)
    stranger._claim = uuid4()
    await stranger.__aexit__(None, None, None)
    assert await lease() == before
    stranger._claim = before[0]
    await stranger.__aexit__(None, None, None)
    assert await lease() == (None, None)
    go_on.set()
    assert (await ended(client, owner, report))["counts"]["created"] == 1


async def test_limits_of_imports_are_listed(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/v1")).json()["limits"]["imports"]
    assert listed == {
        "body_bytes": 2_000_000_000,
        "lines": 1_000_000,
        "line_bytes": 262_144,
        "columns": 300,
        "atomic_lines": 5_000,
        "open_at_once": 5,
    }


@pytest.mark.parametrize("lines", [5_000, pytest.param(100_000, marks=pytest.mark.slow)])
async def test_many_refused_lines_are_told_one_by_one(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, lines: int
) -> None:
    owner = await make_organisation()
    body = b'{"kind": "issue", "title": "", "language": "en"}\n' * lines
    headers = {**owner.headers, **NDJSON}
    first = await client.post("/v1/imports", content=body, headers=headers, timeout=120)
    report = await ended(client, owner, first.json())
    assert (report["counts"]["failed"], report["problems_kept"], report["complete"]) == (lines, lines, True)
    entries = await told(client, owner, report)
    assert [(entry["line"], entry["pointer"]) for entry in entries] == [
        (number, "/title") for number in range(1, lines + 1)
    ]
