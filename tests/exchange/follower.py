"""A follower of the feed, as a careful member would write one; it checks what it is promised while it follows."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httpx

Copy = dict[str, dict[str, Any]]


@dataclass
class Follower:
    """Keeps a copy of what `headers` may read. `step` takes one page; `catch_up` all of them.

    `ever` are the records it was told anything of, `refused` counts the answers that it is not welcome now.
    """

    client: httpx.AsyncClient
    headers: dict[str, str]
    query: dict[str, Any] = field(default_factory=dict)
    copy: Copy = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    ever: set[str] = field(default_factory=set)
    next: str | None = None
    resyncs: int = 0
    refused: int = 0

    async def step(self, **query: Any) -> bool:
        """Takes a page; True when more waits. A 410 begins a fresh copy."""
        if self.next is None:
            answer = await self.client.get("/v1/changes", params={**self.query, **query}, headers=self.headers)
        else:
            url = httpx.URL(self.next).copy_merge_params(query)
            answer = await self.client.get(url, headers=self.headers)
        if answer.status_code == 410:
            assert answer.json()["code"] == "resync-required"
            self.next, self.copy, self.seen, self.resyncs = None, {}, {}, self.resyncs + 1
            return True
        if answer.status_code == 401:
            self.refused += 1
            return False
        assert answer.status_code == 200, answer.text
        page = answer.json()
        ids = [item["id"] for item in page["items"]]
        assert len(ids) == len(set(ids)), "one item for each record on a page"
        for item in page["items"]:
            assert item["version"] >= self.seen.get(item["id"], 0), "versions never go backwards"
            self.seen[item["id"]] = item["version"]
            self.ever.add(item["id"])
            if item["type"] == "upsert":
                self.copy[item["id"]] = item.get("record") or {"version": item["version"]}
            else:
                self.copy.pop(item["id"], None)
        self.next = page["next"]
        return bool(page["more"])

    async def catch_up(self, rounds: int = 10_000) -> None:
        """Follows until nothing more waits."""
        while rounds and await self.step():
            rounds -= 1

    @property
    def versions(self) -> dict[str, int]:
        """What the copy holds, by version."""
        return {record_id: record["version"] for record_id, record in self.copy.items()}


async def settled(follower: Follower) -> None:
    """Catches up with everything committed until now, also where it lies behind a transaction of another test."""
    app = follower.client._transport.app  # type: ignore[attr-defined]
    async with app.state.database.connection() as connection:
        row = await (await connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")).fetchone()
        while True:
            held = "SELECT pg_snapshot_xmin(pg_current_snapshot()) < %s::xid8"
            if not (await (await connection.execute(held, row)).fetchone())[0]:
                break
            await asyncio.sleep(0.02)
    await follower.catch_up()
