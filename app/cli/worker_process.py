"""What each worker process runs: reads its configuration from standard input, then serves until told to stop."""

import os
import socket
import sys
import threading
import time

import orjson

from app.cli.server import make_server
from app.cli.workers import READY
from app.http.log import configure
from app.sealing import MasterSecret
from app.settings import Settings

ORPHAN_SECONDS = 5


def announce() -> None:
    """Tell the parent that this worker accepts requests."""
    os.write(sys.stdout.fileno(), READY)


def main() -> int:
    """Exit code 0 after an orderly end, 3 when the application could not start."""
    given = orjson.loads(sys.stdin.buffer.readline())
    settings = Settings(**given["settings"])
    configure(settings.log_level)
    server = make_server(
        settings,
        given["database_url"],
        MasterSecret(bytes.fromhex(given["secret"])),
        given["public_url"],
        announce,
    )

    def follow_parent() -> None:
        os.read(sys.stdin.fileno(), 1)  # comes back when the parent has gone, however it went
        server.should_exit = True
        time.sleep(ORPHAN_SECONDS)
        server.force_exit = True

    threading.Thread(target=follow_parent, daemon=True).start()
    server.run(sockets=[socket.socket(fileno=given["socket"])])
    return 0 if server.started else 3


if __name__ == "__main__":
    sys.exit(main())
