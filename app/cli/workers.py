"""Several server processes on one socket, and the parent that looks after them.

The parent binds the socket and gives it to each worker together with a pipe. The pipe carries the configuration, so
that the secret is in no environment and no argument list; then it stays open, and its end tells a worker that the
parent is gone, even by `kill -9`. A worker that dies is replaced.
"""

import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

import orjson

from app.cli.outcome import CommandFailed, say
from app.cli.server import GRACE_SECONDS

READY = b"ready\n"
EARLY_SECONDS = 10
MOST_EARLY_DEATHS = 3
STOP_SECONDS = GRACE_SECONDS + 4


@dataclass(slots=True)
class Worker:
    """A server process as its parent sees it."""

    process: subprocess.Popen[bytes]
    started_at: float
    ready: bool = False


def supervise(
    count: int, bound: socket.socket, configuration: Mapping[str, object], announce: Callable[[], None]
) -> None:
    """Run `count` workers until SIGTERM or SIGINT, then let them finish. Errors: CommandFailed when none can start."""
    line = orjson.dumps({**configuration, "socket": bound.fileno()}) + b"\n"
    selector = selectors.DefaultSelector()
    workers: list[Worker] = []
    announced, early_deaths = False, 0
    with stop_requests() as wake:
        selector.register(wake, selectors.EVENT_READ)
        try:
            for _ in range(count):
                workers.append(_spawn(bound, line, selector))
            while True:
                for key, _ in selector.select():
                    if key.data is None:
                        return
                    worker: Worker = key.data
                    assert worker.process.stdout is not None
                    if os.read(worker.process.stdout.fileno(), 64).endswith(READY):
                        worker.ready = True
                        if not announced and all(worker.ready for worker in workers):
                            announced = True
                            announce()
                        continue
                    _bury(worker, selector)
                    workers.remove(worker)
                    lived_seconds = time.monotonic() - worker.started_at
                    early_deaths = early_deaths + 1 if lived_seconds < EARLY_SECONDS else 0
                    if early_deaths >= MOST_EARLY_DEATHS:
                        raise CommandFailed("The server processes end as soon as they start; the log above says why.")
                    say("A server process ended; starting another one.")
                    workers.append(_spawn(bound, line, selector))
        finally:
            bound.close()  # from here on nobody new gets in
            _stop(workers)


def _spawn(bound: socket.socket, line: bytes, selector: selectors.BaseSelector) -> Worker:
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli.worker_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[bound.fileno()],
        start_new_session=True,  # Ctrl-C reaches the parent, and the parent tells its workers
    )
    worker = Worker(process, time.monotonic())
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.write(line)
        process.stdin.flush()
    selector.register(process.stdout, selectors.EVENT_READ, worker)
    return worker


def _bury(worker: Worker, selector: selectors.BaseSelector) -> None:
    assert worker.process.stdin is not None
    assert worker.process.stdout is not None
    selector.unregister(worker.process.stdout)
    worker.process.stdout.close()
    with suppress(OSError):
        worker.process.stdin.close()
    try:
        worker.process.wait(5)
    except subprocess.TimeoutExpired:
        worker.process.kill()
        worker.process.wait()


def _stop(workers: list[Worker]) -> None:
    for worker in workers:
        worker.process.terminate()
    limit = time.monotonic() + STOP_SECONDS
    for worker in workers:
        try:
            worker.process.wait(max(0.1, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()


@contextmanager
def stop_requests() -> Iterator[socket.socket]:
    """A socket that becomes readable when SIGTERM or SIGINT arrives; the signals do nothing else meanwhile."""
    read, write = socket.socketpair()
    write.setblocking(False)

    def ask(_: int, __: FrameType | None) -> None:
        with suppress(BlockingIOError):
            write.send(b"x")

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield read
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        read.close()
        write.close()
