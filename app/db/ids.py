"""Ids: UUID version 7 (RFC 9562), made here because PostgreSQL has them only from 18 on."""

import os
import time
from uuid import UUID

_last_millisecond = 0
_counter = 0


def new_id() -> UUID:
    """A new id; ids made by one process sort in the order they were made.

    The twelve bits behind the time count ids of one millisecond and start low, so that a burst does not run over;
    the remaining 62 bits are random.
    """
    global _last_millisecond, _counter
    now = time.time_ns() // 1_000_000
    if now > _last_millisecond:
        _last_millisecond, _counter = now, os.urandom(1)[0]
    else:
        _counter += 1
        if _counter > 0xFFF:
            _last_millisecond, _counter = _last_millisecond + 1, 0
    random = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
    return UUID(int=(_last_millisecond << 80) | (0x7 << 76) | (_counter << 64) | (0b10 << 62) | random)
