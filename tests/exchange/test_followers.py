"""No gap and no leak: writers whose transactions overlap over two workers, followers of several page sizes."""

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.client import AsyncMinga
from app.kinds.issues import ISSUES
from tests.exchange.follower import Follower
from tests.exchange.service import Service
from tests.records.bodies import publishable

pytestmark = pytest.mark.anyio
WRITERS = 8
ENOUGH = 20


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.slow)])
async def test_followers_hold_what_they_may_hold(seconds: int, tmp_path: Path) -> None:
    service = Service(tmp_path / "data", workers=2)
    await asyncio.to_thread(service.start)
    try:
        await _run(service, seconds)
    finally:
        await asyncio.to_thread(service.stop)


async def _run(service: Service, seconds: int) -> None:
    owners = [await asyncio.to_thread(service.member, f"Example CSO {letter}") for letter in "ABC"]
    reader = await asyncio.to_thread(service.member, "Example CSO R")
    network = await asyncio.to_thread(lambda: service.member("Example Network", network=True))
    members = [connect(service, owner) for owner in owners]
    reading, inviting = connect(service, reader), connect(service, network)
    async with httpx.AsyncClient(base_url=service.url, timeout=300) as http:
        headers = [await bearer(one) for one in (*members, reading)]
        followers = [
            Follower(http, headers[-1], {"limit": 1}),
            Follower(http, headers[-1], {"limit": 50, "include": "record"}),
            Follower(http, headers[-1], {"limit": 1000, "wait": 1}),
            Follower(http, headers[0], {"limit": 7}),
            Follower(http, {}, {"limit": 3}),
        ]
        ends_at, over = time.monotonic() + seconds, asyncio.Event()
        following = [asyncio.create_task(follow(follower, over)) for follower in followers]
        moving = asyncio.create_task(join_and_leave(inviting, reading, network, reader, ends_at))
        audience = [[reader["id"]], [network["id"]], []]
        acknowledged: dict[str, int] = {}
        await asyncio.gather(
            *(write(members[number % 3], number, audience, ends_at, acknowledged) for number in range(WRITERS))
        )
        await moving
        over.set()
        await asyncio.gather(*following)
        for follower in followers:
            held, url = {}, "/v1/issues?limit=200&sort=created_at"
            while url:
                page = (await http.get(url, headers=follower.headers)).json()
                held |= {item["id"]: item["version"] for item in page["items"]}
                url = page["next"]
            patience = time.monotonic() + 300
            while follower.versions != held:  # something of PostgreSQL's own may still hold the feed back
                assert time.monotonic() < patience
                await follower.catch_up()
                await asyncio.sleep(0.1)
            assert all(acknowledged.get(record_id, 0) <= version for record_id, version in held.items())
        assert len(acknowledged) > ENOUGH
        assert followers[0].resyncs + followers[1].resyncs > 0
    for one in (*members, reading, inviting):
        await one.aclose()


def connect(service: Service, member: dict[str, str]) -> AsyncMinga:
    return AsyncMinga(service.url, client_id=member["client_id"], client_secret=member["client_secret"])


async def bearer(minga: AsyncMinga) -> dict[str, str]:
    await minga.me()
    return {"Authorization": f"Bearer {minga._session.token}"}


async def follow(follower: Follower, over: asyncio.Event) -> None:
    while not over.is_set():
        if not await follower.step():
            await asyncio.sleep(0.01)


async def write(
    minga: AsyncMinga, seed: int, audience: list[list[str]], ends_at: float, acknowledged: dict[str, int]
) -> None:
    """Makes, changes, tightens, relaxes, withdraws and restores records of its own."""
    chance = random.Random(seed)
    own: list[dict[str, Any]] = []
    while time.monotonic() < ends_at or len(acknowledged) <= ENOUGH:
        label = chance.choice(["clear", "green", "amber", "amber+strict"])
        marking = {"tlp": label, **({"audience": chance.choice(audience)} if label.startswith("amber") else {})}
        if not own or chance.random() < 0.3:
            own.append(await minga.create("issues", publishable(ISSUES, **marking)))
            acknowledged[own[-1]["id"]] = own[-1]["version"]
            continue
        place = chance.randrange(len(own))
        record = own[place]
        if record["status"] == "withdrawn":
            answer = await minga.request(
                "POST", f"/v1/issues/{record['id']}/restore", headers={"If-Match": f'"{record["version"]}"'}
            )
            record = answer.json()
        elif chance.random() < 0.15:
            await minga.withdraw("issues", record["id"], version=record["version"])
            record = {**record, "status": "withdrawn", "version": record["version"] + 1}
        else:
            changes = {**marking, "summary": f"Changed by {seed} at {len(own)}, {chance.random()}."}
            record = await minga.patch("issues", record["id"], changes, version=record["version"])
        own[place] = record
        acknowledged[record["id"]] = record["version"]


async def join_and_leave(
    inviting: AsyncMinga, joining: AsyncMinga, network: dict[str, str], reader: dict[str, str], ends_at: float
) -> None:
    path = f"/v1/networks/{network['id']}/members"
    while time.monotonic() < ends_at:
        await inviting.request("POST", path, json={"organisation": reader["id"]})
        await joining.request("POST", f"{path}/{reader['id']}/accept")
        await asyncio.sleep(1)
        await joining.request("DELETE", f"{path}/{reader['id']}")
        await asyncio.sleep(1)
