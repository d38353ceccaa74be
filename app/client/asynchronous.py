"""The asynchronous client: the blocking one, word for word, with `await`."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar
from urllib.parse import quote

import httpx

from app.client import bodies, bulk
from app.client.errors import MingaError, TransportError
from app.client.flow import Flow, Pause, Query, Send, Session, document_of
from app.client.shapes import ChangePage, ExportReport, ImportReport, Progress, Record, list_page

T = TypeVar("T")
TIMEOUT_SECONDS = 30.0
LONG_POLL_SECONDS = 30
HEADERS = {"User-Agent": "minga-client/1", "Accept-Encoding": bodies.ACCEPT_ENCODING}


async def in_threads(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The parts, each read and packed in a thread, so the event loop goes on."""
    while (part := await asyncio.to_thread(next, parts, None)) is not None:
        yield part


class AsyncMinga:
    """A member's asynchronous connection to the service at `base_url`.

    With `client_id` and `client_secret` tokens are got and renewed unseen; with `token` that one is used; with neither
    only public records are read. Requests that failed on the way are repeated with growing pauses, POSTs under one
    Idempotency-Key. Every error is a MingaError. An answer of more than `max_answer_bytes`, unpacked, is refused;
    exports and reports may have any length.
    """

    def __init__(
        self,
        base_url: str,
        *,
        client_id: str | None = None,
        client_secret: str | None = None,
        token: str | None = None,
        scope: str | None = None,
        language: str | None = None,
        retries: int = 5,
        timeout_seconds: float = TIMEOUT_SECONDS,
        insecure: bool = False,
        max_answer_bytes: int = bodies.MAXIMUM_ANSWER_BYTES,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._session = Session(
            base_url, client_id, client_secret, token, scope, retries, language=language, insecure=insecure
        )
        self._timeout = timeout_seconds
        self._most_bytes = max_answer_bytes
        self._http = httpx.AsyncClient(timeout=timeout_seconds, transport=transport, headers=HEADERS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def _run(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    step = flow.send(None)
                    continue
                try:
                    response = await self._send(step)
                except httpx.TransportError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(response)
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def _send(self, step: Send) -> httpx.Response:
        response = await self._http.send(step.request, stream=True)
        if step.stream and response.is_success:
            return response
        try:
            whole = bodies.Whole(self._most_bytes)
            async for piece in bodies.aparts_of(response):
                whole.take(piece)
            return whole.response(response)
        finally:
            await response.aclose()

    @property
    def has_credential(self) -> bool:
        """Whether requests say who is calling."""
        return self._session.client_id is not None or self._session.token is not None

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Query | None = None,
        json: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> httpx.Response:
        """The answer of any address of the service. Errors: TransportError, ProblemError."""
        return await self._run(
            self._session.call(
                self._http,
                method,
                path,
                params=params,
                json=json,
                content=content,
                headers=headers,
                timeout=timeout_seconds,
            )
        )

    async def me(self) -> dict[str, Any]:
        """The calling organisation, its networks, scopes and limits."""
        return document_of(await self.request("GET", "/v1/me"))

    async def get(self, plural: str, record_id: str, **query: Any) -> Record:
        """One record. Errors: NotFoundError when it is missing, hidden or withdrawn."""
        return document_of(await self.request("GET", f"/v1/{plural}/{record_id}", params=query))

    async def pages(self, plural: str, **filters: Any) -> AsyncIterator[list[Record]]:
        """The pages of a list, newest first; filters as the service documents them, lists for "any of"."""
        items, after = list_page(document_of(await self.request("GET", f"/v1/{plural}", params=filters)), "")
        yield items
        while after:
            items, after = list_page(document_of(await self.request("GET", after)), after)
            yield items

    async def records(self, plural: str, **filters: Any) -> AsyncIterator[Record]:
        """The records of a list, one after the other, over all its pages."""
        async for page in self.pages(plural, **filters):
            for record in page:
                yield record

    async def create(self, plural: str, body: Mapping[str, Any], *, key: str | None = None) -> Record:
        """The record made from `body`. A `key` of your own makes a later repetition safe, even after a restart."""
        headers = {"Idempotency-Key": key} if key else None
        return document_of(await self.request("POST", f"/v1/{plural}", json=body, headers=headers))

    async def preview(self, plural: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Whether `body` would be accepted, and who could read it; nothing is stored."""
        return document_of(await self.request("POST", f"/v1/{plural}", json=body, params={"dry_run": True}))

    async def replace(self, plural: str, record_id: str, body: Mapping[str, Any], *, version: int) -> Record:
        """The record with a whole new body. Errors: ConflictError when `version` is no longer the current one."""
        headers = {"If-Match": f'"{version}"'}
        return document_of(await self.request("PUT", f"/v1/{plural}/{record_id}", json=body, headers=headers))

    async def patch(self, plural: str, record_id: str, changes: Mapping[str, Any], *, version: int) -> Record:
        """The record with some fields changed (JSON Merge Patch). Errors: ConflictError as for `replace`."""
        headers = {"If-Match": f'"{version}"', "Content-Type": "application/merge-patch+json"}
        content = json.dumps(changes, ensure_ascii=False).encode()
        return document_of(await self.request("PATCH", f"/v1/{plural}/{record_id}", content=content, headers=headers))

    async def publish(self, plural: str, record_id: str, *, version: int) -> Record:
        """The record, now published."""
        headers = {"If-Match": f'"{version}"'}
        return document_of(await self.request("POST", f"/v1/{plural}/{record_id}/publish", headers=headers))

    async def withdraw(self, plural: str, record_id: str, *, version: int) -> None:
        """Takes the record out of sight; its owner may restore it."""
        await self.request("DELETE", f"/v1/{plural}/{record_id}", headers={"If-Match": f'"{version}"'})

    async def put_by_external_id(
        self, plural: str, external_id: str, body: Mapping[str, Any], *, version: int | None = None
    ) -> Record:
        """Your record of that external id: made when new, else replaced; then name its `version`."""
        headers = {} if version is None else {"If-Match": f'"{version}"'}
        path = f"/v1/{plural}/by-external-id/{quote(external_id, safe='')}"
        return document_of(await self.request("PUT", path, json=body, headers=headers))

    async def changes(
        self, after: str | None = None, *, wait_seconds: int = 0, follow: bool = False, **filters: Any
    ) -> AsyncIterator[ChangePage]:
        """Pages of the change feed: from the beginning, or from `after`, the `next` of an earlier page.

        Ends when nothing more waits; with `follow` it goes on for ever, each request waiting `wait_seconds` for news.
        Filters (`kinds`, `region`, `topic`, `include="record"` …) belong to the first request; `next` remembers them.

        Errors: ResyncRequiredError when your access has changed: begin without `after`, and forget what is not sent.
        """
        wait = wait_seconds or (LONG_POLL_SECONDS if follow else None)
        path, query = after or "/v1/changes", {} if after else filters
        while True:
            answer = await self.request(
                "GET", path, params={**query, "wait": wait}, timeout_seconds=self._timeout + (wait or 0)
            )
            page = ChangePage.of(document_of(answer))
            yield page
            if not page.more and not follow:
                return
            if page.more and page.next == path:
                raise MingaError("the service sends the same page again and again")
            path, query = page.next, {}

    async def export(
        self,
        plural: str,
        out: BinaryIO,
        *,
        format: str = "ndjson",
        after: str | None = None,
        progress: Progress | None = None,
        **filters: Any,
    ) -> ExportReport:
        """Writes all records of a kind to `out`, a line each; a broken line is taken up after the last whole row.

        Errors: TransportError, ProblemError, MingaError when the export is cut off in the middle of a line.
        """
        rows = size = failures = 0
        feed: str | None = None
        while True:
            got = rows  # rows before this attempt
            query = {**filters, "after": after}
            response = await self._run(
                self._session.call(self._http, "GET", f"/v1/exports/{plural}.{format}", params=query, stream=True)
            )
            feed = feed or response.headers.get(bulk.FEED_HEADER)
            lines = bulk.ExportLines(format, resumed=size > 0)
            try:
                async for part in bodies.aparts_of(response):
                    for line in lines.feed(part):
                        out.write(line)
                        size += len(line)
                    rows, after = got + lines.rows, lines.last_id or after
                    if progress is not None:
                        progress(rows, None)
                lines.end()
                return ExportReport(rows, size, feed)
            except httpx.TransportError as error:
                failures = failures + 1 if rows == got else 0
                if failures > self._session.retries:
                    raise TransportError("the export broke off again and again") from error
                await asyncio.sleep(min(30.0, 0.5 * 2**failures))
            finally:
                await response.aclose()

    async def import_records(
        self,
        source: Path | bytes,
        *,
        kind: str | None = None,
        format: str | None = None,
        dry_run: bool = False,
        atomic: bool = False,
        key: str | None = None,
        progress: Progress | None = None,
    ) -> ImportReport:
        """Sends a file of records and waits until it is worked through.

        `kind` is for lines that do not name theirs; with `atomic` one bad line leaves everything as it was.
        `progress` is called with bytes while sending, then with lines.

        Errors: TransportError, ProblemError; bad lines are in the report, all of them in `import_entries`.
        """
        media_type = bulk.MEDIA_TYPES[bulk.format_of(source, format)]
        headers = {"Content-Type": media_type, "Content-Encoding": "gzip"} | ({"Idempotency-Key": key} if key else {})
        query = {"kind": kind, "dry_run": dry_run or None, "atomic": atomic or None}
        answer = await self._run(
            self._session.call(
                self._http,
                "POST",
                "/v1/imports",
                params=query,
                headers=headers,
                content=lambda: in_threads(bulk.compressed(source, progress)),
                timeout=300.0,
            )
        )
        document, pause = bulk.job_of(document_of(answer)), bulk.FIRST_POLL_SECONDS
        while document["status"] not in bulk.FINISHED:
            await asyncio.sleep(pause)
            pause = min(bulk.LONGEST_POLL_SECONDS, pause * 1.5)
            document = bulk.job_of(document_of(await self.request("GET", f"/v1/imports/{document['id']}")))
            if progress is not None:
                progress(document.get("lines_done", 0), document.get("lines_total"))
        return ImportReport.of(document)

    async def import_entries(self, import_id: str, *, after: int = 0) -> AsyncIterator[dict[str, Any]]:
        """Everything the service tells of an import's lines, in order of line; from behind line `after`.

        Problems have `line`, `pointer` and `code`; in a dry run the other lines have `line` and `action` (`create`,
        `update` with its `changes`, `unchanged`, `repeated`). A broken line is taken up where it was.

        Errors: TransportError, ProblemError.
        """
        failures = 0
        while True:
            response = await self._run(
                self._session.call(
                    self._http, "GET", f"/v1/imports/{import_id}/report.ndjson", params={"after": after}, stream=True
                )
            )
            lines = bulk.ReportLines(after)
            try:
                async for part in bodies.aparts_of(response):
                    for entry in lines.feed(part):
                        yield entry
                for entry in lines.end():
                    yield entry
                return
            except httpx.TransportError as error:
                failures = failures + 1 if lines.last == after else 0
                after = lines.last
                if failures > self._session.retries:
                    raise TransportError("the report broke off again and again") from error
                await asyncio.sleep(min(30.0, 0.5 * 2**failures))
            finally:
                await response.aclose()
