"""Token buckets in memory: how many requests a caller has left.

`limits` in memory would cost 4 to 8 µs for each window and again for its figures; a bucket costs about 1 µs and knows
bursts (docs/decisions/0401-token-buckets.md).
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

MAXIMUM_KEYS = 100_000


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
        # Buckets idle for a minute are full again or nearly so. If a flood of keys is younger, the fuller half goes: an
        # emptied bucket must not be full again because of a flood.
        young = {place: kept for place, kept in self._levels.items() if now - kept[1] < 60}
        if len(young) > MAXIMUM_KEYS // 2:
            emptiest = sorted(young.items(), key=lambda entry: entry[1][0])
            young = dict(emptiest[: MAXIMUM_KEYS // 2])
        self._levels = young
