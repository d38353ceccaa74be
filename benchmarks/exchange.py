"""`exchange`: imports beside a plain COPY, exports beside a bare cursor, the feed over fifty times as many revisions,
and a day's news on the wire. Everything is measured over HTTP on the real service, in one run.
"""

import asyncio
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

import httpx
import orjson
import psycopg
from psycopg import sql

from app.client import Minga, pull
from app.db.pool import Database, driver_url
from app.kinds.cases import CASES
from benchmarks import generated
from benchmarks.report import Options, say
from benchmarks.servers import Service, database_of, organisation, service

IMPORTED = 5_000
FEW_REVISIONS = 20_000
MANY_REVISIONS = 1_000_000
FEED_PAGE = 1_000
NEWS = 100
TARGETS = {"import : COPY": 0.15, "export : cursor": 0.3, "feed many : few": 1.5, "news bytes": 60_000}
"""At least, at least, at most, at most."""


def run(options: Options) -> dict[str, Any]:
    """Measures each in turn and tells; the service and its data are gone afterwards."""
    found: dict[str, Any] = {"targets": TARGETS}
    with ExitStack() as stack:
        running = stack.enter_context(service())
        owner, headers = asyncio.run(_owner(running))
        start = httpx.get(f"{running.url}/v1/changes", headers=headers).json()["next"]
        found |= _imports(options, running, headers)
        asyncio.run(_filled(running, owner, FEW_REVISIONS))
        found |= _exports(options, running, headers)
        found |= _news(options, running, headers)
        few = _feed(options, running, headers, FEW_REVISIONS, start)
        asyncio.run(_more_revisions(running, MANY_REVISIONS))
        many = _feed(options, running, headers, MANY_REVISIONS, start)
    found["feed_ms"] = {str(FEW_REVISIONS): few, str(MANY_REVISIONS): many}
    found["feed many : few"] = round(many / few, 3)
    say(options, f"feed page of {FEED_PAGE}: many : few {found['feed many : few']}")
    return found


async def _owner(running: Service) -> tuple[UUID, dict[str, str]]:
    async with database_of(running) as database:
        return await organisation(database, running, "Example CSO A")


def _imports(options: Options, running: Service, headers: dict[str, str]) -> dict[str, Any]:
    body = b"".join(orjson.dumps({"kind": "case", **generated.case(number)}) + b"\n" for number in range(IMPORTED))
    started = time.perf_counter()
    with httpx.Client(base_url=running.url, timeout=300) as client:
        sent = {**headers, "Content-Type": "application/x-ndjson"}
        answer = client.post("/v1/imports", content=body, headers=sent)
        answer.raise_for_status()
        report = answer.json()
        while report["status"] not in ("done", "failed"):
            time.sleep(0.05)
            report = client.get(f"/v1/imports/{report['id']}", headers=headers).json()
    seconds = time.perf_counter() - started
    assert report["counts"]["created"] == IMPORTED, report["counts"]
    copied = _copy(running)
    found = {
        "import_per_second": round(IMPORTED / seconds),
        "copy_per_second": round(IMPORTED / copied),
        "import : COPY": round(copied / seconds, 3),
    }
    say(options, f"import {found['import_per_second']}/s, COPY {found['copy_per_second']}/s: {found['import : COPY']}")
    return found


def _copy(running: Service) -> float:
    """Seconds for a COPY of the imported rows into a table with the same columns and indexes; the median of three."""
    with psycopg.connect(driver_url(running.place.database_url), autocommit=True) as connection:
        columns = [
            row[0]
            for row in connection.execute(
                "SELECT column_name FROM information_schema.columns WHERE table_name = 'record'"
                " ORDER BY ordinal_position"
            )
        ]
        named = sql.SQL(", ").join(map(sql.Identifier, columns))
        rows = connection.execute(sql.SQL("SELECT {} FROM record").format(named)).fetchall()
        prepared = [tuple(orjson.dumps(one).decode() if isinstance(one, dict) else one for one in row) for row in rows]
        taken = []
        for _ in range(3):
            connection.execute("DROP TABLE IF EXISTS copied")
            connection.execute("CREATE TABLE copied (LIKE record INCLUDING ALL)")
            started = time.perf_counter()
            with connection.cursor().copy(sql.SQL("COPY copied ({}) FROM STDIN").format(named)) as copy:
                for row in prepared:
                    copy.write_row(row)
            taken.append(time.perf_counter() - started)
        connection.execute("DROP TABLE copied")
    return median(taken)


async def _filled(running: Service, owner: UUID, count: int) -> None:
    async with database_of(running) as database:
        await generated.load(database, owner, CASES, generated.case, range(IMPORTED, count))


def _exports(options: Options, running: Service, headers: dict[str, str]) -> dict[str, Any]:
    asked = {**headers, "Accept-Encoding": "identity"}
    ours, bare, resident = [], [], []
    with httpx.Client(base_url=running.url, timeout=300) as client:
        for _ in range(3):
            started, rows = time.perf_counter(), 0
            with client.stream("GET", "/v1/exports/cases.ndjson", headers=asked) as answer:
                for part in answer.iter_raw():
                    rows += part.count(b"\n")
            ours.append((rows - 1) / (time.perf_counter() - started))
            resident.append(running.resident_megabytes())
            bare.append(_cursor(running))
    found = {
        "export_per_second": round(median(ours)),
        "cursor_per_second": round(median(bare)),
        "export : cursor": round(median(ours) / median(bare), 3),
        "memory_mb_after_each_export": resident,
    }
    say(
        options,
        f"export {found['export_per_second']}/s, cursor {found['cursor_per_second']}/s: {found['export : cursor']}",
    )
    say(options, f"memory after each export, MB: {resident}")
    return found


def _cursor(running: Service) -> float:
    """Rows a second of a bare server-side cursor over the stored documents."""
    with psycopg.connect(driver_url(running.place.database_url)) as connection:
        started, rows = time.perf_counter(), 0
        with connection.cursor(name="bare", binary=True) as cursor:
            cursor.itersize = 500
            cursor.execute("SELECT full_view FROM document")
            for _ in cursor:
                rows += 1
    return rows / (time.perf_counter() - started)


def _news(options: Options, running: Service, headers: dict[str, str]) -> dict[str, Any]:
    """Bytes on the wire for pulling a hundred changed records into a folder that was in step."""
    received = {"bytes": 0}

    class Counting(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = super().handle_request(request)
            stream = response.stream
            assert isinstance(stream, httpx.SyncByteStream)
            inner: httpx.SyncByteStream = stream

            class Counted(httpx.SyncByteStream):
                def __iter__(self) -> Any:
                    for part in inner:
                        received["bytes"] += len(part)
                        yield part

                def close(self) -> None:
                    inner.close()

            head = sum(len(name) + len(value) + 4 for name, value in response.headers.raw)
            received["bytes"] += head
            return httpx.Response(response.status_code, headers=response.headers, stream=Counted())

    token = headers["Authorization"].removeprefix("Bearer ")
    with tempfile.TemporaryDirectory() as folder, Minga(running.url, token=token, transport=Counting()) as minga:
        started = time.perf_counter()
        first = pull(minga, Path(folder))
        seconds = time.perf_counter() - started
        changed = [
            record for _, record in zip(range(NEWS), minga.records("cases", limit=100, view="full"), strict=False)
        ]
        for number, record in enumerate(changed):
            minga.patch("cases", record["id"], {"summary": f"News {number} of the day."}, version=record["version"])
        time.sleep(0.5)
        received["bytes"] = 0
        report = pull(minga, Path(folder))
        assert report.written >= NEWS, report
    found = {"pulled_per_second": round(first.written / seconds), "news bytes": received["bytes"]}
    say(options, f"first pull {found['pulled_per_second']}/s; news of {NEWS} records: {received['bytes']} bytes")
    return found


def _feed(options: Options, running: Service, headers: dict[str, str], revisions: int, start: str) -> float:
    """Milliseconds of a page of a thousand thin changes, in the middle of the log; the median."""
    with httpx.Client(base_url=running.url, timeout=60, headers=headers) as client:
        middle = f"{start}&limit={FEED_PAGE}"
        for _ in range(5):
            middle = client.get(middle).json()["next"]
        taken = []
        for _ in range(15):
            started = time.perf_counter()
            answer = client.get(middle)
            taken.append((time.perf_counter() - started) * 1000)
            assert len(answer.json()["items"]) > FEED_PAGE // 2, len(answer.json()["items"])
    found = round(median(taken), 2)
    say(options, f"feed page of {FEED_PAGE} thin changes at {revisions:,} revisions: {found} ms")
    return found


async def _more_revisions(running: Service, count: int) -> None:
    """Adds copies of the revisions, as if each record had been changed many times; their records stay the same."""
    async with Database(running.place.database_url, size=2) as database, database.connection() as connection:
        await connection.execute("SET statement_timeout = 0")
        await connection.execute("SET idle_in_transaction_session_timeout = 0")
        names = (
            "record_id, kind, action, organisation_id, actor_organisation_id, actor_credential_id, status_before,"
            " tlp_before, audience_before, status, tlp, audience, envelope, at"
        )
        copied = ", ".join(f"first.{name}" for name in names.split(", "))
        row = await (await connection.execute("SELECT count(*) FROM revision")).fetchone()
        assert row is not None
        for _ in range((count - row[0]) // row[0]):
            await connection.execute(
                f"INSERT INTO revision ({names}, version, body) SELECT {copied},"
                " (SELECT max(version) FROM revision AS last WHERE last.record_id = first.record_id) + 1, '{}'"
                " FROM (SELECT DISTINCT ON (record_id) * FROM revision ORDER BY record_id, version) AS first"
            )
        await connection.execute(
            "UPDATE record SET version = (SELECT max(version) FROM revision WHERE record_id = record.id)"
        )
        await connection.execute("VACUUM ANALYZE revision")
        await connection.execute("VACUUM ANALYZE record")
