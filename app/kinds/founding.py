"""The founding data: what two public documents tell about how the community began, as records like any other.

They are owned by an organisation of their own, `founding`, so that no words are put in anybody's mouth; the real
organisations have entries that are not claimed, and appear in roles and sources only. English is the body; French and
Spanish are translations. What was loaded once is never loaded again, so that a record which was changed, withdrawn or
erased since stays as it is.
"""

from collections.abc import Iterator
from importlib.resources import files
from typing import Any
from uuid import UUID

import orjson
from psycopg.types.json import Jsonb

from app.db.ids import new_id
from app.db.pool import Connection, Database
from app.identity import audit
from app.identity.caller import Caller
from app.kinds.founding_bodies import LANGUAGE, PARTS, Entry, Ids, Part, sources_of
from app.records import store
from app.records.change import Action, Change

OWNER = "founding"
TRANSLATIONS = ("fr", "es")
LOADED = "founding.load"
"""Name of the audit event that says which records were loaded."""


async def load(database: Database) -> int:
    """Loads what of the founding data was never loaded before; the number of records created.

    One transaction: all of it is there or nothing. Two processes that load at once wait for each other.
    """
    data = read()
    async with database.transaction() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('founding data', 0))")
        before = await _loaded(connection)
        if all(entry["id"] in before for part in PARTS for entry in data[part.name]):
            return 0
        owner = await _add_organisation(connection, _owner(data))
        ids = {entry["id"]: await _add_organisation(connection, entry) for entry in _organisations(data)} | before
        caller = Caller(organisation_id=owner, scopes=frozenset({"records:write"}), kind="node")
        created: dict[str, UUID] = {}
        for part in PARTS:
            entries = [entry for entry in data[part.name] if entry["id"] not in before]
            created |= await _add_records(connection, caller, part, data, entries, ids | created)
        details = {"version": data["meta"]["version"], "records": {name: str(id_) for name, id_ in created.items()}}
        await audit.record(connection, LOADED, audit.SYSTEM, organisation_id=owner, details=details)
        return len(created)


def read() -> dict[str, Any]:
    """The founding data as committed."""
    found: dict[str, Any] = orjson.loads((files("app.kinds") / "data" / "founding.json").read_bytes())
    return found


async def _loaded(connection: Connection) -> dict[str, UUID]:
    """Everything earlier loads created: id in the data → id of the record."""
    cursor = await connection.execute(
        "SELECT entry.key, entry.value FROM audit_event, jsonb_each_text(details -> 'records') AS entry"
        " WHERE action = %s AND actor = 'system'",
        [LOADED],
    )
    return {name: UUID(id_) for name, id_ in await cursor.fetchall()}


def _owner(data: Entry) -> dict[str, Any]:
    return {
        "id": OWNER,
        "name": {"en": "Founding data", "fr": "Données fondatrices", "es": "Datos fundacionales"},
        "kind": "node",
        "status": "active",
        "sources": [{"title": source["title"][LANGUAGE]} for source in data["sources"]],
    }


def _organisations(data: Entry) -> Iterator[dict[str, Any]]:
    for entry in data["organisations"]:
        yield {**entry, "sources": sources_of(data, entry), "country": entry.get("country", {}).get("iso3166")}


async def _add_organisation(connection: Connection, entry: Entry) -> UUID:
    """The id of the organisation with this id in the data, added if it was not there; a present one is left alone."""
    cursor = await connection.execute(
        "INSERT INTO organisation (id, external_id, name, names, acronym, kind, network, country, region, listing,"
        " status, sources) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, 'public', %s, %s)"
        " ON CONFLICT (external_id) DO NOTHING",
        [
            new_id(),
            entry["id"],
            entry["name"][LANGUAGE],
            Jsonb({**entry["name"], **entry.get("local_name", {})}),
            entry.get("acronym"),
            entry["kind"],
            entry.get("network", False),
            entry.get("country"),
            entry.get("region"),
            entry["status"],
            Jsonb(entry["sources"]),
        ],
    )
    cursor = await connection.execute("SELECT id FROM organisation WHERE external_id = %s", [entry["id"]])
    row = await cursor.fetchone()
    assert row is not None
    found: UUID = row[0]
    return found


async def _add_records(
    connection: Connection, caller: Caller, part: Part, data: Entry, entries: list[Entry], ids: Ids
) -> dict[str, UUID]:
    """Writes the records of one part, published and clear, with their translations; id in the data → id."""
    changes = [
        Change(
            kind=part.kind,
            action=Action.REPLACE,
            external_id=entry["id"],
            body={
                "language": LANGUAGE,
                "sources": sources_of(data, entry),
                **part.texts(data, entry, LANGUAGE),
                **part.facts(data, entry, ids),
                "tlp": "clear",
                "status": "published",
            },
        )
        for entry in entries
    ]
    created: dict[str, UUID] = {}
    for entry, written in zip(entries, await store.write(connection, caller, changes), strict=True):
        assert written.state is not None
        created[entry["id"]] = written.state.id
        for language in TRANSLATIONS:
            await store.put_translation(connection, written.state.id, language, part.texts(data, entry, language))
    return created
