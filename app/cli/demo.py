"""The demonstration credential: a plainly fictional member for the first minutes on one's own machine.

It exists only beside an embedded database and while the service listens on this machine alone; started otherwise, the
service takes it back. Source: docs/guides/operator.md, "The demonstration credential".
"""

import os
import shlex
from pathlib import Path
from uuid import UUID

import orjson

from app.cli.conditions import data_folder, is_loopback
from app.cli.place import Place
from app.db.pool import Connection
from app.http.problem import Problem
from app.identity import credentials, organisations

NAME = "Example CSO A (demonstration)"
JSON_FILE = "demo-credential.json"
CURL_FILE = "demo-credential.curl"


async def prepare(connection: Connection, place: Place) -> Path | None:
    """The file with the credential for curl, made at the first start; None where there must not be one."""
    if place.settings.database_url is not None:
        return None
    folder = data_folder(place.settings)
    if not is_loopback(place.settings.host):
        await _take_back(connection, folder)
        return None
    if not (folder / JSON_FILE).exists() or not (folder / CURL_FILE).exists():
        await _take_back(connection, folder)
        organisation_id = await _organisation(connection)
        made = await credentials.add(connection, place.secret, organisation_id, "Demonstration")
        shown = {name: made[name] for name in ("client_id", "client_secret", "scopes")}
        _write(folder / JSON_FILE, orjson.dumps({"organisation": organisation_id, **shown}, option=orjson.OPT_INDENT_2))
        _write(folder / CURL_FILE, f'user = "{made["client_id"]}:{made["client_secret"]}"\n'.encode())
    return folder / CURL_FILE


def first_steps(url: str, curl_file: Path | None) -> str:
    """What is printed below `ready`: commands that work as they stand."""
    token = (
        f"curl -s -K {shlex.quote(str(curl_file))} -d grant_type=client_credentials {url}/oauth/token"
        if curl_file
        else f"curl -s -u CLIENT_ID:CLIENT_SECRET -d grant_type=client_credentials {url}/oauth/token"
    )
    return f"""
Get a token:
  {token}
List issues:
  curl -s {url}/v1/issues
"""


async def _organisation(connection: Connection) -> UUID:
    cursor = await connection.execute(
        "SELECT id FROM organisation WHERE name = %s AND status = 'active' ORDER BY id LIMIT 1", [NAME]
    )
    row = await cursor.fetchone()
    if row:
        found: UUID = row[0]
        return found
    made = await organisations.add(connection, name=NAME, kind="civil-society-organisation", country="UY")
    return made.id


async def _take_back(connection: Connection, folder: Path) -> None:
    """Revoke the credential that the folder tells of, and remove its files."""
    if (folder / JSON_FILE).exists():
        told = orjson.loads((folder / JSON_FILE).read_bytes())
        try:
            await credentials.revoke(connection, str(told["client_id"]))
        except Problem as problem:
            if problem.code != "not-found":  # it may tell of a database that was thrown away
                raise
    for name in (JSON_FILE, CURL_FILE):
        (folder / name).unlink(missing_ok=True)


def _write(file: Path, content: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
