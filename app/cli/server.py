"""One server process: uvicorn with our limits, on a socket that was bound before.

uvicorn with httptools has no limit for a request's head and no time limit for a client that never finishes one; both
are added here. Source: safety I1, O9.
"""

import asyncio
import socket
from asyncio import TimerHandle, Transport
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import orjson
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.cli.memory import settle
from app.cli.outcome import CommandFailed
from app.exchange.wake import Bell
from app.http.problem import CODES
from app.main import create_app
from app.sealing import MasterSecret
from app.settings import Settings

HEAD_LIMIT_BYTES = 96_000
HEAD_SECONDS = 30
KEEP_ALIVE_SECONDS = 65  # longer than the usual 60 s of a reverse proxy, so that the proxy is the one to close
GRACE_SECONDS = 25
BACKLOG = 2048


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 whose request heads are limited in size and time."""

    _head_bytes = 0
    _in_head = True
    _deadline: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """A client came: its first request's head must be complete in time."""
        super().connection_made(transport)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or was sent away."""
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a head are counted until it is complete; a larger one ends the connection."""
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
        if self._in_head and self._head_bytes > HEAD_LIMIT_BYTES and not self.transport.is_closing():
            self._refuse("headers-too-large")

    def send_400_response(self, msg: str) -> None:
        """What cannot be read as HTTP is refused like everything else, and never repeated."""
        self._refuse("bad-request")

    def on_message_begin(self) -> None:
        """The first bytes of a request."""
        super().on_message_begin()
        self._begin_head()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._end_head()
        super().on_headers_complete()

    def _refuse(self, code: str) -> None:
        status, title = CODES[code]
        body = orjson.dumps({"type": "about:blank", "title": title, "status": status, "code": code})
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/problem+json\r\n"
        rest = f"cache-control: no-store\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + rest.encode() + body)
        self.transport.close()

    def _begin_head(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._too_slow)

    def _end_head(self) -> None:
        self._in_head = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self._in_head and not self.transport.is_closing():
            self.transport.close()


class Server(uvicorn.Server):
    """A uvicorn server that tells when it accepts requests."""

    def __init__(self, config: uvicorn.Config, application: FastAPI, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._application = application
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts accepting, then announces it."""
        await super().startup(sockets)
        if self.started and not self.should_exit:
            settle()
            self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answers those who wait for changes at once, then ends when the requests in flight have ended."""
        bell: Bell | None = getattr(self._application.state, "bell", None)
        if bell is not None:
            bell.end()
        await super().shutdown(sockets)


def make_server(
    settings: Settings, database_url: str, secret: MasterSecret, public_url: str, announce: Callable[[], None]
) -> Server:
    """A server for the application, not yet running."""
    application = create_app(settings, database_url=database_url, secret=secret, public_url=public_url)
    options: dict[str, Any] = {
        "loop": "uvloop",
        "http": BoundedProtocol,
        "ws": "none",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "date_header": True,
        "proxy_headers": False,
        "backlog": BACKLOG,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": GRACE_SECONDS,
    }
    return Server(uvicorn.Config(application, **options), application, announce)


def listen(host: str, port: int, *, next_free: bool) -> socket.socket:
    """A bound socket; with `next_free`, on the first free port from `port` on. Errors: CommandFailed."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise CommandFailed(f"The host {host} is not an address of this machine.") from error
    last = min(port + 100, 65535) if next_free and port else port
    for candidate in range(port, last + 1):
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((address[0], candidate, *address[2:]))
            bound.listen(BACKLOG)
        except OSError as error:
            bound.close()
            if candidate == last:
                raise CommandFailed(
                    f"Port {port} of {host} cannot be used: {error.strerror}. Choose another by --port."
                ) from error
            continue
        return bound
    raise CommandFailed(f"No free port from {port} on.")


def printed_url(host: str, bound: socket.socket) -> str:
    """The address of the socket as people write it."""
    port = bound.getsockname()[1]
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}"
