"""The feed: no gap, no leak, and for each reader exactly what that reader may hold."""

import asyncio
import random
import time
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.exchange import changes, feed, feed_place
from app.exchange.wake import Bell
from app.identity import networks
from app.identity.caller import ANONYMOUS
from app.kinds.cases import CASES
from app.kinds.issues import ISSUES
from app.records.store import CHANGES_CHANNEL
from tests.conftest import SCOPES, MakeOrganisation, Member
from tests.exchange.follower import Follower, settled
from tests.records.bodies import publishable

pytestmark = pytest.mark.anyio


async def made(client: httpx.AsyncClient, owner: Member, **given: Any) -> dict[str, Any]:
    body = publishable(ISSUES, **given)
    answer = await client.post("/v1/issues", json=body, headers=owner.headers)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def patched(client: httpx.AsyncClient, owner: Member, record: dict[str, Any], **given: Any) -> dict[str, Any]:
    headers = {**owner.headers, "If-Match": f'"{record["version"]}"'}
    answer = await client.patch(f"/v1/issues/{record['id']}", json=given, headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def withdrawn(client: httpx.AsyncClient, owner: Member, record: dict[str, Any]) -> None:
    headers = {**owner.headers, "If-Match": f'"{record["version"]}"'}
    answer = await client.delete(f"/v1/issues/{record['id']}", headers=headers)
    assert answer.status_code in (200, 204), answer.text


async def test_each_reader_gets_what_it_may_read(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner, named, other = [await make_organisation(f"Example CSO {letter}") for letter in "ABC"]
    clear = await made(client, owner, tlp="clear")
    green = await made(client, owner, tlp="green")
    amber = await made(client, owner, tlp="amber", audience=[str(named.id)])
    draft = await made(client, owner, status="draft")
    expected = {
        "owner": [clear, green, amber, draft],
        "named": [clear, green, amber],
        "other": [clear, green],
        "public": [clear],
    }
    readers = {"owner": owner.headers, "named": named.headers, "other": other.headers, "public": {}}
    for name, headers in readers.items():
        follower = Follower(client, headers, {"limit": 1, "include": "record"})
        await settled(follower)
        assert set(follower.copy) == {record["id"] for record in expected[name]}, name
        for record_id, record in follower.copy.items():
            shown = (await client.get(f"/v1/issues/{record_id}", headers=headers)).json()
            assert record == shown


async def test_tightening_withdrawing_and_erasing_remove_and_relaxing_brings_back(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner, other = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    follower = Follower(client, other.headers)
    first = await made(client, owner, tlp="green")
    second = await made(client, owner, tlp="green")
    third = await made(client, owner, tlp="green")
    await settled(follower)
    assert set(follower.copy) == {first["id"], second["id"], third["id"]}
    first = await patched(client, owner, first, tlp="amber+strict")
    await withdrawn(client, owner, second)
    erased = await client.post(f"/v1/issues/{third['id']}/erase", headers={**owner.headers, "If-Match": '"1"'})
    assert erased.status_code == 200, erased.text
    assert follower.next is not None
    items = []
    for _ in range(2400):
        answer = await client.get(follower.next, headers=other.headers)
        items = answer.json()["items"]
        if len(items) == 3:
            break
        await asyncio.sleep(0.05)
    assert [(item["type"], item["id"], item["version"], item.get("erased")) for item in items] == [
        ("removed", first["id"], 2, None),
        ("removed", second["id"], 2, None),
        ("removed", third["id"], 2, True),
    ]
    await settled(follower)
    assert follower.copy == {}
    await patched(client, owner, first, tlp="clear")
    await settled(follower)
    assert follower.versions == {first["id"]: 3}
    anew = Follower(client, other.headers)
    await settled(anew)
    assert anew.versions == {first["id"]: 3}


async def test_page_with_records_ends_with_the_record_that_fills_it(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, reader = await make_organisation(), await make_organisation()
    records = [await made(client, owner, tlp="green", description="x" * 15_000) for _ in range(7)]
    monkeypatch.setattr(feed, "RECORD_BYTES", 20_000)
    follower = Follower(client, reader.headers, {"include": "record", "limit": 1000})
    thin = Follower(client, reader.headers, {"limit": 1000})
    for title in ("One title", "Another title"):
        await settled(thin)  # so that no transaction of another test stands before ours
        sizes, more = [], True
        while more:
            held = dict(follower.copy)
            more = await follower.step()
            sizes.append(sum(record != held.get(one) for one, record in follower.copy.items()))
        assert [size for size in sizes if size] == [2, 2, 2, 1]
        assert follower.copy == {one["id"]: await shown_to(client, reader, one) for one in records}
        records = [await patched(client, owner, one, title=title) for one in records]
    assert len(thin.copy) == 7


async def shown_to(client: httpx.AsyncClient, reader: Member, record: dict[str, Any]) -> dict[str, Any]:
    return dict((await client.get(f"/v1/issues/{record['id']}", headers=reader.headers)).json())


async def test_hidden_changes_do_not_show(client: httpx.AsyncClient, make_organisation: MakeOrganisation) -> None:
    owner, other = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    record = await made(client, owner, tlp="green")
    follower = Follower(client, other.headers)
    await settled(follower)
    assert follower.next is not None
    start, lengths = follower.next, {len(follower.next)}
    record = await patched(client, owner, record, tlp="amber+strict")
    for number in range(3):
        record = await patched(client, owner, record, summary=f"hidden {number}")
        await made(client, owner, tlp="amber+strict")
        item: dict[str, Any] = {}
        for _ in range(2400):
            page = (await client.get(start, headers=other.headers)).json()
            lengths.add(len(page["next"]))
            if page["items"]:
                (item,) = page["items"]
                assert not page["more"]
                break
            await asyncio.sleep(0.05)
        assert (item["type"], item["version"]) == ("removed", 2), "the version that hid it, not the hidden ones"
    assert len(lengths) == 1


async def test_cursor_fits_one_reader_and_one_choice(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner, other = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    page = (await client.get("/v1/changes", params={"kinds": "issues,case"}, headers=owner.headers)).json()
    again = (await client.get("/v1/changes", params={"kinds": ["case", "issue"]}, headers=owner.headers)).json()
    assert page["next"] != again["next"], "a cursor shows nothing, not even that nothing happened"
    assert page["next"].startswith("http://minga.test/v1/changes?kinds=case&kinds=issue&after=")
    assert (await client.get(page["next"], headers=other.headers)).json()["code"] == "resync-required"
    assert (await client.get(page["next"])).status_code == 410
    cursor = httpx.URL(page["next"]).params["after"]
    answers = {
        f"?after={cursor}": 400,
        f"?kinds=case&after={cursor}": 400,
        f"?kinds=case&kinds=issue&after={cursor[:-2]}AA": 400,
        "?after=abc": 400,
        "?after=": 400,
        "?since=1": 400,
        "?wait=31": 400,
        "?kinds=secret": 400,
        f"?kinds=issue&kinds=case&after={cursor}": 200,
    }
    for query, status in answers.items():
        assert (await client.get(f"/v1/changes{query}", headers=owner.headers)).status_code == status, query


async def test_place_names_a_change_that_the_disk_holds(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """Numbers of transactions that left no trace are given out again after a crash; no place may lie beyond them."""
    owner = await make_organisation("Example CSO A")
    await made(client, owner, tlp="green")
    async with app.state.database.connection() as connection:
        cursor = await connection.execute("SELECT max(xid::text::bigint) FROM revision")
        (last,) = await cursor.fetchone()
        for _ in range(3):
            await connection.execute("SELECT pg_current_xact_id()")
        end = await feed_place.now(connection)
        while end.xid < last:  # a transaction of another test holds the horizon back
            await asyncio.sleep(0.02)
            end = await feed_place.now(connection)
        assert end.xid == last
        assert end.seq >= 0
        page = await feed.page(connection, ANONYMOUS, feed.Wanted(), end, 10)
        assert (page.items, page.place) == ([], end)


async def test_older_copy_put_back_asks_for_a_fresh_start(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner = await make_organisation("Example CSO A")
    kept = await made(client, owner, tlp="green")
    follower = Follower(client, owner.headers)
    await settled(follower)
    first = follower.next
    lost = await made(client, owner, tlp="green")
    await settled(follower)
    second = follower.next
    assert first is not None
    assert second is not None
    async with app.state.database.connection() as connection:
        await connection.execute("DELETE FROM revision WHERE record_id = %s", [lost["id"]])
    await patched(client, owner, kept, summary="After the restore.")
    await settled(Follower(client, owner.headers))
    assert (await client.get(second, headers=owner.headers)).json()["code"] == "resync-required"
    page = (await client.get(f"{first}&wait=30", headers=owner.headers)).json()
    assert [item["id"] for item in page["items"]] == [kept["id"]]


async def test_numbers_given_out_again_after_a_restore_name_no_place_of_before(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """An older copy that was put back counts on from where it stood: the next change gets the numbers of a lost one."""
    owner = await make_organisation("Example CSO A")
    follower = Follower(client, owner.headers)
    await settled(follower)
    lost = await made(client, owner, tlp="green")
    await settled(follower)
    assert set(follower.copy) == {lost["id"]}
    async with app.state.database.connection() as connection:
        cursor = await connection.execute(
            "DELETE FROM revision WHERE record_id = %s RETURNING xid::text, seq", [lost["id"]]
        )
        xid, seq = await cursor.fetchone()
        await connection.execute("SELECT setval(pg_get_serial_sequence('revision', 'seq'), %s, false)", [seq])
    other = await made(client, owner, tlp="green")
    async with app.state.database.connection() as connection:
        await connection.execute("UPDATE record SET status = 'withdrawn' WHERE id = %s", [lost["id"]])
        cursor = await connection.execute(
            "UPDATE revision SET xid = %s::xid8 WHERE record_id = %s RETURNING seq", [xid, other["id"]]
        )
        assert await cursor.fetchone() == (seq,)
    await settled(follower)
    assert follower.resyncs == 1
    assert set(follower.copy) == {other["id"]}


async def test_erasure_of_what_was_hidden_before_does_not_show(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner, other = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    record = await made(client, owner, tlp="green")
    follower = Follower(client, other.headers)
    await settled(follower)
    start = follower.next
    assert start is not None
    hidden = await patched(client, owner, record, tlp="amber+strict")
    await settled(follower)
    before = (await client.get(start, headers=other.headers)).json()["items"]
    headers = {**owner.headers, "If-Match": f'"{hidden["version"]}"'}
    assert (await client.post(f"/v1/issues/{record['id']}/erase", headers=headers)).status_code == 200
    own = Follower(client, owner.headers)
    await settled(own)
    assert (await client.get(start, headers=other.headers)).json()["items"] == before


async def test_who_waits_without_a_token_takes_no_place_of_another_address(
    app: FastAPI, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MOST_WAITING", 1)
    start = (await client.get("/v1/changes")).json()["next"]
    answers: dict[str, asyncio.Task[httpx.Response]] = {}
    for address in ("192.0.2.1", "192.0.2.1 again", "192.0.2.2"):
        transport = httpx.ASGITransport(app, client=(address.split()[0], 1))
        there = httpx.AsyncClient(transport=transport, base_url="http://minga.test")
        answers[address] = asyncio.create_task(there.get(start + "&wait=20"))
        await asyncio.sleep(0.3)
    assert (await asyncio.wait_for(answers["192.0.2.1 again"], 10)).json()["items"] == []
    assert not answers["192.0.2.1"].done()
    assert not answers["192.0.2.2"].done()
    app.state.bell.end()
    for answer in await asyncio.gather(*answers.values()):
        assert answer.status_code == 200


async def test_news_that_come_while_one_looks_are_not_missed() -> None:
    bell = Bell("postgresql://not-asked")
    ring = bell.coming(CHANGES_CHANNEL)
    bell.ring(CHANGES_CHANNEL)
    assert await bell.wait(CHANGES_CHANNEL, 0.01, ring)
    assert not await bell.wait(CHANGES_CHANNEL, 0.01)


async def test_joining_a_network_asks_for_a_fresh_start(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    network = await make_organisation("Example Network", network=True, kind="network")
    owner, joining = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    record = await made(client, owner, tlp="amber", audience=[str(network.id)])
    follower = Follower(client, joining.headers)
    await settled(follower)
    assert follower.copy == {}
    async with app.state.database.transaction() as connection:
        await networks.add_member_by_operator(connection, network.id, joining.id)
    app.state.identity.forget()
    await settled(follower)
    assert follower.resyncs == 1
    assert (await client.get(record["url"], headers=joining.headers)).status_code == 200
    assert set(follower.copy) == {record["id"]}


async def test_filters_follow_what_enters_and_leaves(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner, other = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    africa = await made(client, owner, tlp="green", countries=["CD"], regions=["AFR"])
    americas = await made(client, owner, tlp="green", countries=["UY"], regions=["LAC"])
    body = publishable(CASES, tlp="green", countries=["CD"])
    case = (await client.post("/v1/cases", json=body, headers=owner.headers)).json()
    region = Follower(client, other.headers, {"region": "AFR"})
    issues = Follower(client, other.headers, {"kinds": "issue", "owner": str(owner.id)})
    nobody = Follower(client, other.headers, {"owner": str(other.id)})
    for follower in (region, issues, nobody):
        await settled(follower)
    assert set(region.copy) == {africa["id"], case["id"]}
    assert set(issues.copy) == {africa["id"], americas["id"]}
    assert nobody.copy == {}
    africa = await patched(client, owner, africa, countries=["UY"], regions=["LAC"])
    americas = await patched(client, owner, americas, countries=["CD"], regions=["AFR"])
    await settled(region)
    assert set(region.copy) == {americas["id"], case["id"]}
    americas = await patched(client, owner, americas, tlp="amber+strict")
    await patched(client, owner, americas, countries=["UY"], regions=["LAC"])
    await settled(region)
    assert set(region.copy) == {case["id"]}


async def test_wait_ends_with_a_visible_change_or_at_its_end(
    client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner, other = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    follower = Follower(client, other.headers)
    await settled(follower)
    waiting = asyncio.create_task(follower.step(wait=30))
    await asyncio.sleep(0.3)
    await made(client, owner, tlp="amber+strict")
    await asyncio.sleep(0.3)
    assert not waiting.done()
    record = await made(client, owner, tlp="clear")
    await asyncio.wait_for(waiting, 120)
    assert set(follower.copy) == {record["id"]}
    started = time.monotonic()
    await follower.step(wait=1)
    assert time.monotonic() - started > 0.9


async def test_revoked_token_ends_the_wait(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    owner, other = await make_organisation("Example CSO A"), await make_organisation("Example CSO B")
    follower = Follower(client, other.headers)
    await settled(follower)
    assert follower.next is not None
    waiting = asyncio.create_task(client.get(follower.next + "&wait=20", headers=other.headers))
    await asyncio.sleep(0.2)
    async with app.state.database.transaction() as connection:
        await connection.execute("UPDATE credential SET revoked_at = now() WHERE client_id = %s", [other.client_id])
    app.state.identity.forget()
    await made(client, owner, tlp="clear")
    answer = await asyncio.wait_for(waiting, 120)
    assert answer.status_code == 401


async def test_scope_is_needed_with_a_token(client: httpx.AsyncClient, make_organisation: MakeOrganisation) -> None:
    scopes = [scope for scope in SCOPES if scope != "records:read"]
    narrow = await make_organisation(scopes=scopes)
    assert (await client.get("/v1/changes", headers=narrow.headers)).status_code == 403
    assert (await client.get("/v1/changes")).status_code == 200


async def test_followers_of_concurrent_writers_end_with_the_true_copy(
    app: FastAPI, client: httpx.AsyncClient, make_organisation: MakeOrganisation
) -> None:
    """Writers whose transactions overlap, tightening and relaxing in the mix; followers of several page sizes."""
    owners = [await make_organisation(f"Example CSO {letter}") for letter in "ABCD"]
    reader = await make_organisation("Example CSO R")
    followers = [
        Follower(client, headers, {"limit": limit})
        for headers, limit in ((reader.headers, 1), (reader.headers, 7), (owners[0].headers, 100), ({}, 3))
    ]
    ends_at = time.monotonic() + 4
    stop = asyncio.Event()

    async def write(owner: Member, seed: int) -> None:
        chance = random.Random(seed)
        own: list[dict[str, Any]] = []
        while time.monotonic() < ends_at:
            if not own or chance.random() < 0.4:
                own.append(await made(client, owner, tlp=chance.choice(["clear", "green", "amber+strict"])))
            else:
                place = chance.randrange(len(own))
                own[place] = await patched(
                    client, owner, own[place], tlp=chance.choice(["clear", "green", "amber", "amber+strict"])
                )

    async def follow(follower: Follower) -> None:
        while not stop.is_set():
            await follower.step()

    following = [asyncio.create_task(follow(follower)) for follower in followers]
    await asyncio.gather(*(write(owner, number) for number, owner in enumerate(owners)))
    stop.set()
    await asyncio.gather(*following)
    for follower in followers:
        await settled(follower)
        expected = {}
        url: str | None = "/v1/issues?limit=200&sort=created_at"
        while url:
            page = (await client.get(url, headers=follower.headers)).json()
            expected |= {item["id"]: item["version"] for item in page["items"]}
            url = page["next"]
        assert follower.versions == expected
