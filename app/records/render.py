"""Rendering: a record's JSON, made once at write time.

A stored document holds only what depends on the record alone. `url`, the organisation's name and what only the owner
sees are put in front when it is read (`framed`), so that a stored document serves every reader.
"""

from typing import Any
from uuid import UUID

import orjson

from app.records.kind import Kind
from app.records.state import State, instant

RENDER_VERSION = 1
"""Raised when the rendering changes: stored documents of an older one are rendered again at the next start."""

BRIEF = ("title", "language", "summary", "countries", "regions", "topics", "licence")
"""Body fields of the brief view: the shared ones."""

COMPUTED = (
    "id",
    "kind",
    "url",
    "organisation",
    "status",
    "stage",
    "version",
    "created_at",
    "updated_at",
    "published_at",
)
"""Fields of the full view that the service sets."""

OWNER_ONLY = ("external_id", "audience")


def full(state: State) -> bytes:
    """The full document, without its frame."""
    return orjson.dumps(_view(state, state.body))


def brief(kind: Kind, state: State) -> bytes:
    """The brief document, without its frame: the shared fields, and the period of kinds listed by it."""
    names = (*BRIEF, "period") if kind.sort.endswith("period") else BRIEF
    return orjson.dumps(_view(state, {name: state.body.get(name) for name in names}))


def _view(state: State, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": state.id,
        "kind": state.kind,
        "tlp": state.marking.tlp,
        "status": state.status,
        "stage": state.stage,
        "version": state.version,
        **body,
        "created_at": instant(state.created_at),
        "updated_at": instant(state.updated_at),
        "published_at": instant(state.published_at),
    }


def owner(organisation_id: UUID, name: str) -> bytes:
    """The member of a document that names its owner, as `framed` takes it."""
    return b'"organisation":{"id":"%b","name":%b},' % (str(organisation_id).encode(), orjson.dumps(name))


def framed(document: bytes, *, url: str, owner: bytes, owner_sees: tuple[str | None, list[UUID]] | None) -> bytes:
    """The document as one reader gets it; `owner_sees` is (external_id, audience) for the owner, else None."""
    frame = b'{"url":"%b",%b' % (url.encode(), owner)
    if owner_sees is not None:
        frame += b'"external_id":%b,"audience":%b,' % (orjson.dumps(owner_sees[0]), orjson.dumps(owner_sees[1]))
    return frame + document[1:]


def without(value: Any, steps: tuple[str, ...], hidden: frozenset[str]) -> Any:
    """`value` less the references at `steps` that are in `hidden`.

    The nearest list element that holds a hidden reference goes with it; outside a list it becomes null.
    """
    if not steps:
        return None if value in hidden else value
    step, rest = steps[0], steps[1:]
    if value is None:
        return None
    if step != "*":
        return {**value, step: without(value[step], rest, hidden)} if step in value else value
    if not rest:
        return [element for element in value if element not in hidden]
    if "*" in rest:
        return [without(element, rest, hidden) for element in value]
    return [element for element in value if _at(element, rest) not in hidden]


def _at(value: Any, steps: tuple[str, ...]) -> Any:
    for step in steps:
        if value is None:
            return None
        value = value.get(step)
    return value
