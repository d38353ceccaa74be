"""Imports in tests: their lines, sending them, waiting for their end, and workers that die over them."""

import asyncio
import json
from types import ModuleType
from typing import Any

import httpx
import psycopg
import pytest

from app.exchange import import_work
from app.kinds.issues import ISSUES
from tests.conftest import Member
from tests.records.bodies import publishable

NDJSON = {"Content-Type": "application/x-ndjson"}


def ndjson(*records: Any) -> bytes:
    return b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)


async def imported(
    client: httpx.AsyncClient, owner: Member, body: bytes, *, expected: int = 200, **options: Any
) -> dict[str, Any]:
    headers = {**owner.headers, **NDJSON, **options.pop("headers", {})}
    answer = await client.post("/v1/imports", content=body, params=options, headers=headers)
    assert answer.status_code == expected, answer.text
    return dict(answer.json())


def issue(number: int, **changes: Any) -> dict[str, Any]:
    return {"kind": "issue", **publishable(ISSUES, title=f"Issue {number}", external_id=f"i-{number}", **changes)}


async def ended(client: httpx.AsyncClient, owner: Member, report: dict[str, Any]) -> dict[str, Any]:
    """The report once the import has ended."""
    async with asyncio.timeout(120):
        while report["status"] not in ("done", "failed"):
            await asyncio.sleep(0.05)
            report = (await client.get(f"/v1/imports/{report['id']}", headers=owner.headers)).json()
    return report


def leases_end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker takes every import for its own."""
    monkeypatch.setattr(import_work, "_CLAIM", import_work._CLAIM.replace("30 seconds", "0 seconds"))
    monkeypatch.setattr(import_work, "LEASE_SECONDS", 0)
    monkeypatch.setattr(import_work, "FAILED_REST_SECONDS", 0)


def dying_worker(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str) -> dict[str, int]:
    """The worker dies in the middle of five parts, every second one, after `name` and before committing; `left` says
    how often it still will."""
    real, deaths = getattr(module, name), {"left": 5}

    async def dying(*given: Any) -> None:
        await real(*given)
        if given[2] % 2 and deaths["left"]:
            deaths["left"] -= 1
            raise psycopg.OperationalError("the line to the database broke")

    monkeypatch.setattr(module, name, dying)
    monkeypatch.setattr("app.exchange.worker.PAUSE_AFTER_FAILURE_SECONDS", 0.01)
    leases_end_at_once(monkeypatch)
    return deaths
