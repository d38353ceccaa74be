"""Rate limits: token buckets for each credential, organisation and address, and fair turns among organisations.

Buckets live in the memory of a process; with N workers each enforces 1/N. With `MINGA_RATE_LIMIT_STORE` (a Valkey or
Redis) all workers share sliding windows of the library `limits`; while the store is away the buckets in memory serve.
`limits` in memory would cost 4 to 8 µs for each window and again for its figures; a bucket costs about 1 µs and knows
bursts (docs/decisions/0401-token-buckets.md).

Source: api.md §1, rules B16, safety O1 and A13; draft-ietf-httpapi-ratelimit-headers-10.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Network
from typing import Any
from uuid import UUID

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.problem import Problem
from app.http.shared_rate import SharedWindows

MAXIMUM_KEYS = 100_000
REFUSAL_SECONDS = 0.1
"""A refusal is answered this much later for each other refusal of the same caller that is still held back, at most a
second: a client that ignores Retry-After on many connections slows only itself."""
LONGEST_REFUSAL_SECONDS = 1.0
TURNS = 4
"""Requests of one organisation (or address) that a process works on at once; the others wait for their turn."""
MAXIMUM_WAITING = 100
STATE = "minga.rate"


@dataclass(frozen=True, slots=True)
class Budget:
    """So many requests a minute on average, and at most `burst` at once."""

    name: str
    per_minute: int
    burst: int


CREDENTIAL = Budget("credential", 600, 200)
ORGANISATION = Budget("organisation", 2400, 800)
ADDRESS = Budget("address", 600, 200)
BULK = Budget("bulk", 60, 20)
TOKEN = Budget("token", 60, 60)
WRONG_SECRET = Budget("wrong-secret", 60, 60)
WRONG_SECRET_ADDRESS = Budget("wrong-secret-address", 120, 120)
BUDGETS = (CREDENTIAL, ORGANISATION, ADDRESS, BULK, TOKEN)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request may pass, what is left, and when (seconds) the bucket is full, or holds enough again."""

    budget: Budget
    allowed: bool
    remaining: int
    reset_seconds: int


class Buckets:
    """Token buckets in memory: `take` decides in about a microsecond. `share` is this process's part of each budget."""

    def __init__(self, share: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._clock = clock
        self._levels: dict[tuple[str, str], tuple[float, float]] = {}

    def take(self, budget: Budget, key: str, cost: float = 1.0) -> Decision:
        """Takes `cost` out of the bucket of `key` if it holds that much."""
        now = self._clock()
        size = max(1.0, budget.burst * self._share)
        speed = budget.per_minute * self._share / 60
        place = (budget.name, key)
        level, seen = self._levels.get(place, (size, now))
        level = min(size, level + (now - seen) * speed)
        allowed = level >= cost
        if allowed:
            level -= cost
            wait = (size - level) / speed
        else:
            wait = (min(cost, size) - level) / speed
        if place not in self._levels and len(self._levels) >= MAXIMUM_KEYS:
            self._forget(now)
        self._levels[place] = (level, now)
        return Decision(budget, allowed, int(level), math.ceil(wait))

    def _forget(self, now: float) -> None:
        # Buckets idle for a minute are full again or nearly so; if a flood of keys is younger, the oldest half goes.
        self._levels = {place: kept for place, kept in self._levels.items() if now - kept[1] < 60}
        for place in list(self._levels)[: max(0, len(self._levels) - MAXIMUM_KEYS // 2)]:
            del self._levels[place]


@dataclass(slots=True)
class _Queue:
    working: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class Turns:
    """Fair turns: each organisation has a few places, so nobody stands behind all requests of another."""

    def __init__(self, places: int = TURNS) -> None:
        self._places = places
        self._queues: dict[str, _Queue] = {}

    async def enter(self, key: str) -> bool:
        """Waits for a place; False when too many wait already."""
        queue = self._queues.setdefault(key, _Queue())
        if queue.working < self._places:
            queue.working += 1
            return True
        if len(queue.waiting) >= MAXIMUM_WAITING:
            return False
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave(key)
            else:
                queue.waiting.remove(turn)
            raise
        return True

    def leave(self, key: str) -> None:
        """Gives the place to the next who waits."""
        queue = self._queues[key]
        while queue.waiting:
            turn = queue.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        queue.working -= 1
        if not queue.working:
            del self._queues[key]


@dataclass(slots=True)
class _Ticket:
    """What one request has used: its decisions, and the place it holds."""

    decisions: list[Decision] = field(default_factory=list)
    turns: Turns | None = None
    key: str = ""

    def release(self) -> None:
        if self.turns is not None:
            self.turns.leave(self.key)
            self.turns = None


class RateLimiter:
    """All limits of a process; `app.state.limiter`, or None there when `MINGA_RATE_LIMIT=off`."""

    def __init__(self, *, workers: int = 1, store: str | None = None) -> None:
        self.workers = workers
        self.buckets = Buckets(1 / workers)
        self.turns = Turns()
        self.held: dict[str, int] = {}
        self.shared = None if store is None else SharedWindows(store)

    async def spend(self, budget: Budget, key: str, cost: int = 1) -> Decision:
        """Takes `cost` from a budget, in the shared store when there is one and it answers."""
        if self.shared is not None:
            found = await self.shared.take(budget.name, budget.per_minute, budget.burst, key, cost)
            if found is not None:
                return Decision(budget, *found)
        return self.buckets.take(budget, key, cost)

    async def close(self) -> None:
        """Closes the connections to the shared store."""
        if self.shared is not None:
            await self.shared.close()

    def describe(self) -> dict[str, Any]:
        """The limits as `/v1` publishes them."""
        return {
            "shared_by_all_workers": self.shared is not None or self.workers == 1,
            "workers": self.workers,
            "budgets": {budget.name: {"per_minute": budget.per_minute, "burst": budget.burst} for budget in BUDGETS},
        }


def address_of(request: Request) -> str:
    """The caller's address as a key: an IPv6 host counts as its /64, the smallest block a subscriber gets."""
    host = request.client.host if request.client else "local"
    if ":" not in host:
        return host
    return f"{IPv6Network((host.split('%')[0], 64), strict=False).network_address}/64"


async def _refuse(limiter: RateLimiter, decision: Decision, key: str, ticket: _Ticket | None) -> Problem:
    if ticket is not None:
        ticket.decisions.append(decision)
    held = limiter.held[key] = limiter.held.get(key, 0) + 1
    try:
        await asyncio.sleep(min(LONGEST_REFUSAL_SECONDS, REFUSAL_SECONDS * held))
    finally:
        limiter.held[key] -= 1
        if not limiter.held[key]:
            del limiter.held[key]
    wait = str(max(1, decision.reset_seconds))
    detail = f"The budget '{decision.budget.name}' is used up."
    return Problem("rate-limited", detail=detail, headers={"Retry-After": wait})


async def charge(
    request: Request, *, credential_id: UUID | None = None, organisation_id: UUID | None = None, bulk: bool = False
) -> None:
    """Counts this request and waits for its turn. Without a credential the caller's address pays.

    Call it once for each request, when the caller is known; an endpoint of bulk work calls it again with `bulk`, which
    takes from the bulk budget of the organisation (or address) only.

    Errors: Problem rate-limited (429) with Retry-After.
    """
    limiter: RateLimiter | None = getattr(request.app.state, "limiter", None)
    if limiter is None:
        return
    ticket: _Ticket | None = request.scope.get(STATE)
    if bulk:
        charged = [(BULK, address_of(request) if organisation_id is None else str(organisation_id))]
    elif credential_id is not None:
        charged = [(CREDENTIAL, str(credential_id)), (ORGANISATION, str(organisation_id))]
    else:
        charged = [(ADDRESS, address_of(request))]
    for budget, key in charged:
        decision = await limiter.spend(budget, key)
        if not decision.allowed:
            raise await _refuse(limiter, decision, key, ticket)
        if ticket is not None:
            ticket.decisions.append(decision)
    if ticket is not None and ticket.turns is None and not bulk:
        key = charged[-1][1]
        if not await limiter.turns.enter(key):
            raise await _refuse(limiter, Decision(charged[-1][0], False, 0, 1), key, ticket)
        ticket.turns, ticket.key = limiter.turns, key


async def charge_token_request(request: Request, client_id: str, *, right_secret: bool) -> None:
    """Counts a request for a token, after its secret was compared.

    Wrong secrets are counted apart, by client id and by address: guessing never locks out the true client.

    Errors: Problem rate-limited (429) with Retry-After.
    """
    limiter: RateLimiter | None = getattr(request.app.state, "limiter", None)
    if limiter is None:
        return
    if right_secret:
        charged = [(TOKEN, client_id)]
    else:
        charged = [(WRONG_SECRET_ADDRESS, address_of(request)), (WRONG_SECRET, client_id[:100])]
    for budget, key in charged:
        decision = await limiter.spend(budget, key)
        if not decision.allowed:
            raise await _refuse(limiter, decision, key, request.scope.get(STATE))


def end_turn(request: Request) -> None:
    """Gives the organisation's place back early: a long poll or a long stream waits without working."""
    ticket: _Ticket | None = request.scope.get(STATE)
    if ticket is not None:
        ticket.release()


class RateHeaders:
    """ASGI middleware: gives each request its ticket, writes the RateLimit headers, and ends the turn."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything on; only HTTP requests get a ticket."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        ticket = _Ticket()
        scope[STATE] = ticket

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start" and ticket.decisions:
                headers = MutableHeaders(scope=message)
                headers["RateLimit-Policy"] = ", ".join(
                    f'"{one.budget.name}";q={one.budget.per_minute};w=60' for one in ticket.decisions
                )
                headers["RateLimit"] = ", ".join(
                    f'"{one.budget.name}";r={one.remaining};t={one.reset_seconds}' for one in ticket.decisions
                )
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            ticket.release()
