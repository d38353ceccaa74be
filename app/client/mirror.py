"""A folder that follows the service: one NDJSON file for each kind, and the place in the feed.

    DIR/case.ndjson, DIR/event.ndjson, …   one record a line, in order of id
    DIR/.minga/state.json                  where the feed goes on, and for whom
    DIR/.minga/journal.ndjson              changes received and not yet in the files

A pull appends each page of the feed to the journal, syncs it to the disk, and only then asks for the next. At the end
the journal is folded into the files, each written beside the old one, synced and renamed over it; then the state is
renamed into place, then the journal goes. Killed at any moment, the next pull finds either a journal to go on with or
one to fold again, and folding twice changes nothing.

When the service asks for a fresh start (410 `resync-required`), the journal begins anew, and what it does not hold at
the end is gone from the files.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from app.client.blocking import Minga
from app.client.errors import MingaError, ResyncRequiredError
from app.client.shapes import Progress

PAGE_RECORDS = 200
KIND = re.compile(r"[a-z][a-z0-9-]{0,63}")
FORMAT = 1


@dataclass(frozen=True, slots=True)
class MirrorReport:
    """What a pull did: records written anew or again, records removed, and whether it started afresh."""

    written: int
    removed: int
    fresh: bool
    kinds: dict[str, int]


def pull(minga: Minga, folder: Path, *, progress: Progress | None = None, **filters: Any) -> MirrorReport:
    """Brings `folder` in step with what the organisation may read now.

    `filters` (`kinds`, `region`, `topic`, `owner` …) are remembered; giving others starts afresh.

    Errors: MingaError, also when another pull is at work in the folder; OSError.
    """
    hidden = folder / ".minga"
    # A copy may hold what few may read: a folder made here is closed to other accounts.
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    hidden.mkdir(exist_ok=True, mode=0o700)
    with _alone(hidden / "lock"):
        me = _organisation(minga.me()) if minga.has_credential else None
        wanted = {"format": FORMAT, "organisation": me, "filters": {name: filters[name] for name in sorted(filters)}}
        state = _read_state(hidden / "state.json")
        known = state if state is not None and {name: state.get(name) for name in wanted} == wanted else None
        journal = _Journal(hidden / "journal.ndjson", wanted)
        if journal.place is None and known is None:
            journal.begin(fresh=True)
        elif journal.place is None and known is not None:
            journal.begin(fresh=False, place=known["feed"])
        try:
            _receive(minga, journal, filters, progress)
        except ResyncRequiredError:
            journal.begin(fresh=True)
            _receive(minga, journal, filters, progress)
        report = _fold(folder, journal)
        _replace(hidden / "state.json", lambda out: out.write(_line({**wanted, "feed": journal.place})))
        journal.drop()
        return report


def _organisation(me: dict[str, Any]) -> Any:
    organisation = me.get("organisation")
    if not isinstance(organisation, dict) or not isinstance(organisation.get("id"), str):
        raise MingaError("the service does not say who is calling")
    return organisation["id"]


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise MingaError("another pull is at work in this folder") from None
        yield


def _line(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    except UnicodeEncodeError:
        raise MingaError("the service sent half a character") from None


def _read_state(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return  # folders cannot be synced there; the file system writes its own journal
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as out:
        if path.exists():
            beside.chmod(path.stat().st_mode & 0o777)  # whoever closed a file to others finds it closed
        write(out)
        out.flush()
        os.fsync(out.fileno())
    beside.replace(path)
    _sync_folder(path.parent)


class _Journal:
    """Pages received, each closed by a line that says where the feed goes on. What follows the last such line is not
    trusted: the process died while writing it."""

    def __init__(self, path: Path, wanted: dict[str, Any]) -> None:
        self.path = path
        self.wanted = wanted
        self.fresh = False
        self.place: str | None = None
        self._good = 0
        self._load()

    def _load(self) -> None:
        if not self.path.exists():
            return
        end = 0
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines):
                end += len(line)
                try:
                    entry = json.loads(line)
                except ValueError:
                    break
                if number == 0:
                    if not line.endswith(b"\n") or entry.get("wanted") != self.wanted:
                        return
                    self.fresh, self.place, self._good = entry["fresh"], entry["place"] or "", end
                elif line.endswith(b"\n") and "place" in entry:
                    self.place, self._good = entry["place"], end
        with self.path.open("r+b") as opened:
            opened.truncate(self._good)

    def begin(self, *, fresh: bool, place: str = "") -> None:
        """A new journal; `fresh` means that the files are to hold nothing but what it will hold."""
        self.fresh, self.place = fresh, place
        _replace(self.path, lambda out: out.write(_line({"wanted": self.wanted, "fresh": fresh, "place": place})))

    def append(self, lines: list[bytes], place: str) -> None:
        """Adds a page; it counts once this returns."""
        with self.path.open("ab") as out:
            out.writelines(lines)
            out.write(_line({"place": place}))
            out.flush()
            os.fsync(out.fileno())
        self.place = place

    def drop(self) -> None:
        """The journal is folded: it goes."""
        self.path.unlink()
        _sync_folder(self.path.parent)


def _receive(minga: Minga, journal: _Journal, filters: dict[str, Any], progress: Progress | None) -> None:
    received = 0
    query = {"include": "record", "limit": PAGE_RECORDS, **filters}
    for page in minga.changes(journal.place or None, **query):
        lines = []
        for item in page.items:
            _file_name(item.kind)
            if item.type == "upsert" and item.record is None:
                raise MingaError("the service sent a change without its record")
            if item.record is not None and item.record.get("id") != item.id:
                raise MingaError("the service sent a change with another record")
            lines.append(_line({"kind": item.kind, "id": item.id, "version": item.version, "record": item.record}))
        journal.append(lines, page.next)
        received += len(page.items)
        if progress is not None:
            progress(received, None)


def _fold(folder: Path, journal: _Journal) -> MirrorReport:
    """Merges the journal into the files. In memory are only the places of the last change of each record."""
    last: dict[str, dict[str, tuple[int, int]]] = {}
    start = 0
    with journal.path.open("rb") as lines:
        for line in lines:
            entry = json.loads(line)
            if "id" in entry:
                kind, version = entry["kind"], entry["version"]
                of_kind = last.setdefault(_file_name(kind), {})
                # Items come at least once, and versions of a record never go backwards but by repetition.
                if entry["id"] not in of_kind or version >= of_kind[entry["id"]][0]:
                    of_kind[entry["id"]] = (version, start)
            start += len(line)
    written = removed = 0
    counts: dict[str, int] = {}
    existing = {path.name.removesuffix(".ndjson") for path in folder.glob("*.ndjson")}
    for name in sorted(existing | set(last)):
        path = folder / f"{name}.ndjson"
        changes = last.get(name, {})
        if not changes and not journal.fresh:
            with path.open("rb") as lines:
                counts[name] = sum(1 for _ in lines)
            continue
        merge = _Merge(None if journal.fresh or not path.exists() else path, journal.path, changes)
        _replace(path, merge.write)
        written, removed, counts[name] = written + merge.written, removed + merge.removed, merge.total
    return MirrorReport(written, removed, journal.fresh, counts)


def _file_name(kind: str) -> str:
    if not KIND.fullmatch(kind):
        raise MingaError("the service named a kind that is no file name")
    return kind


class _Merge:
    """One file and the changes of its kind, both walked in order of id."""

    def __init__(self, old: Path | None, journal: Path, changes: dict[str, tuple[int, int]]) -> None:
        self._old = old
        self._journal = journal
        self._changes = changes
        self.written = self.removed = self.total = 0

    def write(self, out: BinaryIO) -> None:
        """Writes the merged file."""
        pending = iter(sorted(self._changes))
        with self._journal.open("rb") as journal:
            change = next(pending, None)
            for record_id, line in self._kept():
                while change is not None and change < record_id:
                    self._put(out, journal, change, held=False)
                    change = next(pending, None)
                if change == record_id:
                    self._put(out, journal, change, held=True)
                    change = next(pending, None)
                else:
                    out.write(line)
                    self.total += 1
            while change is not None:
                self._put(out, journal, change, held=False)
                change = next(pending, None)

    def _kept(self) -> Iterator[tuple[str, bytes]]:
        if self._old is not None:
            with self._old.open("rb") as lines:
                for line in lines:
                    yield json.loads(line)["id"], line

    def _put(self, out: BinaryIO, journal: BinaryIO, record_id: str, *, held: bool) -> None:
        journal.seek(self._changes[record_id][1])
        record = json.loads(journal.readline())["record"]
        if record is None:
            self.removed += held
        else:
            out.write(_line(record))
            self.written += 1
            self.total += 1
