"""Requests whose end two readers could see at different places end as 400; the service goes on. Source: safety O8."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn

from app.cli.server import BoundedProtocol
from app.db.pool import Database
from tests.http.small import small_app

HEAD = "POST /v1/things HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
SMUGGLED = "GET /v1/broken HTTP/1.1\r\nHost: localhost\r\n\r\n"

ATTACKS = {
    "length and chunks": HEAD + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks and length": HEAD + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two lengths": HEAD + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} " + SMUGGLED,
    "two equal lengths": HEAD + "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" + SMUGGLED,
    "list of lengths": HEAD + "Content-Length: 2, 2\r\n\r\n{}" + SMUGGLED,
    "negative length": HEAD + "Content-Length: -1\r\n\r\n{}",
    "signed length": HEAD + "Content-Length: +2\r\n\r\n{}",
    "hexadecimal length": HEAD + "Content-Length: 0x2\r\n\r\n{}",
    "bad chunk size": HEAD + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "chunk longer than said": HEAD + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}XX\r\n0\r\n\r\n" + SMUGGLED,
    "unknown coding": HEAD + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "coding twice": HEAD + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "folded header": HEAD + "X-Test: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
    "space before colon": HEAD + "Content-Length : 2\r\n\r\n{}",
    "NUL in header": HEAD + "X-Test: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
    "NUL in address": "GET /v1/thi\x00ngs HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "bare line feed": HEAD + "X-Test: a\rContent-Length: 2\r\n\r\n{}",
    "two hosts": "GET /v1/things HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    "no host": "GET /v1/things HTTP/1.1\r\n\r\n",
    "no version": "GET /v1/things\r\n\r\n",
    "other protocol": "GET /v1/things HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "noise": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}


@pytest.fixture
async def port(database: Database) -> AsyncIterator[int]:
    """The port of a live server on loopback."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        small_app(database), http=BoundedProtocol, lifespan="off", log_config=None, access_log=False, loop="asyncio"
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[bound]))
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    yield int(bound.getsockname()[1])
    server.should_exit = True
    await running
    bound.close()


async def exchange(port: int, request: bytes) -> bytes:
    """Everything the server sends back until it closes or rests."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    received = b""
    try:
        while chunk := await asyncio.wait_for(reader.read(65536), 0.5):
            received += chunk
    except (TimeoutError, ConnectionResetError):
        pass
    writer.close()
    return received


@pytest.mark.parametrize("name", ATTACKS)
async def test_ends_as_400(port: int, lines: list[str], name: str) -> None:
    received = await exchange(port, ATTACKS[name].encode("latin-1"))
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1 ") == 1
    assert not [line for line in lines if "RuntimeError" in line]
    usual = await exchange(port, b"GET /v1/things HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert usual.startswith(b"HTTP/1.1 200 ")


async def test_an_announced_body_over_the_limit_is_refused_before_it_comes(port: int) -> None:
    received = await exchange(port, (HEAD + "Content-Length: 1000001\r\n\r\n").encode())
    assert received.startswith(b"HTTP/1.1 413 ")


async def test_a_large_body_gets_its_answer(port: int) -> None:
    body = b'{"title": "' + b"a" * 1_100_000 + b'"}'
    received = await exchange(port, HEAD.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"body-too-large"' in received


async def test_head_has_no_body(port: int) -> None:
    received = await exchange(port, b"HEAD /v1/things HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.endswith(b"\r\n\r\n")
