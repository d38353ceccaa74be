"""`growth`: what the same requests take over ten times as many records. Both services run at once, measured in turn.

A tenth of the small set is written through the one write path; the rest are copies made in the database.
"""

import asyncio
from contextlib import ExitStack
from functools import partial
from typing import Any

import httpx

from app.kinds.cases import CASES
from app.kinds.findings import FINDINGS
from benchmarks import generated
from benchmarks.drive import Ask, drive
from benchmarks.report import Options, middle, ratio, say
from benchmarks.servers import Service, database_of, organisation, service

TARGET = 1.5
TIMES = 10
WRITTEN = 10
"""One in so many records of the small set is written; the others are copies."""


def run(options: Options) -> dict[str, Any]:
    """Loads both services, measures each request on both in turn and tells; everything is ended at the end."""
    found: dict[str, Any] = {"records": [options.records, options.records * TIMES]}
    with ExitStack() as stack:
        sides: list[tuple[str, dict[str, Ask]]] = []
        for count in found["records"]:
            running = stack.enter_context(service())
            asks, loaded = asyncio.run(_prepare(running, options.records // WRITTEN, count))
            say(options, f"{count} cases and {count} findings, the first ones written at {loaded:.0f} a second")
            found.setdefault("loaded_per_second", []).append(round(loaded))
            sides.append((running.url, asks))
        say(options, f"{'':34}{'small p50 ms':>14}{'large p50 ms':>14}  large : small")
        for name in sides[0][1]:
            found[name] = _compare(options, name, sides)
    return found


async def _prepare(running: Service, written: int, count: int) -> tuple[dict[str, Ask], float]:
    """The requests to measure on this service, and the speed of loading it."""
    async with database_of(running) as database:
        owner, owner_headers = await organisation(database, running, "Example CSO A")
        reader, headers = await organisation(database, running, "Example CSO A, a reader")
        loaded = await generated.load(database, owner, CASES, generated.case, range(written))
        few = partial(generated.finding, reader=reader)
        await generated.load(database, owner, FINDINGS, few, range(written))
        await generated.multiply(database, count // written)
        await generated.settle(database)
    asks: dict[str, Ask] = {}
    async with httpx.AsyncClient(base_url=running.url, timeout=30) as client:
        for who, sent, plural, visible in (
            ("member", headers, "cases", count * 9 // 10),
            ("owner", owner_headers, "cases", count),
            ("reader of 1 %", headers, "findings", count * 15 // 1000),
            ("anonymous", {}, "cases", count * 7 // 10),
        ):
            first = Ask(f"/v1/{plural}", headers=sent)
            page = await _page(client, first)
            item = page["items"][0]["id"]
            asks[f"{who}: first page"] = first
            asks[f"{who}: middle page"] = Ask(await _middle(client, first, visible), headers=sent)
            asks[f"{who}: get one"] = Ask(f"/v1/{plural}/{item}", headers=sent)
        for plural, filters in (("cases", "region=AFR"), ("findings", "tlp=amber")):
            asks[f"{plural}?{filters}"] = Ask(f"/v1/{plural}?{filters}", headers=headers)
    return asks, loaded


async def _page(client: httpx.AsyncClient, ask: Ask) -> dict[str, Any]:
    answer = await client.get(ask.path, headers=ask.headers)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


async def _middle(client: httpx.AsyncClient, ask: Ask, visible: int) -> str:
    """The address of the page in the middle of the list, found by walking there."""
    path = f"{ask.path}?limit=200"
    for _ in range(visible // 400):
        page = await _page(client, Ask(path, headers=ask.headers))
        path = httpx.URL(page["next"]).raw_path.decode()
    return path


def _compare(options: Options, name: str, sides: list[tuple[str, dict[str, Ask]]]) -> dict[str, Any]:
    """Small, large, small, large …; the medians, and the ratio."""
    runs: list[list[Any]] = [[], []]
    for url, asks in sides:
        drive(options.driver, url, [asks[name]], 1)
    for _ in range(options.rounds):
        for side, (url, asks) in enumerate(sides):
            runs[side].append(drive(options.driver, url, [asks[name]], options.seconds))
    small, large = middle(runs[0]), middle(runs[1])
    growth = ratio(runs[0], runs[1])
    verdict = "" if growth <= TARGET else f" (target {TARGET}, MISSED)"
    say(options, f"{name:34}{small['p50_ms']:>14.2f}{large['p50_ms']:>14.2f}  {growth:.2f}{verdict}")
    return {"small": small, "large": large, "ratio": round(growth, 3), "target": TARGET, "reached": growth <= TARGET}
