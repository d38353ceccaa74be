"""Leases of webhooks, and filling their logs, in a service whose worker runs elsewhere: here the test is the worker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from app.db.pool import Database
from app.exchange import webhook_filling, webhook_sending
from app.exchange.feed_place import Place
from app.kinds.issues import ISSUES
from app.settings import Settings
from tests.conftest import SECRET, MakeOrganisation, Member
from tests.exchange.receiving import registered, until
from tests.records.bodies import publishable

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path / "data",
        founding_data=False,
        rate_limit="off",
        pool_size=12,
        webhook_loopback=True,
        embedded_worker=False,
    )


@asynccontextmanager
async def webhooks_of(
    app: FastAPI, client: httpx.AsyncClient, owners: list[Member], *, each: int
) -> AsyncIterator[list[UUID]]:
    """Active webhooks of these organisations, with a message due to each; nobody answers at their addresses."""
    ids = [
        UUID((await registered(client, owner, f"http://127.0.0.1:9/{number}"))["id"])
        for owner in owners
        for number in range(each)
    ]
    async with app.state.database.connection() as connection:
        await connection.execute("UPDATE webhook_delivery SET event = 'webhook.ping'")
        await connection.execute("UPDATE webhook SET status = 'active'")
    yield ids


async def test_one_organisation_has_so_many_places_and_no_more(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    greedy, other = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    database = app.state.database
    async with webhooks_of(app, client, [greedy], each=10), webhooks_of(app, client, [other], each=1):
        leases, holders = [], []
        while True:
            holder = uuid4()
            receiver = await webhook_sending.lease(database, SECRET, holder)
            if receiver is None:
                break
            leases.append(receiver)
            holders.append(holder)
        owners = [receiver.organisation_id for receiver in leases]
        assert owners.count(greedy.id) == webhook_sending.ORGANISATION_AT_ONCE
        assert owners.count(other.id) == 1
        await webhook_sending.give_back(database, holders[:1])
        following = await webhook_sending.lease(database, SECRET, uuid4())
        assert following is not None
        assert following.id not in {receiver.id for receiver in leases}, "the one that just had its turn waits longest"


async def test_lease_is_given_back_by_its_holder_only(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner = await make_organisation()
    database = app.state.database
    async with webhooks_of(app, client, [owner], each=1):
        first = await webhook_sending.lease(database, SECRET, uuid4())
        assert first is not None
        assert await webhook_sending.lease(database, SECRET, uuid4()) is None
        async with database.connection() as connection:
            await connection.execute("UPDATE webhook SET leased_until = now()")
        second = await webhook_sending.lease(database, SECRET, uuid4())
        assert second is not None
        assert second.id == first.id
        await webhook_sending.give_back(database, [first.lease])
        await webhook_sending.send_due(database, app.state.settings, first, asyncio.Event())
        async with database.connection() as connection:
            cursor = await connection.execute("SELECT leased_by, attempts FROM webhook, webhook_delivery")
            assert await cursor.fetchone() == (second.lease, 0), "who lost a lease neither sends nor ends another's"


async def test_suspension_while_a_worker_holds_the_lease_keeps_what_is_due(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner = await make_organisation()
    database = app.state.database
    async with webhooks_of(app, client, [owner], each=1):
        receiver = await webhook_sending.lease(database, SECRET, uuid4())
        assert receiver is not None
        async with database.connection() as connection:
            await connection.execute("UPDATE organisation SET status = 'suspended'")
        await webhook_sending.send_due(database, app.state.settings, receiver, asyncio.Event())
        async with database.connection() as connection:
            cursor = await connection.execute("SELECT status, attempts FROM webhook_delivery")
            assert await cursor.fetchall() == [("pending", 0)]
        assert await webhook_sending.lease(database, SECRET, uuid4()) is None
        async with database.connection() as connection:
            await connection.execute("UPDATE organisation SET status = 'active'")
        assert await webhook_sending.lease(database, SECRET, uuid4()) is not None


class Counted(Database):
    """A database that counts how often a connection is asked for."""

    asked = 0

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection[tuple[object, ...]]]:
        self.asked += 1
        async with super().connection() as connection:
            yield connection


async def test_where_nothing_was_written_nothing_is_asked_for_each_webhook(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owners = [await make_organisation(f"Example CSO {letter}") for letter in "ABC"]
    async with webhooks_of(app, client, owners, each=10), Counted(app.state.database.url, size=2) as database:
        looked: webhook_filling.Looked = {}
        assert not await webhook_filling.fill(database, looked)
        assert database.asked > 30
        database.asked = 0
        assert not await webhook_filling.fill(database, looked)
        assert database.asked == 1
        body = publishable(ISSUES, tlp="green")
        assert (await client.post("/v1/issues", json=body, headers=owners[0].headers)).status_code == 201

        async def noted() -> bool:
            await webhook_filling.fill(database, looked)
            async with app.state.database.connection() as connection:
                cursor = await connection.execute(
                    "SELECT count(*) FROM webhook_delivery WHERE event = 'record.changed'"
                )
                return bool(await cursor.fetchone() == (30,))

        await until(noted)
        async with app.state.database.connection() as connection:
            await connection.execute(
                "UPDATE organisation SET access_epoch = access_epoch + 1 WHERE id = %s", [owners[1].id]
            )
        await webhook_filling.fill(database, looked)
        async with app.state.database.connection() as connection:
            cursor = await connection.execute("SELECT count(*) FROM webhook_delivery WHERE event = 'access.changed'")
            assert await cursor.fetchone() == (10,)


async def test_what_concerned_nobody_is_read_once(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, other = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    database = app.state.database
    read: list[tuple[tuple[int, int], tuple[int, int]]] = []
    real = webhook_filling.feed.page

    async def watched(connection: Any, caller: Any, wanted: Any, place: Place, limit: int) -> Any:
        page = await real(connection, caller, wanted, place, limit)
        read.append(((place.xid, place.seq), (page.place.xid, page.place.seq)))
        return page

    monkeypatch.setattr(webhook_filling.feed, "page", watched)
    monkeypatch.setattr(webhook_filling, "STRIDE", 2**62)
    async with webhooks_of(app, client, [owner], each=1), database.connection() as connection:
        looked: webhook_filling.Looked = {}
        for number in range(3):
            body = publishable(ISSUES, title=f"Draft {number}", status="draft")
            assert (await client.post("/v1/issues", json=body, headers=other.headers)).status_code == 201

            async def seen() -> bool:
                await webhook_filling.fill(database, looked)
                last = await (await connection.execute("SELECT max(xid::text::bigint) FROM revision")).fetchone()
                return bool(last == (max(xid for xid, _, _ in looked.values()),))

            await until(seen)
        assert len({end for _, end in read}) >= 3
        assert all(begin >= end for (_, end), (begin, _) in pairwise(read)), "no change is read twice"
        cursor = await connection.execute("SELECT place_xid FROM webhook")
        assert await cursor.fetchone() == read[0][0][:1], "and the webhook itself did not move"
        body = publishable(ISSUES, tlp="green")
        assert (await client.post("/v1/issues", json=body, headers=other.headers)).status_code == 201

        async def noted() -> bool:
            await webhook_filling.fill(database, looked)
            cursor = await connection.execute("SELECT count(*) FROM webhook_delivery WHERE event = 'record.changed'")
            return bool(await cursor.fetchone() == (1,))

        await until(noted)


async def test_what_could_not_be_noted_is_noted_without_waiting_for_other_news(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner = await make_organisation()
    database = app.state.database
    async with webhooks_of(app, client, [owner], each=1), database.connection() as connection:
        looked: webhook_filling.Looked = {}
        await webhook_filling.fill(database, looked)
        await connection.execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN RAISE EXCEPTION USING ERRCODE = 'connection_failure'; END$$"
        )
        await connection.execute(
            "CREATE TRIGGER fail BEFORE INSERT ON webhook_delivery FOR EACH ROW EXECUTE FUNCTION fail()"
        )
        body = publishable(ISSUES, tlp="green")
        assert (await client.post("/v1/issues", json=body, headers=owner.headers)).status_code == 201

        async def fails() -> bool:
            # Until then the change may lie behind another transaction of the cluster.
            try:
                await webhook_filling.fill(database, looked)
            except psycopg.OperationalError:
                return True
            return False

        await until(fails)
        await connection.execute("DROP TRIGGER fail ON webhook_delivery")

        async def noted() -> bool:
            await webhook_filling.fill(database, looked)
            cursor = await connection.execute("SELECT count(*) FROM webhook_delivery WHERE event = 'record.changed'")
            return bool(await cursor.fetchone() == (1,))

        await until(noted)


async def test_next_message_is_found_without_reading_the_log(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner = await make_organisation()
    async with webhooks_of(app, client, [owner], each=1) as (webhook,), app.state.database.connection() as connection:
        for status, count in (("delivered", 20_000), ("pending", 2_000)):
            await connection.execute(
                "INSERT INTO webhook_delivery (id, webhook_id, event, status, finished_at) SELECT gen_random_uuid(),"
                " %s, 'webhook.ping', %s, now() FROM generate_series(1, %s)",
                [webhook, status, count],
            )
        await connection.execute("ANALYZE webhook_delivery")
        asked = {"webhook": webhook, "active": True}
        plan = str(await (await connection.execute(f"EXPLAIN {webhook_sending._NEXT}", asked)).fetchall())
    assert "webhook_delivery_due" in plan
    assert "webhook_delivery_log" not in plan
