"""Rate limits that all workers share: sliding windows of the library `limits` in a Valkey or Redis."""

import logging
import math
import time

from limits import RateLimitItem, RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

BURST_WINDOW_SECONDS = 10
RETRY_STORE_SECONDS = 5.0
STORE_TIMEOUT_SECONDS = 0.25

log = logging.getLogger("minga.rate")


class SharedWindows:
    """A budget of n a minute and bursts of b is kept as two windows: n in 60 s, and b in 10 s.

    A store that does not answer is left alone for five seconds; meanwhile `take` gives None.
    """

    def __init__(self, address: str) -> None:
        # The client for Valkey speaks to Redis as well; `limits` names it by the scheme of the address.
        scheme, _, rest = address.partition("://")
        plain = scheme.replace("redis", "valkey")
        self._storage = RedisStorage(
            f"async+{plain}://{rest}",
            implementation="valkey",
            key_prefix="minga",
            socket_timeout=STORE_TIMEOUT_SECONDS,
            socket_connect_timeout=STORE_TIMEOUT_SECONDS,
        )
        self._windows = SlidingWindowCounterRateLimiter(self._storage)
        self._items: dict[tuple[str, int, int], tuple[RateLimitItem, RateLimitItem]] = {}
        self._silent_until = 0.0

    async def take(self, name: str, per_minute: int, burst: int, key: str, cost: int) -> tuple[bool, int, int] | None:
        """(allowed, remaining, seconds until the window has moved on), or None when the store does not answer."""
        if time.monotonic() < self._silent_until:
            return None
        items = self._items.get((name, per_minute, burst))
        if items is None:
            items = (
                RateLimitItemPerSecond(burst, BURST_WINDOW_SECONDS, namespace=f"{name}-burst"),
                RateLimitItemPerMinute(per_minute, namespace=name),
            )
            self._items[(name, per_minute, burst)] = items
        try:
            for item in items:
                if not await self._windows.hit(item, key, cost=cost):
                    stats = await self._windows.get_window_stats(item, key)
                    return False, 0, max(1, math.ceil(stats.reset_time - time.time()))
            stats = await self._windows.get_window_stats(items[1], key)
        except Exception as error:
            # Whatever the store's client raises, requests go on with the buckets in memory.
            self._silent_until = time.monotonic() + RETRY_STORE_SECONDS
            log.warning("rate limit store does not answer: %s", type(error).__name__)
            return None
        return True, stats.remaining, max(0, math.ceil(stats.reset_time - time.time()))

    async def close(self) -> None:
        """Closes the connections to the store."""
        await self._storage.bridge.get_connection().aclose()  # type: ignore[attr-defined]  # declared by each bridge
