"""What the client gives back. Records are plain dictionaries, as the service documents them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from app.client.errors import MingaError

Record = dict[str, Any]
Progress = Callable[[int, int | None], None]
"""Called with what is done and, when known, with the total."""


@dataclass(frozen=True, slots=True)
class Change:
    """One item of the feed: a record changed or came into sight (`upsert`), or is gone for you (`removed`)."""

    type: Literal["upsert", "removed"]
    kind: str
    id: str
    version: int
    at: str
    record: Record | None = None
    erased: bool = False


@dataclass(frozen=True, slots=True)
class ChangePage:
    """A page of the feed. Keep `next` once the items are stored; `more` says that others wait already."""

    items: Sequence[Change]
    next: str
    more: bool

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "ChangePage":
        """The page a feed document holds. Members that are not known yet are passed over.

        Errors: MingaError when it holds something else.
        """
        given, after = document.get("items"), document.get("next")
        if not isinstance(given, list) or not isinstance(after, str):
            raise MingaError("the service sent no page of changes")
        return cls([_change(item) for item in given], after, bool(document.get("more")))


def _change(item: Any) -> Change:
    if not isinstance(item, dict):
        raise MingaError("the service sent no page of changes")
    words = [item.get(name) for name in ("kind", "id", "at")]
    version, record = item.get("version"), item.get("record")
    if (
        item.get("type") not in ("upsert", "removed")
        or not all(isinstance(word, str) and word for word in words)
        or type(version) is not int
        or not isinstance(record, dict | None)
    ):
        raise MingaError("the service sent a change that is none")
    kind, id_, at = map(str, words)
    return Change(item["type"], kind, id_, version, at, record, bool(item.get("erased")))


def list_page(document: Mapping[str, Any], asked: str) -> tuple[list[Record], str | None]:
    """Items of a page of a list, and the address of the next. Errors: MingaError, also for a page that leads on
    without holding anything, or to itself: such a list would have no end."""
    items, after = document.get("items"), document.get("next")
    endless = after is not None and (after == asked or not items)
    if not isinstance(items, list) or not isinstance(after, str | None) or endless:
        raise MingaError("the service sent no page of a list")
    return items, after


@dataclass(frozen=True, slots=True)
class ImportReport:
    """How an import ended. `problems` names line, pointer and code of each line that was refused: the first 1,000.

    With `more` the service holds more problems, or in a dry run lines, than are in here: `import_entries` gives them
    all. Without `complete` even that is not everything, because some found no room.
    """

    id: str | None
    status: str
    created: int
    updated: int
    unchanged: int
    failed: int
    problems: Sequence[Mapping[str, Any]]
    document: Mapping[str, Any]
    more: bool = False
    complete: bool = True

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "ImportReport":
        """The report an import document holds. Errors: MingaError when it holds none."""
        counts = document.get("counts")
        if not isinstance(counts, dict) or not all(
            type(counts.get(name)) is int for name in ("created", "updated", "unchanged", "failed")
        ):
            raise MingaError("the service sent no counts for the import")
        kept = ((document.get(f"{name}_kept", 0), document.get(name, ())) for name in ("problems", "lines"))
        return cls(
            document.get("id"),
            document["status"],
            counts["created"],
            counts["updated"],
            counts["unchanged"],
            counts["failed"],
            document.get("problems", ()),
            document,
            any(number > len(shown) for number, shown in kept),
            bool(document.get("complete", True)),
        )


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote, and the feed address from which to follow on for an exact copy."""

    rows: int
    size_bytes: int
    feed: str | None
