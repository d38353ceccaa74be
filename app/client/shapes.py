"""What the client gives back. Records are plain dictionaries, as the service documents them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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
        """The page a feed document holds. Members that are not known yet are passed over."""
        items = [
            Change(
                item["type"],
                item["kind"],
                item["id"],
                item["version"],
                item["at"],
                item.get("record"),
                bool(item.get("erased")),
            )
            for item in document["items"]
        ]
        return cls(items, document["next"], bool(document["more"]))


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
        """The report an import document holds."""
        counts = document["counts"]
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
