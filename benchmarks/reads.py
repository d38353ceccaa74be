"""`reads`: get one, a brief list with a region filter, 304 and create, each against the bare application."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import httpx
import orjson

from app.kinds.cases import CASES
from benchmarks import generated
from benchmarks.drive import Ask, drive
from benchmarks.report import Options, middle, ratio, say
from benchmarks.servers import Service, database_of, organisation, process, service

TARGETS = {"get one": 0.20, "brief list of 20": 0.18, "304": 0.22, "create": 0.05}
LIST = "/v1/cases?region=AFR"
DIFFERENT_RECORDS = 200


def run(options: Options) -> dict[str, Any]:
    """Starts both, loads the records, measures in turn and tells; everything is ended at the end."""
    with service() as running, tempfile.TemporaryDirectory() as folder:
        asks, kept, loaded = asyncio.run(_prepare(options, running))
        answers = Path(folder) / "answers.json"
        answers.write_bytes(orjson.dumps(kept))
        with process("-m", "benchmarks.bare", str(answers)) as (bare_url, _):
            found = {"records": options.records, "loaded_per_second": round(loaded)}
            say(options, f"{options.records} cases loaded at {loaded:.0f} a second; driver {options.driver}")
            say(options, f"{'':18}{'bare':>10}{'p50 ms':>9}{'p99 ms':>9}{'minga':>10}{'p50 ms':>9}{'p99 ms':>9}  ratio")
            for name, sent in asks.items():
                found[name] = _compare(options, name, sent, bare_url, running.url)
            return found


async def _prepare(
    options: Options, running: Service
) -> tuple[dict[str, list[Ask]], dict[str, tuple[str, str]], float]:
    """The requests of each measurement, the answers the bare application gives, and the speed of loading."""
    async with database_of(running) as database:
        owner, _ = await organisation(database, running, "Example CSO A")
        _, headers = await organisation(database, running, "Example CSO A, a reader")
        loaded = await generated.load(database, owner, CASES, generated.case, range(options.records))
        await generated.settle(database)
    body = orjson.dumps(generated.case(-1) | {"tlp": "green"})
    async with httpx.AsyncClient(base_url=running.url, headers=headers, timeout=30) as client:
        client.headers.pop("accept-encoding")
        listed = await _good(client.get(LIST))
        some = await _good(client.get("/v1/cases", params={"limit": DIFFERENT_RECORDS}))
        kept = {"/v1/cases": (listed.text, listed.headers["etag"])}
        asks: dict[str, list[Ask]] = {"get one": [], "brief list of 20": [Ask(LIST, headers=headers)], "304": []}
        for item in some.json()["items"]:
            path = f"/v1/cases/{item['id']}"
            one = await _good(client.get(path))
            kept[path] = (one.text, one.headers["etag"])
            asks["get one"].append(Ask(path, headers=headers))
            asks["304"].append(Ask(path, headers={**headers, "If-None-Match": one.headers["etag"]}))
        same = await client.get(asks["304"][0].path, headers=asks["304"][0].headers)
        assert same.status_code == 304
        sent = {**headers, "Content-Type": "application/json"}
        created = await _good(client.post("/v1/cases", content=body, headers=sent))
        assert created.status_code == 201
        kept["created"] = (created.text, "")
        asks["create"] = [Ask("/v1/cases", "POST", sent, body)]
    return asks, kept, loaded


async def _good(request: Any) -> httpx.Response:
    answer: httpx.Response = await request
    answer.raise_for_status()
    return answer


def _compare(options: Options, name: str, asks: list[Ask], bare_url: str, service_url: str) -> dict[str, Any]:
    """Bare, service, bare, service …; the medians, and the ratio."""
    for url in (bare_url, service_url):
        drive(options.driver, url, asks, 1)
    bare, served = [], []
    for _ in range(options.rounds):
        bare.append(drive(options.driver, bare_url, asks, options.seconds))
        served.append(drive(options.driver, service_url, asks, options.seconds))
    ours, theirs = middle(served), middle(bare)
    share = ratio(served, bare)
    cells = "".join(
        f"{one['requests_per_second']:>10.0f}{one['p50_ms']:>9.2f}{one['p99_ms']:>9.2f}" for one in (theirs, ours)
    )
    target = TARGETS[name]
    say(options, f"{name:18}{cells}  {share:.3f} (target {target}{'' if share >= target else ', MISSED'})")
    return {"bare": theirs, "minga": ours, "ratio": round(share, 3), "target": target, "reached": share >= target}
