"""The difference of two issue lists, as one reader may see it. Pure."""

from collections.abc import Mapping
from typing import Any

from app.records.state import State


def difference(first: State, second: State, titles: Mapping[str, str]) -> dict[str, Any]:
    """What leads from the first list to the second; `titles` names the issues this reader may see, others are left out.

    Places count from 1 in each list as the reader sees it.
    """
    before, after = _items(first, titles), _items(second, titles)
    was, now = ({issue: place for place, issue in enumerate(items, 1)} for items in (before, after))
    return {
        "from": {"id": first.id, "version": first.version, "stage": first.stage, "title": first.body["title"]},
        "to": {"id": second.id, "version": second.version, "stage": second.stage, "title": second.body["title"]},
        "removed": [_entry(issue, titles, place=was[issue]) for issue in before if issue not in now],
        "added": [_entry(issue, titles, place=now[issue]) for issue in after if issue not in was],
        "moved": [
            _entry(issue, titles, from_place=was[issue], to_place=now[issue])
            for issue in after
            if issue in was and was[issue] != now[issue]
        ],
        "notes_changed": [
            _entry(issue, titles) for issue in after if issue in was and _notes(before[issue]) != _notes(after[issue])
        ],
        "unchanged": sum(
            1
            for issue in after
            if issue in was and was[issue] == now[issue] and _notes(before[issue]) == _notes(after[issue])
        ),
    }


def _items(state: State, titles: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    return {item["issue"]: item for item in state.body["items"] if item["issue"] in titles}


def _notes(item: Mapping[str, Any]) -> tuple[Any, Any]:
    return item.get("note"), item.get("regional_notes")


def _entry(issue: str, titles: Mapping[str, str], **places: int) -> dict[str, Any]:
    return {"issue": issue, "title": titles[issue], **places}
