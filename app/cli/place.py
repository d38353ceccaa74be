"""Where a command works: the database of the settings, or the embedded one below the data folder.

A command that finds the embedded server running shares it with whoever started it; otherwise it starts the server and
stops it again.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from pydantic import ValidationError

from app.cli.conditions import data_folder, master_secret
from app.cli.outcome import CommandFailed
from app.db.cluster import EmbeddedPostgresError
from app.db.embedded import EmbeddedPostgres
from app.db.migrate import MigrationError, migrate
from app.db.pool import Connection, Database
from app.sealing import MasterSecret
from app.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """A migrated database, and the secret that opens what is sealed in it."""

    settings: Settings
    database_url: str
    secret_bytes: bytes

    @property
    def secret(self) -> MasterSecret:
        """The master secret."""
        return MasterSecret(self.secret_bytes)


def read_settings(**given: Any) -> Settings:
    """The settings from the environment and `.env`, overridden by what the command line gives (None: not given).

    Errors: CommandFailed naming the settings that are wrong, never their values.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        wrong = "; ".join(f"MINGA_{str(fault['loc'][0]).upper()}: {fault['msg']}" for fault in error.errors())
        raise CommandFailed(f"These settings cannot be used: {wrong}.") from None


@contextmanager
def working_place(settings: Settings, *, watch: bool = False, migrated: bool = True) -> Iterator[Place]:
    """A place for the time of the block, brought to the newest migration unless told otherwise.

    With `watch`, an embedded server that dies meanwhile is started again.

    Errors: CommandFailed.
    """
    server: EmbeddedPostgres | None = None
    secret = master_secret(settings)
    try:
        if settings.database_url is None:
            server = EmbeddedPostgres(data_folder(settings))
            url = server.start()
            if watch:
                server.watch()
        else:
            url = settings.database_url
        if migrated:
            migrate(url)
        yield Place(settings, url, secret)
    except (EmbeddedPostgresError, MigrationError) as error:
        raise CommandFailed(str(error)) from error
    finally:
        if server:
            server.stop()


async def in_transaction(place: Place, work: Callable[[Connection], Awaitable[T]]) -> T:
    """What `work` gives, inside one transaction. Errors: CommandFailed when the database does not answer."""
    try:
        async with Database(place.database_url, size=2) as database, database.transaction() as connection:
            return await work(connection)
    except (psycopg.OperationalError, TimeoutError) as error:
        raise CommandFailed(f"The database does not answer: {type(error).__name__}.") from error
