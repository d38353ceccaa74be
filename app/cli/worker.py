"""`minga worker`: background work in a process of its own, with `MINGA_EMBEDDED_WORKER=off` for the service."""

import asyncio
import signal
from argparse import ArgumentParser, Namespace
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from app.cli.memory import settle
from app.cli.outcome import DONE, say
from app.cli.place import Place, read_settings, working_place
from app.db.pool import Database
from app.db.room import room_of
from app.exchange.wake import Bell
from app.exchange.worker import Worker
from app.http.log import configure
from app.kinds import KINDS


def register(commands: Any) -> None:
    """Declare the command."""
    parser: ArgumentParser = commands.add_parser("worker", help="run background jobs apart from the service")
    parser.add_argument("--data-dir", type=Path, help="folder of the embedded database (./data)")
    parser.set_defaults(run=run)


def run(arguments: Namespace, _: list[str]) -> int:
    """Work until SIGTERM or Ctrl-C, then hand unfinished jobs back. Errors: CommandFailed."""
    settings = read_settings(data_dir=arguments.data_dir)
    configure(settings.log_level)
    with working_place(settings, watch=True) as place:
        asyncio.run(_work(place))
    return DONE


async def _work(place: Place) -> None:
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    async with AsyncExitStack() as stack:
        settings = place.settings
        database = Database(place.database_url, size=settings.pool_size, room=room_of(settings))
        await stack.enter_async_context(database)
        bell = await stack.enter_async_context(Bell(database.url))
        kinds = {kind.name: kind for kind in KINDS}
        await stack.enter_async_context(Worker(database, bell, kinds, place.secret, settings))
        settle()
        say("working")
        await over.wait()
