"""Ending tasks: for sure, also where a library lets a cancellation get lost.

`asyncio.wait_for` of Python 3.11 drops a cancellation that comes together with the result, and a task that loops around
it goes on as if nothing had been said. So it is said again until the task has ended.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

SAID_AGAIN_SECONDS = 0.5


async def end(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancels the tasks and waits until all have ended; what they raise is not raised here."""
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        ended, running = await asyncio.wait(running, timeout=SAID_AGAIN_SECONDS)
        for task in ended:
            if not task.cancelled():
                task.exception()
