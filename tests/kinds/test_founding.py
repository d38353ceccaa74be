"""The founding data: complete, ordered, sourced, loaded once, and silent about natural persons."""

import re
from collections import Counter
from hashlib import sha256
from json import dumps
from typing import Any

import pytest

from app.db.pool import Database
from app.identity.caller import Caller
from app.kinds import founding
from app.kinds.findings import FINDINGS
from app.kinds.founding_bodies import PARTS, sources_of
from app.records import store
from app.records.change import Action, Change
from app.records.words import fold

PERSONS = {
    "7b1fe418be6ca883945f6dd8e80df49c293700b10944ba621e9cf52d2a8c91b7",
    "959cbb70c62ce1c25e5f9af5b8374bad3b359245f2be28852c2803a3671b5c2f",
}
DATA = founding.read()


async def counts(database: Database) -> dict[str, int]:
    async with database.connection() as connection:
        cursor = await connection.execute("SELECT kind, count(*) FROM record GROUP BY kind")
        return dict(await cursor.fetchall())


async def revisions(database: Database) -> int:
    async with database.connection() as connection:
        cursor = await connection.execute("SELECT count(*) FROM revision")
        row = await cursor.fetchone()
        assert row is not None
        return int(row[0])


async def founder(database: Database) -> Caller:
    async with database.connection() as connection:
        cursor = await connection.execute("SELECT id FROM organisation WHERE external_id = 'founding'")
        row = await cursor.fetchone()
        assert row is not None
        return Caller(organisation_id=row[0], kind="node")


async def test_each_kind_has_as_many_records_as_the_data(database: Database) -> None:
    assert await founding.load(database) == 35
    assert await counts(database) == {"event": 10, "finding": 10, "issue": 12, "issue-list": 1, "resource": 2}


async def test_loading_twice_changes_nothing(database: Database) -> None:
    await founding.load(database)
    before = await revisions(database)
    assert await founding.load(database) == 0
    assert await revisions(database) == before == 35


async def test_all_is_published_clear_and_owned_by_the_founding_organisation(database: Database) -> None:
    await founding.load(database)
    owner = (await founder(database)).organisation_id
    async with database.connection() as connection:
        cursor = await connection.execute("SELECT DISTINCT status, tlp, organisation_id, language FROM record")
        assert await cursor.fetchall() == [("published", "clear", owner, "en")]


async def test_ten_organisations_are_entries_nobody_has_claimed(database: Database) -> None:
    await founding.load(database)
    async with database.connection() as connection:
        cursor = await connection.execute(
            "SELECT external_id, status, listing, network, jsonb_array_length(sources) > 0 FROM organisation"
            " WHERE external_id <> 'founding' ORDER BY external_id"
        )
        rows = await cursor.fetchall()
        cursor = await connection.execute(
            "SELECT kind, status, listing FROM organisation WHERE external_id = 'founding'"
        )
        assert await cursor.fetchone() == ("node", "active", "public")
    assert [row[0] for row in rows if row[3]] == ["assn", "resdal"]
    assert len(rows) == 10
    assert {(row[1], row[2], row[4]) for row in rows} == {("not-claimed", "public", True)}


async def test_three_findings_concern_africa(database: Database) -> None:
    await founding.load(database)
    async with database.connection() as connection:
        cursor = await connection.execute("SELECT regions FROM record WHERE kind = 'finding'")
        regions = [row[0] for row in await cursor.fetchall()]
    assert sum("AFR" in some for some in regions) == 3
    assert regions.count(["AFR"]) == 2


async def test_events_come_in_order_of_date_with_the_undated_last(database: Database) -> None:
    await founding.load(database)
    async with database.connection() as connection:
        cursor = await connection.execute(
            "SELECT external_id, starts FROM record WHERE kind = 'event' ORDER BY starts NULLS LAST, id"
        )
        rows = await cursor.fetchall()
    assert [row[0] for row in rows] == [
        "cons-panama-2017",
        "cons-argentina-2017",
        "cons-liberia-2018",
        "cons-morocco-2018",
        "cons-malaysia-2018",
        "ws-bangui-2019",
        "ws-kinshasa-2019",
        "cons-malaysia-2019",
        "meet-berlin-2019",
        "tr-addis-phase1",
    ]
    assert rows[-1][1] is None


async def test_french_and_spanish_are_kept_as_translations(database: Database) -> None:
    await founding.load(database)
    async with database.connection() as connection:
        cursor = await connection.execute(
            "SELECT translation.language, body ->> 'title' FROM translation"
            " JOIN record ON record.id = record_id WHERE external_id = 'cons-panama-2017'"
        )
        assert dict(await cursor.fetchall()) == {
            "fr": "Première consultation, Panama",
            "es": "Primera consulta, Ciudad de Panamá",
        }
        cursor = await connection.execute("SELECT language, count(*) FROM translation GROUP BY language")
        assert dict(await cursor.fetchall()) == {"fr": 35, "es": 35}


async def test_what_was_withdrawn_or_erased_is_not_loaded_again(database: Database) -> None:
    await founding.load(database)
    caller = await founder(database)
    async with database.transaction() as connection:
        cursor = await connection.execute(
            "SELECT id FROM record WHERE external_id IN ('fnd-afr-funding', 'fnd-asi-links') ORDER BY external_id"
        )
        first, second = [row[0] for row in await cursor.fetchall()]
        await store.write(connection, caller, [Change(FINDINGS, Action.WITHDRAW, record_id=first)])
        await store.write(connection, caller, [Change(FINDINGS, Action.ERASE, record_id=second)])
    assert await founding.load(database) == 0
    assert (await counts(database))["finding"] == 10
    async with database.connection() as connection:
        cursor = await connection.execute("SELECT count(*) FROM record WHERE kind = 'finding' AND status = 'published'")
        assert await cursor.fetchone() == (8,)


async def test_a_later_edition_adds_only_what_is_new(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    event = {**DATA["events"][-1], "id": "a-later-event", "start": "2020-01"}
    later = {**DATA, "events": [{**DATA["events"][0], "city": "Elsewhere"}, *DATA["events"][1:], event]}
    await founding.load(database)
    monkeypatch.setattr(founding, "read", lambda: later)
    assert await founding.load(database) == 1
    async with database.connection() as connection:
        cursor = await connection.execute(
            "SELECT external_id, version FROM record WHERE content ->> 'place' = 'Elsewhere' OR starts = '2020-01'"
        )
        assert await cursor.fetchall() == [("a-later-event", 1)]


async def test_an_entry_that_was_claimed_stays_as_it_is(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    await founding.load(database)
    event = {**DATA["events"][-1], "id": "a-later-event"}
    monkeypatch.setattr(founding, "read", lambda: {**DATA, "events": [*DATA["events"], event]})
    async with database.transaction() as connection:
        await connection.execute(
            "UPDATE organisation SET status = 'active', name = 'Changed' WHERE external_id = 'assn'"
        )
    assert await founding.load(database) == 1
    async with database.connection() as connection:
        cursor = await connection.execute("SELECT name, status FROM organisation WHERE external_id = 'assn'")
        assert await cursor.fetchone() == ("Changed", "active")


def bodies() -> list[tuple[str, dict[str, Any]]]:
    return [(entry["id"], part.texts(DATA, entry, "en")) for part in PARTS for entry in DATA[part.name]]


def test_every_record_names_its_source_and_the_lines() -> None:
    for part in PARTS:
        for entry in DATA[part.name]:
            sources = sources_of(DATA, entry)
            assert sources or part.name == "common_issues_lists", entry["id"]
            assert all(re.fullmatch("lines? [0-9]+(–[0-9]+)?", source["locator"]) for source in sources)


def test_every_text_is_there_in_three_languages() -> None:
    for part in PARTS:
        for entry in DATA[part.name]:
            for language in ("fr", "es"):
                texts, original = part.texts(DATA, entry, language), part.texts(DATA, entry, "en")
                assert {name for name, text in texts.items() if text} == {n for n, text in original.items() if text}


def test_titles_fit() -> None:
    assert all(len(texts["title"]) <= 200 for _, texts in bodies())


def test_event_types_are_six_consultations_and_one_launch() -> None:
    types = Counter(entry["kind"] for entry in DATA["events"])
    assert types == {"consultation": 6, "launch-meeting": 1, "training-workshop": 2, "training-series": 1}


def test_no_natural_person_is_named() -> None:
    """The documents name one person. Digests of the words of that name are kept here, not the name."""
    words = set(re.findall(r"\w+", fold(dumps(DATA, ensure_ascii=False))))
    assert PERSONS.isdisjoint(sha256(word.encode()).hexdigest() for word in words)
