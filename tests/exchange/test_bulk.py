"""Imports and exports: nothing half, nothing double, and one's own export imports as nothing changed."""

import csv
import gzip
import io
import json
import zlib
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from app.exchange import cells, exports, import_upload, import_work, imports, lines
from app.exchange.worker import Worker
from app.kinds import KINDS
from app.kinds.cases import CASES
from app.kinds.issues import ISSUES
from app.records.kind import Kind
from tests.conftest import SCOPES, MakeOrganisation, Member
from tests.exchange.follower import Follower, settled
from tests.exchange.importing import NDJSON, dying_worker, ended, imported, issue, leases_end_at_once, ndjson
from tests.records.bodies import publishable

pytestmark = pytest.mark.anyio
every_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
CSV = {"Content-Type": "text/csv"}


async def test_import_makes_replaces_and_leaves_alone(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner = await make_organisation()
    first = await imported(client, owner, ndjson(*(issue(number) for number in range(450))))
    assert first["counts"] == {"created": 450, "updated": 0, "unchanged": 0, "failed": 0}
    assert (first["status"], first["lines_total"], first["lines_done"]) == ("done", 450, 450)
    second = [issue(number, summary="New words.") if number < 5 else issue(number) for number in range(450)]
    again = await imported(client, owner, ndjson(*second))
    assert again["counts"] == {"created": 0, "updated": 5, "unchanged": 445, "failed": 0}
    got = await client.get(f"/v1/imports/{again['id']}", headers=owner.headers)
    assert got.json() == again
    other = await make_organisation("Example CSO B")
    assert (await client.get(f"/v1/imports/{again['id']}", headers=other.headers)).status_code == 404
    assert (await client.get("/v1/issues?count=true", headers=owner.headers)).json()["total"] == 450


async def test_dry_run_tells_the_difference_and_stores_nothing(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner = await make_organisation()
    await imported(client, owner, ndjson(issue(1), issue(2)))
    lines = ndjson(issue(1, summary="New words."), issue(2), issue(3), {"kind": "issue"})
    report = await imported(client, owner, lines, dry_run=True)
    assert report["counts"] == {"created": 1, "updated": 1, "unchanged": 1, "failed": 1}
    assert [(line["line"], line["action"]) for line in report["lines"]] == [
        (1, "update"),
        (2, "unchanged"),
        (3, "create"),
    ]
    (change,) = report["lines"][0]["changes"]
    assert (change["op"], change["pointer"], change["after"]) == ("replace", "/summary", "New words.")
    again = await imported(client, owner, ndjson(issue(1), issue(2), issue(3)))
    assert again["counts"] == {"created": 1, "updated": 0, "unchanged": 2, "failed": 0}


async def test_atomic_import_is_all_or_nothing(client: httpx.AsyncClient, make_organisation: MakeOrganisation) -> None:
    owner = await make_organisation()
    lines = [issue(number) for number in range(300)]
    refused = await imported(client, owner, ndjson(*lines, {**issue(300), "title": ""}), atomic=True)
    assert (refused["status"], refused["reason"]) == ("failed", "lines-refused")
    assert refused["counts"] == {"created": 0, "updated": 0, "unchanged": 0, "failed": 1}
    assert refused["problems"][0]["line"] == 301
    assert refused["problems"][0]["pointer"] == "/title"
    assert (await client.get("/v1/issues", headers=owner.headers)).json()["items"] == []
    assert (await imported(client, owner, ndjson(*lines), atomic=True))["counts"]["created"] == 300


async def test_each_bad_line_has_its_problem_and_the_rest_goes_in(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner, other = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    theirs = (await client.post("/v1/issues", json=publishable(ISSUES, tlp="green"), headers=other.headers)).json()
    hidden = (await client.post("/v1/issues", json=publishable(ISSUES, tlp="amber"), headers=other.headers)).json()
    marker = "marker-that-must-not-come-back"
    bad = [
        (b'{"kind": "issue", "title": "' + b"x" * 300_000 + b'"}', "", "line-too-long"),
        (b'{"kind": "issue", "title": "\xff\xfe"}', "", "invalid-utf8"),
        (b'{"kind": "issue", "title": ', "", "malformed-json"),
        (b'{"kind": "issue", "kind": "case"}', "", "malformed-json"),
        (b"[1]", "", "object-required"),
        (b'{"title": "no kind"}', "/kind", "required"),
        (b'{"kind": "secret"}', "/kind", "unknown-kind"),
        (json.dumps(issue(1, tlp="red")).encode(), "/tlp", "marking-not-supported"),
        (json.dumps({**issue(2), "surprise": marker}).encode(), "", "unknown-field"),
        (json.dumps({**issue(3), "id": theirs["id"]}).encode(), "", "not-owner"),
        (json.dumps({**issue(4), "id": hidden["id"]}).encode(), "", "not-found"),
        (json.dumps({**issue(5), "id": str(uuid4())}).encode(), "", "not-found"),
        (json.dumps({**issue(6), "id": marker}).encode(), "/id", "invalid-id"),
        (json.dumps({**issue(7), "findings": [str(uuid4())]}).encode(), "/findings/0", "reference-not-readable"),
        (
            json.dumps({**issue(8), "audience": [str(uuid4())], "tlp": "amber"}).encode(),
            "/audience/0",
            "audience-not-found",
        ),
    ]
    body = b"\xef\xbb\xbf" + ndjson(issue(100)) + b"\r\n\n" + b"\n".join(line for line, _, _ in bad) + b"\n"
    body += json.dumps(issue(101)).encode() + b"\r\n" + json.dumps(issue(102)).encode()
    answer = await client.post("/v1/imports", content=body, headers={**owner.headers, **NDJSON})
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert marker not in answer.text
    assert report["counts"] == {"created": 3, "updated": 0, "unchanged": 0, "failed": len(bad)}
    found = [(problem["line"], problem["pointer"], problem["code"]) for problem in report["problems"]]
    assert found == [(number + 4, pointer, code) for number, (_, pointer, code) in enumerate(bad)]


async def test_someone_elses_external_id_is_not_touched(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner, other = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    await imported(client, other, ndjson(issue(1)))
    assert (await imported(client, owner, ndjson(issue(1))))["counts"]["created"] == 1
    assert (await client.get("/v1/issues?count=true", headers=other.headers)).json()["total"] == 1 + 1
    twice = await imported(client, owner, ndjson(issue(2), issue(2, summary="Again."), issue(2, summary="Again.")))
    assert twice["counts"] == {"created": 1, "updated": 1, "unchanged": 1, "failed": 0}


async def test_request_that_is_broken_as_a_whole_leaves_nothing(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner = await make_organisation()
    packed = gzip.compress(ndjson(*(issue(number) for number in range(500))))
    gzipped = {"Content-Encoding": "gzip"}
    good = ndjson(issue(1))
    attempts: list[tuple[bytes, dict[str, str], dict[str, Any], int, str]] = [
        (packed[:-20], {**NDJSON, **gzipped}, {}, 400, "truncated-body"),
        (packed + b"more", {**NDJSON, **gzipped}, {}, 400, "malformed-encoding"),
        (b"no gzip at all", {**NDJSON, **gzipped}, {}, 400, "malformed-encoding"),
        (good, {**NDJSON, "Content-Encoding": "br"}, {}, 415, "unsupported-media-type"),
        (good, {"Content-Type": "application/json"}, {}, 415, "unsupported-media-type"),
        (good, NDJSON, {"kind": "secret"}, 400, "invalid-parameter"),
        (good, NDJSON, {"dryrun": "true"}, 400, "invalid-parameter"),
        (b"title;language\n", CSV, {}, 422, "invalid-body"),
        (b"title;surprise\nx;y\n", CSV, {"kind": "issue"}, 422, "invalid-body"),
        (b"title;title\nx;y\n", CSV, {"kind": "issue"}, 422, "invalid-body"),
        (b"", CSV, {"kind": "issue"}, 422, "invalid-body"),
        (b'title,language\n"never closed,en\n', CSV, {"kind": "issue"}, 400, "truncated-body"),
        (ndjson(*({} for _ in range(5001))), NDJSON, {"atomic": "true"}, 413, "body-too-large"),
    ]
    for body, headers, query, status, code in attempts:
        answer = await client.post("/v1/imports", content=body, params=query, headers={**owner.headers, **headers})
        assert (answer.status_code, answer.json().get("code")) == (status, code), (body[:40], answer.text)
    async with app.state.database.connection() as connection:
        for table in ("import_job", "import_part", "record"):
            row = await (await connection.execute(f"SELECT count(*) FROM {table}")).fetchone()
            assert row == (0,), table
    assert (await imported(client, owner, packed, headers=gzipped))["counts"]["created"] == 500


async def test_scopes_are_both_needed(client: httpx.AsyncClient, make_organisation: MakeOrganisation) -> None:
    for missing in ("exchange:bulk", "records:write"):
        narrow = await make_organisation(scopes=[scope for scope in SCOPES if scope != missing])
        await imported(client, narrow, ndjson(issue(1)), expected=403)
    assert (await client.post("/v1/imports", content=b"", headers=NDJSON)).status_code == 401


async def test_repeated_import_under_one_key_has_one_effect(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner = await make_organisation()
    key = {"Idempotency-Key": "night-1"}
    lines = ndjson(*({"kind": "issue", **publishable(ISSUES)} for _ in range(20)))
    reports = [await imported(client, owner, lines, headers=key) for _ in range(3)]
    assert len({report["id"] for report in reports}) == 1
    assert (await client.get("/v1/issues?count=true", headers=owner.headers)).json()["total"] == 20
    await imported(client, owner, lines + lines, headers=key, expected=422)


async def test_upload_that_says_nothing_has_an_end(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await make_organisation()
    packer = zlib.compressobj(wbits=31)
    nothing = packer.flush(zlib.Z_SYNC_FLUSH) + b"\0\0\0\xff\xff" * 1000
    monkeypatch.setattr(lines, "MAXIMUM_BYTES", 4000)
    named = {"Idempotency-Key": "one"}
    await imported(client, owner, ndjson(issue(1)), headers=named)
    for headers in ({}, named):
        packed = {**owner.headers, **NDJSON, **headers, "Content-Encoding": "gzip"}
        answer = await client.post("/v1/imports", content=nothing, headers=packed)
        assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")


async def test_interrupted_import_goes_on_without_doubling(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_upload, "PART_LINES", 10)
    monkeypatch.setattr(imports, "ANSWER_WITHIN_SECONDS", 0.0)
    owner = await make_organisation()
    deaths = dying_worker(monkeypatch, import_work, "_advance")
    lines = ndjson(*({"kind": "issue", **publishable(ISSUES)} for _ in range(100)))
    report = await ended(client, owner, await imported(client, owner, lines, expected=202))
    assert deaths == {"left": 0}
    assert report["counts"]["created"] == 100
    assert (await client.get("/v1/issues?count=true", headers=owner.headers)).json()["total"] == 100


async def test_a_long_import_lets_a_short_one_pass(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_upload, "PART_LINES", 10)
    monkeypatch.setattr(imports, "ANSWER_WITHIN_SECONDS", 0.0)
    monkeypatch.setattr(import_work, "TURN_PARTS", 2)
    long_owner, short_owner = await make_organisation(), await make_organisation("Example CSO B")
    long = await imported(client, long_owner, ndjson(*(issue(number) for number in range(600))), expected=202)
    short = await imported(client, short_owner, ndjson(*(issue(number) for number in range(20))), expected=202)
    reports = {"long": await ended(client, long_owner, long), "short": await ended(client, short_owner, short)}
    assert [reports[name]["counts"]["created"] for name in ("long", "short")] == [600, 20]
    assert reports["short"]["finished_at"] < reports["long"]["finished_at"]


async def test_several_workers_on_one_import_do_each_part_once(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leases that end at once: every worker takes every import for its own."""
    monkeypatch.setattr(import_upload, "PART_LINES", 5)
    leases_end_at_once(monkeypatch)
    state = app.state
    owner = await make_organisation()
    lines = ndjson(*({"kind": "issue", **publishable(ISSUES)} for _ in range(200)))
    async with AsyncExitStack() as stack:
        for _ in range(3):
            worker = Worker(state.database, state.bell, state.kinds, state.secret, state.settings)
            await stack.enter_async_context(worker)
        report = await imported(client, owner, lines)
        atomic = await imported(client, owner, lines, atomic=True)
    for one in (report, atomic):
        assert (one["status"], one["counts"]["created"], one["lines_done"]) == ("done", 200, 200)
    assert (await client.get("/v1/issues?count=true", headers=owner.headers)).json()["total"] == 400


async def exported(client: httpx.AsyncClient, reader: Member | None, name: str, **query: Any) -> httpx.Response:
    headers = reader.headers if reader else {}
    answer = await client.get(f"/v1/exports/{name}", params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


TROUBLE = '=cmd|" /C calc"!A0\u2028\n"; \'=1 Évaluation تقييم 🚔'


@every_kind
@pytest.mark.parametrize("form", ["ndjson", "csv"])
async def test_import_of_ones_own_export_changes_nothing(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, kind: Kind, form: str
) -> None:
    owner, other = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    bodies = [
        publishable(kind, tlp="green", summary=TROUBLE, external_id="-1+1"),
        publishable(kind, tlp="clear", title="@SUM(1)"),
        publishable(kind, tlp="amber", audience=[str(other.id)]),
        publishable(kind, status="draft", summary="'''=x"),
        {"title": "=only a title", "language": "en"},
    ]
    for body in bodies:
        answer = await client.post(f"/v1/{kind.plural}", json=body, headers=owner.headers)
        assert answer.status_code == 201, answer.text
    export = await exported(client, owner, f"{kind.plural}.{form}")
    if form == "csv":
        table = list(csv.reader(io.StringIO(export.text, newline="")))
        assert tuple(table[0]) == cells.columns(kind)
        assert {row[6] for row in table[1:]} >= {"clear", "green", "amber"}
        assert not [cell for row in table for cell in row if cell[:1] in ("=", "+", "-", "@", "\t", "\r")]
    headers = {**owner.headers, **(NDJSON if form == "ndjson" else CSV)}
    answer = await client.post("/v1/imports", content=export.content, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["counts"] == {"created": 0, "updated": 0, "unchanged": 5, "failed": 0}, answer.text


async def test_csv_with_semicolons_marks_and_other_languages(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner = await make_organisation()
    table = (
        "\ufeffexternal_id;title;title@fr;language;countries;status;summary\r\n"
        'k-1;"Budgets; open";Budgets ouverts;en;CD;published;"Two\r\nlines"\r\n'
        "\r\n"
        "k-2;Police;;en;UY;draft;\r\n"
        "k-3;Too;many;en;UY;draft;x;y\r\n"
        "k-4;Wrong;;en;XX;draft;\r\n"
    ).encode()
    answer = await client.post("/v1/imports?kind=issues", content=table, headers={**owner.headers, **CSV})
    report = answer.json()
    assert report["counts"] == {"created": 2, "updated": 0, "unchanged": 0, "failed": 2}, answer.text
    assert [(one["line"], one["pointer"], one["code"]) for one in report["problems"]] == [
        (6, "", "too-many-cells"),
        (7, "/countries/0", "unknown-country"),
    ]
    items = (await client.get("/v1/issues?view=full", headers=owner.headers)).json()["items"]
    assert {item["title"]: (item["summary"], item["countries"]) for item in items} == {
        "Budgets; open": ("Two\nlines", ["CD"]),
        "Police": (None, ["UY"]),
    }
    async with app.state.database.connection() as connection:
        rows = await (await connection.execute("SELECT language, body FROM translation")).fetchall()
    assert rows == [("fr", {"title": "Budgets ouverts"})]


async def test_export_and_feed_from_there_make_an_exact_copy(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "PAGE_ROWS", 7)
    owner, reader = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    lines = [issue(number, tlp=("clear", "green", "amber+strict")[number % 3]) for number in range(60)]
    await imported(client, owner, ndjson(*lines))
    export = await exported(client, reader, "issues.ndjson")
    head, *records = [json.loads(line) for line in export.text.split("\n") if line]
    assert head == {"feed": export.headers["minga-feed"]}
    assert len(records) == 40
    assert {record["tlp"] for record in records} == {"clear", "green"}
    assert [record["id"] for record in records] == sorted(record["id"] for record in records)
    for record in records[:3]:
        assert record == (await client.get(record["url"], headers=reader.headers)).json()
    rest = await exported(client, reader, "issues.ndjson", after=records[10]["id"])
    assert [json.loads(line) for line in rest.text.split("\n") if line][1:] == records[11:]
    await imported(client, owner, ndjson(issue(0, tlp="amber+strict"), issue(2, tlp="clear"), issue(99, tlp="green")))
    follower = Follower(client, reader.headers, next=head["feed"])
    follower.copy = {record["id"]: record for record in records}
    await settled(follower)
    shown = (await client.get("/v1/issues?limit=200", headers=reader.headers)).json()["items"]
    assert follower.versions == {item["id"]: item["version"] for item in shown}


@pytest.mark.parametrize("form", ["ndjson", "csv"])
async def test_a_page_of_an_export_ends_with_the_document_that_fills_it(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    owner, reader = await make_organisation(), await make_organisation()
    lines = [issue(number, tlp="clear", description="x" * (1 + number % 3 * 9000)) for number in range(20)]
    await imported(client, owner, ndjson(*lines))
    await imported(client, owner, ndjson(*(issue(number, tlp="green") for number in (20, 21))))
    for who in (owner, reader):
        whole = (await exported(client, who, f"issues.{form}")).text.partition("\n")[2]
        assert whole.count("\n") == 22
        for most in (1, 10_000, 25_000):
            monkeypatch.setattr(exports, "PAGE_BYTES", most)
            monkeypatch.setattr(exports, "TURN_BYTES", 1000)
            assert (await exported(client, who, f"issues.{form}")).text.partition("\n")[2] == whole
        monkeypatch.undo()


@pytest.mark.parametrize("packing", ["gzip", "br", "zstd"])
async def test_exports_and_reports_are_packed(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, packing: str
) -> None:
    owner = await make_organisation()
    report = await imported(client, owner, ndjson(*(issue(number, tlp="clear") for number in range(50))), dry_run=True)
    await imported(client, owner, ndjson(*(issue(number, tlp="clear") for number in range(50))))
    for path in ("/v1/exports/issues.ndjson", "/v1/exports/issues.csv", f"/v1/imports/{report['id']}/report.ndjson"):
        plain, packed = [
            await client.get(path, headers={**owner.headers, "Accept-Encoding": one}) for one in ("identity", packing)
        ]
        assert "content-encoding" not in plain.headers
        assert packed.headers["content-encoding"] == packing
        assert packed.text.partition("\n")[2] == plain.text.partition("\n")[2]


async def test_export_filters_scopes_and_public_reading(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner = await make_organisation()
    await imported(
        client,
        owner,
        ndjson(issue(1, tlp="clear", countries=["CD"]), issue(2, tlp="clear", countries=["UY"]), issue(3, tlp="green")),
    )
    public = await exported(client, None, "issues.csv", bom=True)
    assert public.content.startswith(b"\xef\xbb\xbfid,")
    assert public.text.count("\r\n") == 3
    assert (await exported(client, None, "issues.csv", region="AFR")).text.count("\r\n") == 2
    assert (await exported(client, owner, "issues.csv", tlp="green")).text.count("\r\n") == 2
    narrow = await make_organisation(scopes=["records:read"])
    assert (await client.get("/v1/exports/issues.csv", headers=narrow.headers)).status_code == 403
    for wrong in ("issues.xlsx", "secrets.csv", "issues"):
        assert (await client.get(f"/v1/exports/{wrong}")).status_code == 404
    assert (await client.get("/v1/exports/issues.csv?colour=red")).status_code == 400
    assert CASES.plural == "cases"
