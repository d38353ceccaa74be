"""Lines of an import, cut out of a stream that may be packed, cut off, or not text at all.

What is wrong with one line is said of that line, and the others go on; what makes every following line doubtful ends
the import. Nothing holds more than a line and a part of the stream in memory.

Source: safety I5, I6.
"""

import asyncio
import csv
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from app.http.problem import Fault, Problem, register

MAXIMUM_LINE_BYTES = 256 * 1024
MAXIMUM_LINES = 1_000_000
MAXIMUM_BYTES = 2_000_000_000
MAXIMUM_COLUMNS = 300
MAXIMUM_NAME_CHARACTERS = 100
"""Of the name of a column: it is kept beside each cell."""
INFLATE_BYTES = 64 * 1024
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

csv.field_size_limit(MAXIMUM_LINE_BYTES)  # Python's own is half of that, and refuses cells of our own exports

register(
    {
        "truncated-body": (400, "The body ends before it is complete."),
        "malformed-encoding": (400, "The body is not packed as its Content-Encoding says."),
    }
)


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it was cut: its number, and its value (text for NDJSON, cells for CSV) or what is wrong with it."""

    number: int
    value: Any
    code: str | None = None


async def limited(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The parts as they come over the line. Errors: 413 `body-too-large` beyond 2 GB."""
    size = 0
    async for part in parts:
        size += len(part)
        if size > MAXIMUM_BYTES:
            raise Problem("body-too-large", f"An import has at most {MAXIMUM_BYTES} bytes; send several.")
        yield part


async def inflated(parts: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    """The parts, unpacked when `encoding` is gzip, never more than 64 kB at a time.

    Others get their turn after each: a kilobyte can unpack to a megabyte of empty lines.

    Errors: 400 `malformed-encoding`, `truncated-body`; 413 `body-too-large` beyond 2 GB; 415 for another encoding.
    """
    if encoding not in ("", "identity", "gzip"):
        raise Problem("unsupported-media-type", "Send the body as it is, or with Content-Encoding: gzip.")
    unpacker = zlib.decompressobj(31) if encoding == "gzip" else None
    size = 0
    async for part in parts:
        pieces = [part] if unpacker is None else _unpack(unpacker, part)
        for piece in pieces:
            size += len(piece)
            if size > MAXIMUM_BYTES:
                raise Problem("body-too-large", f"An import has at most {MAXIMUM_BYTES} bytes; send several.")
            yield piece
            await asyncio.sleep(0)
    if unpacker is not None and not unpacker.eof:
        raise Problem("truncated-body")


def _unpack(unpacker: "zlib._Decompress", part: bytes) -> Iterator[bytes]:
    try:
        while part:
            if unpacker.eof:
                raise Problem("malformed-encoding", "Something follows the end of the gzip stream.")
            piece = unpacker.decompress(part, INFLATE_BYTES)
            if piece:
                yield piece
            part = unpacker.unconsumed_tail or unpacker.unused_data
    except zlib.error:
        raise Problem("malformed-encoding") from None


def _empty_line(seen: int) -> int:
    """One more empty line. Errors: 413 `body-too-large` when there are more of them than an import has lines."""
    if seen >= MAXIMUM_LINES:
        raise Problem("body-too-large", f"An import has at most {MAXIMUM_LINES} empty lines.")
    return seen + 1


class NdjsonCutter:
    """Cuts NDJSON. Only a line feed ends a line; a carriage return before it and a byte order mark are dropped, empty
    lines passed over."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._skipping = False
        self._number = 0
        self._empty = 0

    def feed(self, part: bytes) -> Iterator[Line]:
        """The lines that `part` completes."""
        start = 0
        while (end := part.find(b"\n", start)) >= 0:
            yield from self._complete(part[start:end])
            start = end + 1
        self._keep(part[start:])

    def end(self) -> Iterator[Line]:
        """The last line, when no line feed ended it."""
        if self._rest or self._skipping:
            yield from self._complete(b"")

    def _keep(self, piece: bytes) -> None:
        if not self._skipping:
            self._rest += piece
            if len(self._rest) > MAXIMUM_LINE_BYTES + 4:
                self._skipping = True
                self._rest.clear()

    def _complete(self, piece: bytes) -> Iterator[Line]:
        self._keep(piece)
        self._number += 1
        raw, skipped = bytes(self._rest), self._skipping
        self._rest.clear()
        self._skipping = False
        if self._number == 1:
            raw = raw.removeprefix(BYTE_ORDER_MARK)
        raw = raw.removesuffix(b"\r")
        if skipped or len(raw) > MAXIMUM_LINE_BYTES:
            yield Line(self._number, None, "line-too-long")
        elif raw.strip():
            try:
                yield Line(self._number, raw.decode())
            except UnicodeDecodeError:
                yield Line(self._number, None, "invalid-utf8")
        else:
            self._empty = _empty_line(self._empty)


class CsvCutter:
    """Cuts CSV (RFC 4180) whose first row names the columns; `,`, `;` or tab between cells, as that row shows.

    A row is given as {column: cell} under the number of the line it begins on.
    Errors: 422 `invalid-body` for unusable columns, 400 `truncated-body` for a quote that is never closed.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._length = 0
        self._quoted = False
        self._empty = 0
        self._line = 1
        self._begins = 1
        self.columns: list[str] | None = None
        self._delimiter = ","

    def feed(self, part: bytes) -> Iterator[Line]:
        """The rows that `part` completes."""
        start = 0
        while (end := part.find(b"\n", start)) >= 0:
            yield from self._physical(part[start : end + 1], ended=True)
            start = end + 1
        yield from self._physical(part[start:], ended=False)

    def end(self) -> Iterator[Line]:
        """The last row, when no line feed ended it."""
        if self._quoted:
            raise Problem("truncated-body", f"A quote that opens in the row of line {self._begins} is never closed.")
        if self._length:
            yield from self._row()
        if self.columns is None:
            raise Problem("invalid-body", "The first row names the columns.", errors=[Fault("/columns", "required")])

    def _physical(self, piece: bytes, *, ended: bool) -> Iterator[Line]:
        self._length += len(piece)
        if self._length <= MAXIMUM_LINE_BYTES + 5:
            self._rest += piece
        else:
            self._rest.clear()  # only how it ends matters of a row that is too long
        if piece.count(b'"') % 2:
            self._quoted = not self._quoted
        if self._length > MAXIMUM_LINE_BYTES and self._quoted:
            # Where the row ends cannot be known any more, so nothing after it can be read either.
            raise Problem("truncated-body", f"The row that begins on line {self._begins} is too long or never ends.")
        if ended:
            self._line += 1
            if not self._quoted:
                yield from self._row()

    def _row(self) -> Iterator[Line]:
        raw, length, number = bytes(self._rest), self._length, self._begins
        self._rest.clear()
        self._length = 0
        self._begins = self._line
        if self.columns is None:
            raw = raw.removeprefix(BYTE_ORDER_MARK)
        raw = raw.removesuffix(b"\n").removesuffix(b"\r")
        if len(raw) > MAXIMUM_LINE_BYTES or length > MAXIMUM_LINE_BYTES + 5:
            if self.columns is None:
                raise Problem("invalid-body", errors=[Fault("/columns", "line-too-long")])
            yield Line(number, None, "line-too-long")
            return
        if not raw.strip():
            self._empty = _empty_line(self._empty)
            return
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            if self.columns is None:
                raise Problem("invalid-body", errors=[Fault("/columns", "invalid-utf8")]) from None
            yield Line(number, None, "invalid-utf8")
            return
        if self.columns is None:
            self._name_columns(text)
            return
        try:
            cells = next(csv.reader([text], delimiter=self._delimiter, strict=True), [])
        except csv.Error:
            yield Line(number, None, "malformed-row")
            return
        if len(cells) > len(self.columns):
            yield Line(number, None, "too-many-cells")
        elif any(cells):
            # Spreadsheets end lines within a cell with CR LF; texts here end theirs with LF. An empty cell says
            # nothing, and kept beside its name it would make megabytes out of a row of commas.
            named = zip(self.columns, cells, strict=False)
            yield Line(number, {name: cell.replace("\r\n", "\n") for name, cell in named if cell})

    def _name_columns(self, text: str) -> None:
        self._delimiter = max(",;\t", key=text.count)
        try:
            names = [name.strip() for name in next(csv.reader([text], delimiter=self._delimiter))]
        except csv.Error:
            raise Problem("invalid-body", errors=[Fault("/columns", "malformed-row")]) from None
        if len(names) > MAXIMUM_COLUMNS:
            raise Problem("invalid-body", f"The first row names at most {MAXIMUM_COLUMNS} columns.")
        faults = [
            Fault(f"/columns/{place}", "repeated" if name else "required")
            for place, name in enumerate(names)
            if not name or name in names[:place]
        ]
        if faults:
            raise Problem("invalid-body", "The first row names each column once.", errors=faults[:50])
        long = [
            Fault(f"/columns/{place}", "unknown-column")
            for place, name in enumerate(names)
            if len(name) > MAXIMUM_NAME_CHARACTERS
        ]
        if long:
            raise Problem("invalid-body", "No column has so long a name.", errors=long[:50])
        self.columns = names
