"""Differences between two versions, as a list of changes with JSON Pointers."""

from collections.abc import Iterator, Mapping
from typing import Any


def changes(before: Any, after: Any, at: str = "") -> Iterator[dict[str, Any]]:
    """What turns `before` into `after`: `{op: add|remove|replace, pointer, before?, after?}`, in order of fields.

    Objects are compared field by field; lists as a whole, because their elements have no names.
    """
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in (*before, *(name for name in after if name not in before)):
            pointer = f"{at}/{name.replace('~', '~0').replace('/', '~1')}"
            if name not in after:
                yield {"op": "remove", "pointer": pointer, "before": before[name]}
            elif name not in before:
                yield {"op": "add", "pointer": pointer, "after": after[name]}
            else:
                yield from changes(before[name], after[name], pointer)
    elif before != after:
        yield {"op": "replace", "pointer": at, "before": before, "after": after}
