"""What an import tells of its lines: problems, and in a dry run what each line would do.

Entries are kept by part, deflated, in the transaction of the part itself, and read back in pages of a few parts.
Problems and lines have their own room, so that good lines never push problems out. Once an entry finds no room none
after it is kept: what is told is the whole up to some line.

Source: docs/decisions/0404-import-reports.md.
"""

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from uuid import UUID

from app.db.pool import Connection, Database

PROBLEM_BYTES = 12_000_000
LINE_BYTES = 40_000_000
PAGE_PARTS = 4
_LINE = re.compile(rb'\{"line":([0-9]+)')

Entry = tuple[int, bytes]
"""The number of a line, and an object of JSON that begins with it, with a line feed."""


@dataclass(frozen=True, slots=True)
class Share:
    """How many entries were kept, how many found no room, and the bytes of those kept."""

    kept: int = 0
    left_out: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """What an import has told so far."""

    problems: Share = Share()
    lines: Share = Share()


@dataclass(frozen=True, slots=True)
class Told:
    """What is to be kept of one part: entries, deflated, and how many there are."""

    last_line: int
    problem_count: int
    problems: bytes | None
    line_count: int
    lines: bytes | None


async def fitted(kept: Kept, problems: Sequence[Entry], lines: Sequence[Entry]) -> tuple[Kept, Told | None]:
    """What has been told once these entries are kept as far as there is room, and what to keep; None for nothing."""
    if not problems and not lines:
        return kept, None
    return await asyncio.to_thread(_fitted, kept, problems, lines)


def _fitted(kept: Kept, problems: Sequence[Entry], lines: Sequence[Entry]) -> tuple[Kept, Told | None]:
    problems, lines = sorted(problems, key=itemgetter(0)), sorted(lines, key=itemgetter(0))
    problem_share, problem_count, packed_problems = _fit(kept.problems, problems, PROBLEM_BYTES)
    line_share, line_count, packed_lines = _fit(kept.lines, lines, LINE_BYTES)
    last_line = max(number for number, _ in (*problems[:problem_count][-1:], *lines[:line_count][-1:], (0, b"")))
    told = Told(last_line, problem_count, packed_problems, line_count, packed_lines)
    return Kept(problem_share, line_share), told if last_line else None


def _fit(share: Share, entries: Sequence[Entry], room: int) -> tuple[Share, int, bytes | None]:
    count, packed = 0 if share.left_out else len(entries), b""
    while count:
        packed = zlib.compress(b"".join(entry for _, entry in entries[:count]))
        if share.size_bytes + len(packed) <= room:
            break
        count //= 2
    after = Share(
        share.kept + count,
        share.left_out + len(entries) - count,
        share.size_bytes + (len(packed) if count else 0),
    )
    return after, count, packed if count else None


async def keep(connection: Connection, job_id: UUID, number: int, told: Told) -> None:
    """Stores what is told of a part."""
    await connection.execute(
        "INSERT INTO import_entry (job_id, number, last_line, problem_count, problems, line_count, lines)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s)",
        [job_id, number, told.last_line, told.problem_count, told.problems, told.line_count, told.lines],
    )


async def first(connection: Connection, job_id: UUID, column: str, most: int, most_bytes: int) -> list[bytes]:
    """The first entries of `column` (problems or lines): at most so many, and fewer when they are long."""
    cursor = await connection.execute(
        f"""
SELECT {column} FROM (
    SELECT number, {column}, sum({column[:-1]}_count) OVER (ORDER BY number) - {column[:-1]}_count AS before
    FROM import_entry WHERE job_id = %s AND {column} IS NOT NULL) AS part
WHERE before < %s ORDER BY number
""",
        [job_id, most],
    )
    found: list[bytes] = []
    size = 0
    async for (packed,) in cursor:
        for entry in await asyncio.to_thread(_entries, packed):
            size += len(entry)
            if len(found) == most or size > most_bytes:
                return found
            found.append(entry)
    return found


def _entries(packed: bytes | None) -> list[bytes]:
    return [] if packed is None else zlib.decompress(packed).splitlines(keepends=True)


def _number(entry: bytes) -> int:
    found = _LINE.match(entry)
    assert found is not None
    return int(found[1])


def _merged(problems: bytes | None, lines: bytes | None, after: int) -> bytes:
    """Entries of a part in order of line, less those up to `after`."""
    entries: Iterable[bytes] = (*_entries(problems), *_entries(lines))
    numbered = [(_number(entry), entry) for entry in entries]
    numbered.sort(key=lambda one: one[0])
    return b"".join(entry for number, entry in numbered if number > after)


async def pages(database: Database, job_id: UUID, after: int) -> AsyncIterator[bytes]:
    """Every entry of the lines behind `after`, in order of line; nothing is held while the reader takes its time."""
    number = -1
    while True:
        async with database.connection() as connection:
            cursor = await connection.execute(
                "SELECT number, problems, lines FROM import_entry WHERE job_id = %s AND number > %s AND last_line > %s"
                f" ORDER BY number LIMIT {PAGE_PARTS}",
                [job_id, number, after],
            )
            rows = await cursor.fetchall()
        for _, problems, lines in rows:
            yield await asyncio.to_thread(_merged, problems, lines, after)
        if len(rows) < PAGE_PARTS:
            return
        number = rows[-1][0]
