"""Pure helpers: what the store would say to a body of a kind, without a database."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from app.http.problem import Problem
from app.records.change import Action, Change, next_state
from app.records.kind import Kind
from app.records.state import State

OWNER = UUID("01980d9e-7a00-7000-8000-0000000000aa")
RECORD = UUID("01980d9e-7a00-7000-8000-0000000000bb")
OTHER = "01980d9e-7a00-7000-8000-0000000000cc"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def created(kind: Kind, body: Mapping[str, Any]) -> State:
    """The state a create with this body would lead to."""
    change = Change(kind=kind, action=Action.CREATE, body=dict(body))
    return next_state(change, None, new_id=RECORD, owner=OWNER, now=NOW)


def refusal(kind: Kind, body: Mapping[str, Any]) -> tuple[str, set[tuple[str, str]]]:
    """Code of the problem, and (pointer, code) of its faults; ("", set()) when the body is accepted."""
    try:
        created(kind, body)
    except Problem as problem:
        return problem.code, {(fault.pointer, fault.code) for fault in problem.errors}
    return "", set()
