"""No gap and no leak: writers whose transactions overlap over two workers, and followers of many sorts.

While records are made, changed, tightened, relaxed, withdrawn and restored, one reader joins a network and leaves it,
and another organisation is suspended and admitted again. In the end the copy of each follower equals what the reference
model of the visibility matrix says it may hold, and none was ever told of what it never might have read.
"""

import asyncio
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.client import AsyncMinga
from app.kinds.cases import CASES
from app.kinds.issues import ISSUES
from tests.exchange.follower import Follower
from tests.exchange.service import Service
from tests.records.bodies import publishable
from tests.visibility.model import OPEN, Marked, Who, access

pytestmark = pytest.mark.anyio
WRITERS = 8
SETTLING_SECONDS = 300
ENOUGH = 20
PLACES = {"AFR": {"countries": ["CD"], "regions": ["AFR"]}, "LAC": {"countries": ["UY"], "regions": ["LAC"]}}


@dataclass
class Written:
    """What was acknowledged: each record as it was last answered, and who could read it at any time."""

    network: UUID
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    readable_once: dict[UUID | None, set[str]] = field(default_factory=dict)
    readers: tuple[UUID | None, ...] = ()

    def note(self, record: dict[str, Any]) -> None:
        self.records[record["id"]] = record
        for reader in self.readers:
            if access(Who(reader, {self.network}), marked(record)) == OPEN:
                self.readable_once.setdefault(reader, set()).add(record["id"])

    def readable(self, who: Who, query: dict[str, Any]) -> dict[str, int]:
        """The versions a follower with this query must hold."""
        return {
            record_id: record["version"]
            for record_id, record in self.records.items()
            if access(who, marked(record)) == OPEN
            and record["kind"] == query.get("kinds", record["kind"])
            and query.get("region", record["regions"][0]) in record["regions"]
        }


def marked(record: dict[str, Any]) -> Marked:
    audience = frozenset(UUID(one) for one in record["audience"])
    return Marked(UUID(record["organisation"]["id"]), record["tlp"], audience, record["status"], was_published=True)


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
    reader, suspended = [await asyncio.to_thread(service.member, f"Example CSO {letter}") for letter in "RS"]
    network = await asyncio.to_thread(lambda: service.member("Example Network", network=True))
    members = [connect(service, owner) for owner in owners]
    reading, inviting, coming = connect(service, reader), connect(service, network), connect(service, suspended)
    steward = connect(service, await asyncio.to_thread(stewardship, service, network))
    async with httpx.AsyncClient(base_url=service.url, timeout=300) as http:
        tokens = {
            who["id"]: await bearer(minga)
            for who, minga in ((owners[0], members[0]), (reader, reading), (suspended, coming))
        }
        followers = [
            (who, Follower(http, tokens[who["id"]] if who else {}, query))
            for who, query in (
                (reader, {"limit": 1}),
                (reader, {"limit": 50, "include": "record"}),
                (reader, {"limit": 1000, "wait": 1}),
                (reader, {"limit": 5, "kinds": "case"}),
                (reader, {"limit": 2, "region": "AFR", "include": "record"}),
                (owners[0], {"limit": 7}),
                (owners[0], {"limit": 20, "region": "LAC", "kinds": "issue"}),
                (suspended, {"limit": 4}),
                (None, {"limit": 3}),
                (None, {"limit": 10, "region": "LAC", "include": "record"}),
            )
        ]
        written = Written(UUID(network["id"]))
        written.readers = tuple({None if who is None else UUID(who["id"]) for who, _ in followers})
        ends_at, over = time.monotonic() + seconds, asyncio.Event()
        following = [asyncio.create_task(follow(follower, over)) for _, follower in followers]
        moving = [
            asyncio.create_task(join_and_leave(inviting, reading, network, reader, ends_at)),
            asyncio.create_task(suspend_and_admit(steward, suspended, ends_at)),
        ]
        audience = [[reader["id"]], [network["id"]], [suspended["id"]], []]
        await asyncio.gather(*(write(members[n % 3], n, audience, ends_at, written) for n in range(WRITERS)))
        await asyncio.gather(*moving)
        over.set()
        await asyncio.gather(*following)
        for who, follower in followers:
            organisation = None if who is None else UUID(who["id"])
            expected = written.readable(Who(organisation), follower.query)
            await caught_up(follower, expected)
            assert follower.ever <= written.readable_once[organisation], "nothing was told of what was never readable"
            if "include" in follower.query:
                for record_id, record in follower.copy.items():
                    last = written.records[record_id]
                    assert {name: record[name] for name in ("summary", "tlp")} == {
                        name: last[name] for name in ("summary", "tlp")
                    }
        print(f"{len(written.records)} records, {sum(one['version'] for one in written.records.values())} versions")
        for who, follower in followers:
            name = {None: "anonymous", reader["id"]: "reader", suspended["id"]: "suspended"}.get(
                who and who["id"], "owner"
            )
            print(f"{name} {follower.query}: {len(follower.copy)} held, {follower.resyncs} fresh starts", end="; ")
            print(f"{follower.refused} times refused, told of {len(follower.ever)}")
        assert len(written.records) > ENOUGH
        assert followers[0][1].resyncs + followers[1][1].resyncs > 0
        assert sum(follower.resyncs for who, follower in followers if who is suspended) > 0
    for one in (*members, reading, inviting, coming, steward):
        await one.aclose()


async def caught_up(follower: Follower, expected: dict[str, int]) -> None:
    """Follows until the copy is what it must be; the last changes may lie behind a transaction for a while."""
    ends_at = time.monotonic() + SETTLING_SECONDS
    while True:
        await follower.catch_up()
        if follower.versions == expected or time.monotonic() > ends_at:
            break
        await asyncio.sleep(0.2)
    assert follower.versions == expected, follower.query


def stewardship(service: Service, member: dict[str, str]) -> dict[str, str]:
    """Another credential of the organisation, with the scope of a steward."""
    words = ["admin", "credential", "add", "--organisation", member["id"], "--label", "test", "--scope", "steward"]
    return dict(service.run(*words, "--data-dir", str(service.home)))


def connect(service: Service, member: dict[str, str]) -> AsyncMinga:
    return AsyncMinga(service.url, client_id=member["client_id"], client_secret=member["client_secret"])


async def bearer(minga: AsyncMinga) -> dict[str, str]:
    await minga.me()
    return {"Authorization": f"Bearer {minga._session.token}"}


async def follow(follower: Follower, over: asyncio.Event) -> None:
    while not over.is_set():
        if not await follower.step():
            await asyncio.sleep(0.01)


async def write(minga: AsyncMinga, seed: int, audience: list[list[str]], ends_at: float, written: Written) -> None:
    """Makes, changes, moves, tightens, relaxes, withdraws and restores records of its own."""
    chance = random.Random(seed)
    own: list[dict[str, Any]] = []
    while time.monotonic() < ends_at or len(written.records) <= ENOUGH:
        label = chance.choice(["clear", "green", "amber", "amber+strict"])
        marking = {"tlp": label, **({"audience": chance.choice(audience)} if label.startswith("amber") else {})}
        where = PLACES[chance.choice(["AFR", "LAC"])]
        if not own or chance.random() < 0.3:
            kind = chance.choice([ISSUES, CASES])
            record = await minga.create(kind.plural, publishable(kind, **marking, **where))
            own.append(record)
            written.note(record)
            continue
        place = chance.randrange(len(own))
        record = own[place]
        plural = {"issue": "issues", "case": "cases"}[record["kind"]]
        if record["status"] == "withdrawn":
            answer = await minga.request(
                "POST", f"/v1/{plural}/{record['id']}/restore", headers={"If-Match": f'"{record["version"]}"'}
            )
            record = answer.json()
        elif chance.random() < 0.15:
            await minga.withdraw(plural, record["id"], version=record["version"])
            record = {**record, "status": "withdrawn", "version": record["version"] + 1}
        else:
            changes = {**marking, **where, "summary": f"Changed by {seed} at {len(own)}, {chance.random()}."}
            record = await minga.patch(plural, record["id"], changes, version=record["version"])
        own[place] = record
        written.note(record)


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


async def suspend_and_admit(steward: AsyncMinga, member: dict[str, str], ends_at: float) -> None:
    """A steward suspends the organisation and admits it again, at least once."""
    while True:
        for act in ("suspend", "reinstate"):
            await steward.request("POST", f"/v1/organisations/{member['id']}/{act}")
            await asyncio.sleep(1)
        if time.monotonic() > ends_at:
            break
