"""Posting a message to a receiver, who may be hostile: little is read, little time given, nothing followed.

The connection goes to an address the guard has checked; TLS names and verifies the host of the URL. Of all that comes
back, interim answers and headers included, no more than `MAXIMUM_READ_BYTES` are taken from the line, and no body at
all unless something must stand in it.

Source: safety.md T6, H2, H3.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv6Address
from typing import Any

import httpcore
import httpx

from app.exchange.guard import Resolver, checked_addresses, parse

CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 15.0
MAXIMUM_ANSWER_BYTES = 1024
MAXIMUM_READ_BYTES = 65_536
MOST_LOOKUPS = 200
"""Names looked up at once by a process; each has a thread until the resolver of the system gives up."""

_lookups: set[threading.Thread] = set()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver answered: the status, how long it wants to be left alone, and whether the text asked for stood
    in the first kilobyte. The body itself goes nowhere."""

    status: int
    retry_after_seconds: int | None
    echoed: bool


async def system_resolver(host: str, port: int) -> Sequence[str]:
    """The addresses the operating system knows for `host`. Errors: OSError.

    Each lookup has a thread of its own: a name whose servers are silent holds its thread for long after nobody waits
    for it any more, and must hold neither the lookups of other names nor the end of the process.
    """
    if len(_lookups) >= MOST_LOOKUPS:
        raise OSError("too many names are being looked up")
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[Any]] = loop.create_future()

    def tell(result: list[Any], error: OSError | UnicodeError | None) -> None:
        if not found.done():
            if error is None:
                found.set_result(result)
            else:
                found.set_exception(error)

    def look() -> None:
        result: list[Any] = []
        failure: OSError | UnicodeError | None = None
        try:
            result = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            failure = error
        finally:
            _lookups.discard(thread)
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, result, failure)

    thread = threading.Thread(target=look, name="lookup", daemon=True)
    _lookups.add(thread)
    thread.start()
    return [str(entry[4][0]) for entry in await found]


@cache
def _tls_context() -> ssl.SSLContext:
    """The public certificate authorities; reading them takes tens of milliseconds, so they are read once."""
    return httpx.create_ssl_context(trust_env=False)


class _Counted(httpcore.AsyncNetworkStream):
    """A connection from which only so many bytes are taken, whatever they are."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._left = MAXIMUM_READ_BYTES

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next bytes. Errors: httpcore.ReadError once the limit is passed."""
        if not self._left:
            raise httpcore.ReadError("the answer is too long")
        received = await self._stream.read(min(max_bytes, self._left), timeout)
        self._left -= len(received)
        return received

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Sends bytes."""
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Closes the connection."""
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """The connection with TLS over it."""
        return _Counted(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """What the connection knows of itself."""
        return self._stream.get_extra_info(info)


class _Network(httpcore.AsyncNetworkBackend):
    """The network, with counted connections."""

    def __init__(self) -> None:
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A counted connection."""
        return _Counted(await self._network.connect_tcp(host, port, timeout, local_address, socket_options))


async def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    echo: bytes | None = None,
    development: bool = False,
    ports: Collection[int] = (443,),
    resolver: Resolver = system_resolver,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """What the receiver at `url` answers to `body`, within 15 s in all. No proxy, no redirect.

    The status counts as soon as it is there. With `echo`, the first kilobyte of the body is looked through for it.

    Errors: AddressRefused; TimeoutError; ConnectionError (connection, TLS, protocol, an answer too long).
    """
    try:
        async with asyncio.timeout(TOTAL_SECONDS):
            target = parse(url, development=development, ports=ports)
            address = (await checked_addresses(target, resolver, development=development))[0]
            shown = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
            sent = {
                **headers,
                "Host": target.authority,
                "Content-Length": str(len(body)),
                "Accept-Encoding": "identity",
                "Connection": "close",
            }
            request = httpcore.Request(
                "POST",
                httpcore.URL(scheme=target.scheme, host=shown, port=target.port, target=target.path),
                headers=list(sent.items()),
                content=body,
                extensions={
                    "sni_hostname": target.host,
                    "timeout": {"connect": CONNECT_SECONDS, "read": TOTAL_SECONDS, "write": TOTAL_SECONDS},
                },
            )
            # This pool reads no environment: no proxy, no certificate file of the machine's.
            async with httpcore.AsyncConnectionPool(tls or _tls_context(), network_backend=_Network()) as pool:
                response = await pool.handle_async_request(request)
                try:
                    echoed = echo is not None and await _stands_in(response, echo)
                finally:
                    await response.aclose()
    except httpcore.TimeoutException as error:
        raise TimeoutError from error
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise ConnectionError(type(error).__name__) from error
    return Answer(response.status, _seconds(response.headers), echoed)


async def _stands_in(response: httpcore.Response, text: bytes) -> bool:
    received = bytearray()
    async for part in response.aiter_stream():
        received += part[: MAXIMUM_ANSWER_BYTES - len(received)]
        if text in received:
            return True
        if len(received) >= MAXIMUM_ANSWER_BYTES:
            break
    return False


def _seconds(headers: Sequence[tuple[bytes, bytes]]) -> int | None:
    """The seconds of Retry-After; None where there are none, or a date stands there, or nonsense."""
    for name, value in headers:
        if name.lower() == b"retry-after" and value.isdigit():
            return int(value[:9])
    return None
