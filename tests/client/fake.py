"""A service in memory that keeps to the contract, for tests of the client alone; it fails on request."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from typing import Any

import httpx

BASE = "http://127.0.0.1:8000"
PUBLIC = "https://minga.example.org"
"""The address the service believes to have: it stands in `next`, and must not be called."""

Fault = Callable[[httpx.Request], httpx.Response] | None


class Fake:
    """Records, a feed that hands out `page_size` items at a time, exports and imports."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, Any]] = {}
        self.feed: list[tuple[str, str | None]] = []
        self.page_size = 3
        self.epoch = 0
        self.requests: list[httpx.Request] = []
        self.faults: list[Fault] = []
        self.tokens = 0
        self.token_life = 600
        self.answers: dict[str, bytes] = {}
        self.export_cut: int | None = None
        self.report_cuts: list[int] = []
        self.refusals: dict[str, tuple[int, str]] = {}

    def put(self, record_id: str, kind: str = "case", **fields: Any) -> None:
        """Stores a record or a new version of it, and tells the feed."""
        gone = json.loads(self.answers.pop(f"gone-{record_id}", b"[0, 0]"))[1]
        version = self.records.get(record_id, {}).get("version", gone) + 1
        self.records[record_id] = {"id": record_id, "kind": kind, "version": version, "title": record_id, **fields}
        self.feed.append((record_id, kind))

    def remove(self, record_id: str) -> None:
        """Takes a record out of sight, and tells the feed."""
        gone = self.records.pop(record_id)
        self.feed.append((record_id, None))
        self.answers[f"gone-{record_id}"] = json.dumps([gone["kind"], gone["version"] + 1]).encode()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answers a request, or fails as the next fault says."""
        self.requests.append(request)
        if request.url.host != "127.0.0.1":
            raise AssertionError("the client called another host")
        if self.faults and (fault := self.faults.pop(0)) is not None:
            return fault(request)
        if request.url.path == "/oauth/token":
            self.tokens += 1
            return httpx.Response(200, json={"access_token": f"t{self.tokens}", "expires_in": self.token_life})
        if request.headers.get("authorization") not in (None, f"Bearer t{self.tokens}"):
            return problem(401, "invalid-token")
        name = request.url.path.removeprefix("/v1/").split("/")
        query = request.url.params
        if name[-1] in self.refusals:
            return problem(*self.refusals[name[-1]])
        if name == ["me"]:
            return httpx.Response(
                200, json={"organisation": {"id": "o1", "name": "Example CSO A"}, "scopes": ["records:read"]}
            )
        if name == ["changes"]:
            return self.changes(query)
        if name[0] == "exports":
            return self.export(*name[1].split("."), query.get("after"))
        if name == ["imports"]:
            return self.imports(request)
        if name[-1] == "report.ndjson":
            return self.report(int(query.get("after", 0)))
        if name[0] == "imports":
            return httpx.Response(200, content=self.answers["import"])
        return self.of_record(request, name)

    def of_record(self, request: httpx.Request, name: list[str]) -> httpx.Response:
        """Lists, reads and writes of `cases`."""
        if request.method == "POST":
            key = request.headers["idempotency-key"]
            if key not in self.answers:
                record_id = f"made-{len(self.answers)}"
                self.put(record_id, **json.loads(request.content))
                self.answers[key] = json.dumps({**self.records[record_id], "status": "draft"}).encode()
            return httpx.Response(201, content=self.answers[key])
        if len(name) == 1:
            start, size = int(request.url.params.get("cursor", 0)), self.page_size
            found = list(self.records.values())
            more = f"{PUBLIC}/v1/cases?cursor={start + size}" if start + size < len(found) else None
            items = [{"tlp": "clear", "status": "published", **one} for one in found[start : start + size]]
            return httpx.Response(200, json={"items": items, "next": more})
        record = self.records.get(name[-1])
        if record is None:
            return problem(404, "not-found")
        if request.method == "PUT" and request.headers["if-match"] != f'"{record["version"]}"':
            return problem(412, "stale-version")
        if request.method == "PUT":
            self.put(name[-1], title=json.loads(request.content)["title"])
        return httpx.Response(200, json={**self.records[name[-1]], "status": "published"})

    def changes(self, query: httpx.QueryParams) -> httpx.Response:
        """A page of the feed; a record's state is the one of now."""
        epoch, _, start = query.get("after", f"{self.epoch}-0").partition("-")
        if int(epoch) != self.epoch:
            return problem(410, "resync-required")
        fresh = "after" not in query
        begin = int(start)
        size = min(self.page_size, int(query.get("limit", self.page_size)))
        items = []
        for record_id, _ in self.feed[begin : begin + size]:
            record = self.records.get(record_id)
            if record is not None:
                items.append(
                    {
                        "type": "upsert",
                        "kind": record["kind"],
                        "id": record_id,
                        "version": record["version"],
                        "at": "x",
                        "record": record,
                    }
                )
            elif not fresh and f"gone-{record_id}" in self.answers:
                kind, version = json.loads(self.answers[f"gone-{record_id}"])
                items.append({"type": "removed", "kind": kind, "id": record_id, "version": version, "at": "x"})
        end = min(len(self.feed), begin + size)
        after = f"{PUBLIC}/v1/changes?after={self.epoch}-{end}"
        return httpx.Response(200, json={"items": items, "next": after, "more": end < len(self.feed)})

    def export(self, plural: str, format: str, after: str | None) -> httpx.Response:
        """All cases in order of id, cut off after `export_cut` bytes once."""
        rows = [self.records[one] for one in sorted(self.records) if after is None or one > after]
        if format == "csv":
            out = io.StringIO()
            writer = csv.writer(out, lineterminator="\r\n")
            writer.writerows([["id", "title"], *([one["id"], one["title"]] for one in rows)])
            body = b"\xef\xbb\xbf" + out.getvalue().encode()
        else:
            lines = [{"feed": f"{PUBLIC}/v1/changes?after=0-0"}, *rows]
            body = b"".join(json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in lines)
        cut, self.export_cut = self.export_cut, None

        headers = {"Minga-Feed": f"{PUBLIC}/v1/changes?after=0-{after or 0}"}
        return httpx.Response(200, headers=headers, stream=Stream(body, cut))

    def imports(self, request: httpx.Request) -> httpx.Response:
        """Counts the lines; ends at the second look."""
        lines = [line for line in gzip.decompress(request.content).split(b"\n") if line]
        bad = [number for number, line in enumerate(lines, 1) if b"bad" in line]
        counts = {"created": len(lines) - len(bad), "updated": 0, "unchanged": 0, "failed": len(bad)}
        problems = [{"line": number, "pointer": "/title", "code": "blank"} for number in bad]
        self.answers["report"] = b"".join(
            json.dumps({**one, "code": code}).encode() + b"\n" for one in problems for code in ("blank", "odd")
        )
        done = {
            "id": "i1",
            "status": "done",
            "counts": counts,
            "problems": problems[:1000],
            "problems_kept": 2 * len(problems),
            "complete": True,
            "lines_done": len(lines),
        }
        self.answers["import"] = json.dumps(done).encode()
        return httpx.Response(202, json={**done, "status": "running", "lines_done": 0})

    def report(self, after: int) -> httpx.Response:
        """Two problems of each bad line, cut off after so many bytes as `report_cuts` says."""
        kept = [line for line in self.answers["report"].splitlines(keepends=True) if json.loads(line)["line"] > after]
        cut = self.report_cuts.pop(0) if self.report_cuts else None
        return httpx.Response(200, stream=Stream(b"".join(kept), cut))


class Stream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that breaks off after `cut` bytes."""

    def __init__(self, body: bytes, cut: int | None) -> None:
        self._body = body
        self._cut = cut

    def __iter__(self) -> Any:
        yield self._body[: self._cut]
        if self._cut is not None:
            raise httpx.ReadError("cut off")

    async def __aiter__(self) -> Any:
        for part in self:
            yield part


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    """An answer with a problem document."""
    document = {"type": f"{PUBLIC}/problems/{code}", "title": code, "status": status, "code": code, "request_id": "r1"}
    return httpx.Response(status, json=document, headers=headers)


def breaks(kind: type[httpx.TransportError]) -> Fault:
    """A fault in the line."""

    def fault(request: httpx.Request) -> httpx.Response:
        raise kind("broken", request=request)

    return fault


def refuses(status: int, code: str = "unavailable", **headers: str) -> Fault:
    """An answer that refuses."""
    return lambda request: problem(status, code, **headers)
