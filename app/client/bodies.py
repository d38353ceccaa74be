"""Bodies of answers: unpacked piece by piece, and never more of them kept than asked for.

A broken or hostile service could pack a gigabyte into a kilobyte, or twice over, so httpx does not unpack for us. Only
gzip is asked for, because the standard library unpacks it within a limit.
"""

import zlib
from collections.abc import AsyncIterator, Iterator

import httpx

from app.client.errors import MingaError

MAXIMUM_ANSWER_BYTES = 32_000_000
"""Of an answer that is kept whole, unpacked. Exports and reports have no end, but rows of `MAXIMUM_ROW_BYTES`."""
MAXIMUM_ROW_BYTES = 2_000_000
PIECE_BYTES = 64 * 1024
ACCEPT_ENCODING = "gzip"


class Unpacker:
    """Unpacks the parts of a body in pieces of at most 64 kB.

    Errors: MingaError for another packing than was asked for; httpx.RemoteProtocolError where it ends too early.
    """

    def __init__(self, response: httpx.Response) -> None:
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise MingaError("the service packed its answer in a way that was not asked for")
        self._gzip = zlib.decompressobj(31) if encoding.endswith("gzip") else None
        self._begun = False

    def feed(self, part: bytes) -> Iterator[bytes]:
        """What `part` unpacks to."""
        if self._gzip is None:
            yield part
            return
        self._begun = self._begun or bool(part)
        try:
            while part:
                if self._gzip.eof:
                    raise MingaError("something follows the end of a packed answer")
                piece = self._gzip.decompress(part, PIECE_BYTES)
                if piece:
                    yield piece
                part = self._gzip.unconsumed_tail or self._gzip.unused_data
        except zlib.error:
            raise MingaError("the answer is not packed as the service says") from None

    def end(self) -> None:
        """Says whether the body was complete."""
        if self._gzip is not None and self._begun and not self._gzip.eof:
            raise httpx.RemoteProtocolError("a packed answer ends too early")


def parts_of(response: httpx.Response) -> Iterator[bytes]:
    """The body of a response that was not read yet, unpacked, in pieces."""
    if response.is_stream_consumed:
        yield response.content
        return
    unpacker = Unpacker(response)
    for part in response.iter_raw():
        yield from unpacker.feed(part)
    unpacker.end()


async def aparts_of(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body of a response that was not read yet, unpacked, in pieces."""
    if response.is_stream_consumed:
        yield response.content
        return
    unpacker = Unpacker(response)
    async for part in response.aiter_raw():
        for piece in unpacker.feed(part):
            yield piece
    unpacker.end()


class Whole:
    """The body of one answer, kept as it comes. Errors: MingaError beyond `most_bytes`."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._size = 0
        self._pieces: list[bytes] = []

    def take(self, piece: bytes) -> None:
        """Keeps a piece."""
        self._size += len(piece)
        if self._size > self._most:
            raise MingaError(f"the service sent an answer of more than {self._most} bytes")
        self._pieces.append(piece)

    def response(self, of: httpx.Response) -> httpx.Response:
        """The response `of`, with what was kept for a body."""
        packing = ("content-encoding", "content-length", "transfer-encoding")
        headers = [(name, value) for name, value in of.headers.multi_items() if name not in packing]
        return httpx.Response(
            of.status_code,
            headers=headers,
            content=b"".join(self._pieces),
            request=of.request,
            extensions={name: of.extensions[name] for name in ("http_version",) if name in of.extensions},
        )
