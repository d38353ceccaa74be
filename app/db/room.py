"""Room on the disk of the embedded database: what writes is refused while less than a reserve is free.

PostgreSQL keeps its data and its write-ahead log on one disk there. Without room for the log it must stop altogether,
reading included; so we stop writing before, and what takes something back may still use the reserve.

Source: docs/decisions/0503-a-reserve-on-the-disk.md; safety W8.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from psycopg.errors import DiskFull

from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Room:
    """The folder of a database, and the bytes that stay free on its disk."""

    folder: Path
    reserve_bytes: int

    def check(self) -> None:
        """Passes while there is room. Errors: psycopg.errors.DiskFull, as when PostgreSQL itself finds none."""
        try:
            disk = os.statvfs(self.folder)
        except OSError:
            return  # no such folder here: the database lives elsewhere, and says itself what it lacks
        if disk.f_bavail * disk.f_frsize < self.reserve_bytes:
            raise DiskFull("less than the reserve is free")


def room_of(settings: Settings) -> Room | None:
    """The room of the embedded database; None for a PostgreSQL of the operator's own, whose disk we do not see."""
    if settings.database_url is not None or not settings.disk_reserve_mb:
        return None
    return Room(settings.data_dir.expanduser().absolute(), settings.disk_reserve_mb * 1_000_000)
