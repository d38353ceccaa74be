"""`volume`: a million records in through one import and out through one export, and the memory of the service at it.

Memory is read each half second and told for every tenth of the way: what grows with the number of records would show
from tenth to tenth. Nothing is read or sent but over HTTP.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import httpx
import orjson

from benchmarks import generated
from benchmarks.report import Options, say
from benchmarks.servers import Service, database_of, organisation, service, token

TIMES = 50
"""So many times `--records`: a million by default."""
PART_LINES = 1_000
SAMPLE_SECONDS = 0.5
TENTHS = 10
TOKEN_SECONDS = 240


def run(options: Options) -> dict[str, Any]:
    """Measures both ways and tells; the service and its data are gone afterwards."""
    count = options.records * TIMES
    with service() as running:
        caller = asyncio.run(_Caller.make(running))
        found = {"records": count, "in": _imports(options, running, caller, count)}
        found["out"] = _exports(options, running, caller, count)
    return found


class _Caller:
    """Headers with a token that is renewed before it ends: the way takes longer than a token lives."""

    def __init__(self, running: Service, owner: UUID) -> None:
        self._running = running
        self._owner = owner
        self._until = 0.0
        self._headers: dict[str, str] = {}

    @classmethod
    async def make(cls, running: Service) -> "_Caller":
        async with database_of(running) as database:
            owner, _ = await organisation(database, running, "Example CSO A")
        return cls(running, owner)

    @property
    def headers(self) -> dict[str, str]:
        if time.monotonic() > self._until:
            self._headers = asyncio.run(self._renew())
            self._until = time.monotonic() + TOKEN_SECONDS
        return self._headers

    async def _renew(self) -> dict[str, str]:
        async with database_of(self._running) as database:
            return await token(database, self._running, self._owner)


class _Memory:
    """Samples of (share of the way, megabytes), taken beside the work."""

    def __init__(self, running: Service, share: Callable[[], float]) -> None:
        self._running = running
        self._share = share
        self._samples: list[tuple[float, int]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "_Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self._samples.append((self._share(), self._running.resident_megabytes()))

    def tenths(self) -> list[int]:
        """The most of each tenth of the way, in megabytes; 0 where no sample fell."""
        most = [0] * TENTHS
        for share, megabytes in self._samples:
            place = min(TENTHS - 1, int(share * TENTHS))
            most[place] = max(most[place], megabytes)
        return most


def _lines(count: int) -> Iterator[bytes]:
    for start in range(0, count, PART_LINES):
        numbers = range(start, min(start + PART_LINES, count))
        yield b"".join(orjson.dumps(generated.issue(number)) + b"\n" for number in numbers)


def _imports(options: Options, running: Service, caller: _Caller, count: int) -> dict[str, Any]:
    done = {"sent": 0, "stored": 0}

    def counted() -> Iterator[bytes]:
        for part in _lines(count):
            yield part
            done["sent"] += part.count(b"\n")

    started = time.perf_counter()
    with httpx.Client(base_url=running.url, timeout=600) as client:
        with _Memory(running, lambda: done["sent"] / count) as receiving:
            headers = {**caller.headers, "Content-Type": "application/x-ndjson"}
            answer = client.post("/v1/imports?kind=issue", content=counted(), headers=headers)
            answer.raise_for_status()
        received, report = time.perf_counter(), answer.json()
        with _Memory(running, lambda: done["stored"] / count) as storing:
            while report["status"] not in ("done", "failed"):
                time.sleep(1)
                report = client.get(f"/v1/imports/{report['id']}", headers=caller.headers).json()
                done["stored"] = report["lines_done"]
    ended = time.perf_counter()
    assert report["counts"]["created"] == count, report["counts"]
    found = {
        "per_second": round(count / (ended - started)),
        "received_per_second": round(count / (received - started)),
        "memory_mb_receiving": receiving.tenths(),
        "memory_mb_storing": storing.tenths(),
    }
    say(options, f"{count:,} in at {found['per_second']:,}/s; received at {found['received_per_second']:,}/s")
    say(options, f"memory by tenth, MB: receiving {found['memory_mb_receiving']}, storing {found['memory_mb_storing']}")
    return found


def _exports(options: Options, running: Service, caller: _Caller, count: int) -> dict[str, Any]:
    rows = 0
    started = time.perf_counter()
    with httpx.Client(base_url=running.url, timeout=600) as client, _Memory(running, lambda: rows / count) as memory:
        asked = {**caller.headers, "Accept-Encoding": "identity"}
        with client.stream("GET", "/v1/exports/issues.ndjson", headers=asked) as answer:
            answer.raise_for_status()
            for part in answer.iter_raw():
                rows += part.count(b"\n")
    assert rows == count + 1, rows  # the first row is the address of the feed
    found = {
        "per_second": round(count / (time.perf_counter() - started)),
        "memory_mb": memory.tenths(),
    }
    say(options, f"{count:,} out at {found['per_second']:,}/s; memory by tenth, MB: {found['memory_mb']}")
    return found
