"""Lines in, lines out: what imports and exports share in blocking and asynchronous use."""

import csv
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.client.errors import MingaError
from app.client.shapes import Progress

PART_BYTES = 64 * 1024
MEDIA_TYPES = {"ndjson": "application/x-ndjson", "csv": "text/csv"}
FEED_HEADER = "Minga-Feed"
FINISHED = frozenset({"done", "failed"})
FIRST_POLL_SECONDS = 0.3
LONGEST_POLL_SECONDS = 5.0


def format_of(source: Path | bytes, asked: str | None) -> str:
    """`ndjson` or `csv`: as asked, else by the name of the file. Errors: ValueError."""
    if asked is None:
        suffix = source.suffix.lower().lstrip(".") if isinstance(source, Path) else "ndjson"
        asked = {"jsonl": "ndjson", "json": "ndjson"}.get(suffix, suffix)
    if asked not in MEDIA_TYPES:
        raise ValueError("an import is ndjson or csv; say which")
    return asked


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
        self._rest = row + self._rest

    @property
    def last_id(self) -> str | None:
        """The id in the last whole row."""
        if self._last is None or self._head is None:
            return None
        if not self._csv:
            return str(json.loads(self._last)["id"])
        head, last = (next(csv.reader([row.decode("utf-8-sig")])) for row in (self._head, self._last))
        return last[head.index("id")]

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

    def feed(self, part: bytes) -> Iterator[dict[str, Any]]:
        """The entries of the lines that `part` completes."""
        *rows, self._rest = (self._rest + part).split(b"\n")
        for row in rows:
            entry = json.loads(row)
            if self._held and self._held[0]["line"] != entry["line"]:
                yield from self._let_go()
            self._held.append(entry)

    def end(self) -> Iterator[dict[str, Any]]:
        """The entries of the last line. Errors: MingaError when it is not complete."""
        if self._rest:
            raise MingaError("the report of the import ends in the middle of an entry")
        yield from self._let_go()

    def _let_go(self) -> Iterator[dict[str, Any]]:
        held, self._held = self._held, []
        if held:
            self.last = held[0]["line"]
        yield from held
