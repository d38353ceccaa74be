"""Generated records: cases and findings of a fictional organisation, the same ones in every run."""

import random
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from app.db.pool import Database
from app.identity.caller import Caller
from app.kinds.cases import CASES
from app.kinds.findings import FINDINGS
from app.records import store
from app.records.change import Action, Change
from app.records.kind import Kind

BATCH = 500
COUNTRIES = ("AR", "BA", "CD", "CO", "FR", "GH", "ID", "KE", "LB", "LR", "NG", "PE", "PH", "RS", "SN", "UY")
TOPICS = ("community-policing", "complaints-mechanism", "security-budget", "access-to-information")
OUTCOMES = ("none", "access", "debate", "commitment", "policy-change", "practice-change", "setback")
WORDS = tuple(
    word
    for line in (
        "talks hearing register district council letter budget promise review report meeting patrol station",
        "complaint training commission law minister answer record access quarter resident oversight reform",
    )
    for word in line.split()
)
MARKINGS = ("clear",) * 14 + ("green",) * 4 + ("amber", "amber+strict")
"""How the cases are marked: 70 % for everybody, 20 % for members, 10 % for their owner."""


def _sentence(chance: random.Random, words: int) -> str:
    return " ".join(chance.choices(WORDS, k=words)).capitalize() + "."


def case(number: int) -> dict[str, Any]:
    """The body of case `number`, about 2.5 kB, published."""
    chance = random.Random(number)
    start = chance.randint(2008, 2024)
    return {
        **CASES.example,
        "title": f"Case {number}: {_sentence(chance, 6)}",
        "summary": _sentence(chance, 40),
        "countries": [chance.choice(COUNTRIES)],
        "topics": chance.sample(TOPICS, 2),
        "period": {"start": f"{start}-0{chance.randint(1, 9)}", "end": f"{start + 1}-12"},
        "steps": [{"text": _sentence(chance, 12)} for _ in range(3)],
        "outcome": chance.choice(OUTCOMES),
        "outcome_on": f"{start + 1}-06",
        "lessons": [_sentence(chance, 20) for _ in range(2)],
        "tlp": chance.choice(MARKINGS),
        "status": "published",
    }


def issue(number: int) -> dict[str, Any]:
    """The body of issue `number`, about 0.5 kB, published: small enough for a million in one import."""
    chance = random.Random(number)
    return {
        "title": f"Issue {number}: {_sentence(chance, 6)}",
        "language": "en",
        "summary": _sentence(chance, 25),
        "countries": [chance.choice(COUNTRIES)],
        "topics": chance.sample(TOPICS, 2),
        "tlp": chance.choice(MARKINGS),
        "status": "published",
    }


def finding(number: int, reader: UUID) -> dict[str, Any]:
    """The body of finding `number`: one in a hundred names `reader`, one in two hundred is clear, the rest closed."""
    chance = random.Random(-number)
    body = {
        **FINDINGS.example,
        "title": f"Finding {number}: {_sentence(chance, 6)}",
        "summary": _sentence(chance, 30),
        "statement": _sentence(chance, 60),
        "status": "published",
        "tlp": chance.choice(("amber", "amber+strict")),
    }
    if number % 100 == 0:
        body["audience"] = [str(reader)]
    elif number % 200 == 1:
        body["tlp"] = "clear"
    return body


async def load(
    database: Database, owner: UUID, kind: Kind, body: Callable[[int], dict[str, Any]], numbers: range
) -> float:
    """Writes the records through the one write path, in batches; records per second."""
    caller = Caller(organisation_id=owner, scopes=frozenset({"records:write"}), name="Example CSO A")
    started = time.perf_counter()
    for first in _batches(numbers):
        changes = [Change(kind, Action.CREATE, body=body(number)) for number in first]
        async with database.transaction() as connection:
            await store.write(connection, caller, changes)
    return len(numbers) / (time.perf_counter() - started)


def _batches(numbers: range) -> Iterator[range]:
    for start in range(0, len(numbers), BATCH):
        yield numbers[start : start + BATCH]


SHIFTED = {name: f"source.{name} - shift" for name in ("created_at", "updated_at", "published_at")}
RENAMED = {
    name: f"convert_to(replace(convert_from(source.{name}, 'UTF8'), old::text, new::text), 'UTF8')"
    for name in ("brief", "full_view")
}
COPIED = {
    "record": ("id", SHIFTED),
    "document": ("record_id", RENAMED),
    "record_reader": ("record_id", SHIFTED),
    "search_text": ("record_id", {}),
}


async def multiply(database: Database, times: int) -> None:
    """Adds copies of every record, with ids and times of their own, until there are `times` as many.

    Ten times faster than writing them; what a reader meets (rows, documents, words, readers) is the same.
    """
    async with database.connection() as connection:
        await connection.execute("SET statement_timeout = 0")
        await connection.execute("CREATE TEMP TABLE base AS SELECT id AS old FROM record")
        for copy in range(1, times):
            async with connection.transaction():
                await connection.execute(
                    "CREATE TEMP TABLE pair ON COMMIT DROP AS SELECT old, uuidv7(-shift) AS new, shift"
                    f" FROM base, (SELECT interval '{copy} minutes' AS shift) AS moved"
                )
                for table, (key, changed) in COPIED.items():
                    cursor = await connection.execute(
                        "SELECT column_name FROM information_schema.columns WHERE table_name = %s", [table]
                    )
                    names = [row[0] for row in await cursor.fetchall()]
                    values = ["new" if name == key else changed.get(name, f"source.{name}") for name in names]
                    await connection.execute(
                        f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(values)}"
                        f" FROM {table} AS source JOIN pair ON pair.old = source.{key}"
                    )
        await connection.execute("RESET statement_timeout")


async def settle(database: Database) -> None:
    """Brings the planner's statistics up to date, as autovacuum does some minutes after a load."""
    async with database.connection() as connection:
        await connection.execute("VACUUM (ANALYZE) record, document, record_reader, revision")
