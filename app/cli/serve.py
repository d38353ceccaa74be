"""`minga serve`: from nothing to a ready service, and back to nothing."""

import asyncio
import os
import signal
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import psycopg

from app.cli import demo
from app.cli.conditions import checked, public_url
from app.cli.outcome import DONE, FAILED, CommandFailed
from app.cli.place import Place, read_settings, working_place
from app.cli.server import listen, make_server, printed_url
from app.cli.workers import supervise
from app.db.pool import Database
from app.http.log import configure
from app.identity import tokens
from app.kinds import KINDS, founding
from app.records import doctor
from app.sealing import NotSealedHere


def register(commands: Any) -> None:
    """Declare the command."""
    parser: ArgumentParser = commands.add_parser("serve", help="run the service")
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (8000, or the next free one)")
    parser.add_argument("--workers", type=int, help="number of server processes (1)")
    parser.add_argument("--data-dir", type=Path, help="folder of the embedded database (./data)")
    parser.set_defaults(run=run)


def run(arguments: Namespace, _: list[str]) -> int:
    """Serve until SIGTERM or Ctrl-C. Exit code 0 after an orderly end. Errors: CommandFailed."""
    settings = checked(
        read_settings(host=arguments.host, port=arguments.port, workers=arguments.workers, data_dir=arguments.data_dir)
    )
    os.umask(0o077)
    configure(settings.log_level)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    # The port is taken first: a second start on the same port fails before it touches anything.
    bound = listen(settings.host, settings.port, next_free="port" not in settings.model_fields_set)
    url = printed_url(settings.host, bound)
    issuer = public_url(settings, url)
    try:
        with working_place(settings, watch=True) as place:
            try:
                curl_file = asyncio.run(_prepare(place))

                def announce() -> None:
                    sys.stdout.write(f"ready {url}\n{demo.first_steps(url, curl_file)}")
                    sys.stdout.flush()

                if settings.workers > 1:
                    configuration = {
                        "settings": settings.model_dump(mode="json", exclude={"secret", "secret_file"}),
                        "database_url": place.database_url,
                        "secret": place.secret_bytes.hex(),
                        "public_url": issuer,
                    }
                    supervise(settings.workers, bound, configuration, announce)
                    return DONE
                server = make_server(settings, place.database_url, place.secret, issuer, announce)
                server.run(sockets=[bound])
                return DONE if server.started else FAILED
            finally:
                # What follows is the orderly end of the database; a second signal must not cut it short.
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, signal.SIG_IGN)
    finally:
        bound.close()


async def _prepare(place: Place) -> Path | None:
    """Signing key, founding data, renewed renderings and demonstration credential; the latter's file for curl."""
    try:
        async with Database(place.database_url, size=2) as database:
            async with database.transaction() as connection:
                await tokens.ensure_key(connection, place.secret)
                await tokens.load_keys(connection, place.secret, {})
            if place.settings.founding_data:
                await founding.load(database)
            await doctor.render_stale(database, KINDS)
            async with database.transaction() as connection:
                return await demo.prepare(connection, place)
    except NotSealedHere as error:
        raise CommandFailed(
            "The master secret is not the one this database was used with; set the right one, or restore it."
        ) from error
    except (psycopg.OperationalError, TimeoutError) as error:
        raise CommandFailed(f"The database does not answer: {type(error).__name__}.") from error


def _leave(_: int, __: FrameType | None) -> NoReturn:
    raise SystemExit(DONE)
