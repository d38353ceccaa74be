"""Rate limits: budgets for each credential, organisation and address, and fair turns among organisations.

Buckets live in the memory of a process; with N workers each enforces 1/N. With `MINGA_RATE_LIMIT_STORE` (a Valkey or
Redis) all workers share sliding windows of the library `limits`; while the store is away the buckets in memory serve.

Source: api.md §1, rules B16, safety O1 and A13; draft-ietf-httpapi-ratelimit-headers-10.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.buckets import (
    ADDRESS,
    BUDGETS,
    BULK,
    CREDENTIAL,
    ORGANISATION,
    TOKEN,
    WRONG_SECRET,
    WRONG_SECRET_ADDRESS,
    Buckets,
    Budget,
    Decision,
)
from app.http.peer import address_of
from app.http.problem import Problem
from app.http.shared_rate import SharedWindows
from app.http.turns import Turns

REFUSAL_SECONDS = 0.1
"""A refusal is answered this much later for each other refusal of the same caller that is still held back, at most a
second: a client that ignores Retry-After on many connections slows only itself."""
LONGEST_REFUSAL_SECONDS = 1.0
STATE = "minga.rate"


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
