"""Driving: the same requests, over 16 connections, for a fixed time; with wrk where present, else a bundled driver."""

import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import uvloop

CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Ask:
    """One request."""

    path: str
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Run:
    """What one measurement gave. `failed` counts answers of 400 and above, and broken connections."""

    per_second: float
    p50_ms: float
    p99_ms: float
    failed: int


def chosen(asked: str | None) -> str:
    """The driver to use: the one asked for, else wrk where it is installed, else the bundled one."""
    return asked or ("wrk" if shutil.which("wrk") else "bundled")


def drive(driver: str, url: str, asks: Sequence[Ask], seconds: float) -> Run:
    """Sends `asks` in turn, again and again, for so many seconds."""
    if driver == "wrk":
        return _wrk(url, asks, seconds)
    return uvloop.run(_bundled(url, asks, seconds))


SCRIPT = """
local asks, turn = {}, 0
function init(args)
%s
end
function request()
  turn = turn %% #asks + 1
  return asks[turn]
end
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('\\nresult {"requests": %%d, "microseconds": %%d, "p50": %%d, "p99": %%d, "failed": %%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


def _wrk(url: str, asks: Sequence[Ask], seconds: float) -> Run:
    lines = []
    for ask in asks:
        headers = ", ".join(f"[{_lua(name)}] = {_lua(value)}" for name, value in ask.headers.items())
        body = _lua(ask.body.decode()) if ask.body else "nil"
        lines.append(
            f"  asks[#asks + 1] = wrk.format({_lua(ask.method)}, {_lua(ask.path)}, "
            f"{{['Host'] = wrk.host .. ':' .. wrk.port, {headers}}}, {body})"
        )
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "asks.lua"
        script.write_text(SCRIPT % "\n".join(lines))
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", str(script), url]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60)
    found = json.loads(done.stdout.rpartition("\nresult ")[2])
    return Run(
        found["requests"] / found["microseconds"] * 1e6, found["p50"] / 1000, found["p99"] / 1000, found["failed"]
    )


def _lua(text: str) -> str:
    """A Lua string."""
    return '"' + "".join(c if c.isprintable() and c.isascii() and c not in '"\\' else _escaped(c) for c in text) + '"'


def _escaped(character: str) -> str:
    return "".join(f"\\{byte:03}" for byte in character.encode())


class _Connection(asyncio.Protocol):
    """One connection that sends the next request as soon as it has the whole answer."""

    def __init__(self, requests: Sequence[bytes], turn: list[int], took: list[float], failed: list[int]) -> None:
        self.requests, self.turn, self.took, self.failed = requests, turn, took, failed
        self.received = b""
        self.wanted = -1
        self.ending = False
        self.sent_at = 0.0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Starts with the first request."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are none by name
        self._send()

    def _send(self) -> None:
        self.turn[0] += 1
        self.sent_at = time.perf_counter()
        self.transport.write(self.requests[self.turn[0] % len(self.requests)])

    def data_received(self, data: bytes) -> None:
        """Gathers an answer; our answers always say their length, or have none."""
        self.received += data
        if self.wanted < 0:
            end = self.received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.received[:end].lower()
            start = head.find(b"\r\ncontent-length:")
            length = 0 if start < 0 else int(head[start + 17 :].split(b"\r\n", 1)[0])
            self.wanted = end + 4 + length
            self.failed[0] += head[9:10] in (b"4", b"5")
        if len(self.received) >= self.wanted:
            self.took.append(time.perf_counter() - self.sent_at)
            self.received, self.wanted = b"", -1
            if not self.ending:
                self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection that breaks before the end counts as a failure."""
        self.failed[0] += not self.ending


async def _bundled(url: str, asks: Sequence[Ask], seconds: float) -> Run:
    place = urlsplit(url)
    requests = []
    for ask in asks:
        lines = [f"{ask.method} {ask.path} HTTP/1.1", f"Host: {place.netloc}"]
        lines += [f"{name}: {value}" for name, value in ask.headers.items()]
        if ask.body:
            lines.append(f"Content-Length: {len(ask.body)}")
        requests.append("\r\n".join(lines).encode() + b"\r\n\r\n" + ask.body)
    turn, took, failed = [0], [], [0]
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    connections = [
        (await loop.create_connection(lambda: _Connection(requests, turn, took, failed), place.hostname, place.port))[1]
        for _ in range(CONNECTIONS)
    ]
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - started
    counted = sorted(took)
    for connection in connections:
        connection.ending = True
    await asyncio.sleep(0.2)
    for connection in connections:
        connection.transport.close()

    def percentile(share: float) -> float:
        return counted[min(len(counted) - 1, int(len(counted) * share))] * 1000

    return Run(len(counted) / elapsed, percentile(0.5), percentile(0.99), failed[0])
