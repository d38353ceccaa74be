"""One organisation at full blast leaves another's answers nearly as quick as they were."""

import asyncio
import statistics
import sys
import time
from pathlib import Path

import httpx
import pytest

from app.db.migrate import ROOT
from tests.exchange.service import Service

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
CONNECTIONS = 64


async def token(http: httpx.AsyncClient, member: dict[str, str]) -> dict[str, str]:
    answer = await http.post(
        "/oauth/token",
        data={"grant_type": "client_credentials"},
        auth=(member["client_id"], member["client_secret"]),
    )
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def p95_ms(http: httpx.AsyncClient, headers: dict[str, str], seconds: float) -> float:
    """The 95th percentile of one request after the other, a hundred milliseconds apart."""
    taken = []
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        started = time.perf_counter()
        answer = await http.get("/v1/issues", headers=headers)
        taken.append((time.perf_counter() - started) * 1000)
        assert answer.status_code == 200
        await asyncio.sleep(0.15)
    return statistics.quantiles(taken, n=20)[-1]


async def test_full_blast_of_one_leaves_another_its_speed(tmp_path: Path) -> None:
    service = Service(tmp_path / "data", MINGA_RATE_LIMIT="on")
    await asyncio.to_thread(service.start)
    try:
        loud, quiet = [await asyncio.to_thread(service.member, f"Example CSO {letter}") for letter in "AB"]
        async with httpx.AsyncClient(base_url=service.url, timeout=30) as other:
            loud_headers, quiet_headers = await token(other, loud), await token(other, quiet)
            await p95_ms(other, quiet_headers, 2)
            idle = await p95_ms(other, quiet_headers, 10)
            words = [str(service.port), loud_headers["Authorization"][7:], str(CONNECTIONS), "22"]
            hammer = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.http.hammer", *words, cwd=ROOT, stdout=asyncio.subprocess.PIPE
            )
            await asyncio.sleep(2)
            loaded = await p95_ms(other, quiet_headers, 18)
            told = (await hammer.communicate())[0].decode().strip()
        print(f"p95 idle {idle:.1f} ms, under load {loaded:.1f} ms; answers to the loud one: {told}")
        assert "429:" in told
        assert loaded < 3 * idle
    finally:
        await asyncio.to_thread(service.stop)
