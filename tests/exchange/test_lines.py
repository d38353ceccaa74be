"""Cutting of imports: hostile streams cost neither memory nor the turns of others."""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator, Iterable

import pytest

from app.exchange import lines
from app.exchange.lines import MAXIMUM_LINE_BYTES, CsvCutter, Line, NdjsonCutter, inflated
from app.http.problem import Problem

Cutter = NdjsonCutter | CsvCutter


def cut(cutter: Cutter, parts: Iterable[bytes]) -> list[Line]:
    found = [line for part in parts for line in cutter.feed(part)]
    return [*found, *cutter.end()]


@pytest.mark.parametrize("cutter", [NdjsonCutter(), CsvCutter()], ids=["ndjson", "csv"])
def test_endless_line_is_not_kept(cutter: Cutter) -> None:
    list(cutter.feed(b"title\n"))
    for _ in range(20):
        assert not list(cutter.feed(b"x" * 100_000))
        assert len(cutter._rest) <= MAXIMUM_LINE_BYTES + 100_000
    (refused, after) = cut(cutter, [b"\nafter\n"])
    assert (refused.number, refused.code) == (2, "line-too-long")
    assert (after.number, after.code) == (3, None)


def test_longest_row_is_read_and_one_byte_more_refused() -> None:
    cell = 100_000
    for more, code in ((0, None), (1, "line-too-long")):
        row = b",".join([b"x" * cell, b"y" * cell, b"z" * (MAXIMUM_LINE_BYTES - 2 * cell - 2 + more)])
        for ending in (b"", b"\n", b"\r\n"):
            (line,) = cut(CsvCutter(), [b"\xef\xbb\xbfa,b,c\r\n", row, ending])
            assert (line.number, line.code) == (2, code)


def test_quote_that_opens_in_a_long_row_ends_the_import() -> None:
    with pytest.raises(Problem) as caught:
        cut(CsvCutter(), [b"title\n", b"x" * 300_000, b'"', b"y" * 300_000])
    assert caught.value.code == "truncated-body"


@pytest.mark.parametrize("head", [",".join(f"c{n}" for n in range(40_000)), "x" * 300_000], ids=["columns", "length"])
def test_huge_head_of_a_table_is_refused_at_once(head: str) -> None:
    began = time.monotonic()
    with pytest.raises(Problem) as caught:
        cut(CsvCutter(), [head.encode() + b"\n"])
    assert caught.value.code == "invalid-body"
    assert time.monotonic() - began < 1


def test_row_of_empty_cells_takes_no_more_room_than_it_has() -> None:
    head = ",".join(f"column-{number}" for number in range(300)).encode()
    (line,) = cut(CsvCutter(), [head, b"\n", b"," * 299, b"x\n"])
    assert line.value == {"column-299": "x"}


def test_column_with_a_name_of_pages_is_refused() -> None:
    with pytest.raises(Problem) as caught:
        cut(CsvCutter(), [b"kind," + b"x" * 101 + b"\nissue,\n"])
    assert [(fault.pointer, fault.code) for fault in caught.value.errors] == [("/columns/1", "unknown-column")]


def test_cell_may_be_as_long_as_its_row() -> None:
    (line,) = cut(CsvCutter(), [b'title,summary\n"', b"x" * 200_000, b'",s\n'])
    assert line.value == {"title": "x" * 200_000, "summary": "s"}


@pytest.mark.parametrize("cutter", [NdjsonCutter, CsvCutter])
def test_empty_lines_have_an_end(cutter: type[Cutter], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAXIMUM_LINES", 100)
    assert len(cut(cutter(), [b"title\n" + b"\n" * 100 + b"x\n"])) == (2 if cutter is NdjsonCutter else 1)
    with pytest.raises(Problem) as caught:
        cut(cutter(), [b"title\n" + b"\n" * 101])
    assert caught.value.code == "body-too-large"


@pytest.mark.anyio
async def test_others_get_their_turn_while_a_bomb_unpacks() -> None:
    packer = zlib.compressobj(wbits=31)
    bomb = packer.compress(b"\n" * 4_000_000) + packer.flush()
    turns, over = 0, False

    async def other() -> None:
        nonlocal turns
        while not over:
            turns += 1
            await asyncio.sleep(0)

    async def whole() -> AsyncIterator[bytes]:
        yield bomb

    waiting = asyncio.create_task(other())
    pieces = [piece async for piece in inflated(whole(), "gzip")]
    over = True
    await waiting
    assert max(map(len, pieces)) <= 64 * 1024
    assert turns >= len(pieces) - 1
