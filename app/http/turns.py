"""Fair turns: a process works on a few requests of each organisation at once; nobody else stands behind the rest."""

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

TURNS = 4
"""Requests of one organisation (or address) that a process works on at once; the others wait for their turn."""
MAXIMUM_WAITING = 100


@dataclass(slots=True)
class _Queue:
    working: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class Turns:
    """Fair turns: each organisation has a few places, so nobody stands behind all requests of another."""

    def __init__(self, places: int = TURNS) -> None:
        self._places = places
        self._queues: dict[str, _Queue] = {}

    def working(self, key: str) -> int:
        """How many requests of this organisation are worked on now."""
        return self._queues[key].working if key in self._queues else 0

    def waiting(self, key: str) -> int:
        """How many wait for their turn."""
        return len(self._queues[key].waiting) if key in self._queues else 0

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
                with suppress(ValueError):  # whoever gave a place back meanwhile has passed it over
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
