"""Lines in, lines out: what imports and exports share in blocking and asynchronous use."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.client.bodies import MAXIMUM_ROW_BYTES
from app.client.errors import MingaError
from app.client.shapes import Progress

PART_BYTES = 64 * 1024
MEDIA_TYPES = {"ndjson": "application/x-ndjson", "csv": "text/csv"}
FEED_HEADER = "Minga-Feed"
FINISHED = frozenset({"done", "failed"})
FIRST_POLL_SECONDS = 0.3
LONGEST_POLL_SECONDS = 5.0
HELD_BYTES = 8_000_000
"""Of problems that speak of one line; a line has at most 256 kB."""


def format_of(source: Path | bytes, asked: str | None) -> str:
    """`ndjson` or `csv`: as asked, else by the name of the file. Errors: ValueError."""
    if asked is None:
        suffix = source.suffix.lower().lstrip(".") if isinstance(source, Path) else "ndjson"
        asked = {"jsonl": "ndjson", "json": "ndjson"}.get(suffix, suffix)
    if asked not in MEDIA_TYPES:
        raise ValueError("an import is ndjson or csv; say which")
    return asked


def job_of(document: dict[str, Any]) -> dict[str, Any]:
    """The document of an import. Errors: MingaError when it is none."""
    if not isinstance(document.get("status"), str) or not isinstance(document.get("id"), str):
        raise MingaError("the service sent no import")
    return document


def compressed(source: Path | bytes, progress: Progress | None) -> Iterator[bytes]:
    """The source as gzip, in small parts; a bad line carries a fifth of the bytes."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    total = len(source) if isinstance(source, bytes) else source.stat().st_size
    done = 0
    for part in _parts(source):
        done += len(part)
        packed = packer.compress(part)
        if packed:
            yield packed
        if progress is not None:
            progress(done, total)
    yield packer.flush()


def _parts(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        for start in range(0, len(source), PART_BYTES):
            yield source[start : start + PART_BYTES]
        return
    with source.open("rb") as opened:
        while part := opened.read(PART_BYTES):
            yield part


def _bounded(rest: bytes) -> bytes:
    """A row that has not ended yet. Errors: MingaError once it is too long to be one."""
    if len(rest) > MAXIMUM_ROW_BYTES:
        raise MingaError(f"the service sent a row of more than {MAXIMUM_ROW_BYTES} bytes")
    return rest


def _entry(row: bytes, member: str, form: type) -> dict[str, Any]:
    """The object of a row of JSON, with a `member` of this form in it. Errors: MingaError."""
    try:
        entry = json.loads(row)
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict) or not isinstance(entry.get(member), form):
        raise MingaError("the service sent a row that is not what it should be")
    return entry


class ExportLines:
    """Cuts an export into whole rows, so that one which breaks off can go on after the last of them.

    Only a line feed ends a row, outside quotes in CSV: text may hold U+2028, U+0085 and, in CSV, line feeds. The first
    row of an answer is the head (NDJSON: the feed address; CSV: the names of the columns); when resumed it is dropped.
    """

    def __init__(self, format: str, *, resumed: bool) -> None:
        self._csv = format == "csv"
        self._resumed = resumed
        self._rest = b""
        self._head: bytes | None = None
        self._last: bytes | None = None
        self.rows = 0

    def feed(self, part: bytes) -> Iterator[bytes]:
        """The rows that `part` completes, with their line feeds."""
        *pieces, self._rest = (self._rest + part).split(b"\n")
        row = b""
        for piece in pieces:
            row += piece + b"\n"
            if self._csv and row.count(b'"') % 2:
                continue
            if self._head is None:
                self._head = row
                if not self._resumed:
                    yield row
            else:
                self._last = row
                self.rows += 1
                yield row
            row = b""
        self._rest = _bounded(row + self._rest)

    @property
    def last_id(self) -> str | None:
        """The id in the last whole row."""
        if self._last is None or self._head is None:
            return None
        if not self._csv:
            return str(_entry(self._last, "id", str)["id"])
        # Ids come first and stand without quotes; Python reads no row with a cell of more than 128 kB.
        head, last = (row.removeprefix(b"\xef\xbb\xbf").partition(b",")[0].strip() for row in (self._head, self._last))
        if head != b"id":
            raise MingaError("the service sent an export that does not begin with ids")
        return last.decode("ascii", "replace")

    def end(self) -> None:
        """Errors: MingaError when the last row is not complete."""
        if self._rest or self._head is None:
            raise MingaError("the export ends in the middle of a row")


class ReportLines:
    """Cuts the report of an import into entries, so that one which breaks off can go on behind the last whole line.

    Several problems may speak of one line; they are given once the next line has begun, or the report has ended.
    `last` is the last line all of whose entries were given.
    """

    def __init__(self, after: int) -> None:
        self.last = after
        self._rest = b""
        self._held: list[dict[str, Any]] = []
        self._held_bytes = 0

    def feed(self, part: bytes) -> Iterator[dict[str, Any]]:
        """The entries of the lines that `part` completes."""
        *rows, rest = (self._rest + part).split(b"\n")
        self._rest = _bounded(rest)
        for row in rows:
            entry = _entry(row, "line", int)
            if self._held and self._held[0]["line"] != entry["line"]:
                yield from self._let_go()
            self._held_bytes += len(row)
            if self._held_bytes > HELD_BYTES:
                raise MingaError("the service says too much of one line")
            self._held.append(entry)

    def end(self) -> Iterator[dict[str, Any]]:
        """The entries of the last line. Errors: MingaError when it is not complete."""
        if self._rest:
            raise MingaError("the report of the import ends in the middle of an entry")
        yield from self._let_go()

    def _let_go(self) -> Iterator[dict[str, Any]]:
        held, self._held, self._held_bytes = self._held, [], 0
        if held:
            self.last = held[0]["line"]
        yield from held
