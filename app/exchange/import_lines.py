"""Lines of an import: what each asks for, and what is told of it afterwards. Pure: no database."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson

from app.exchange import cells
from app.exchange.import_entries import Kept
from app.http import strict_json
from app.http.problem import Fault, Problem
from app.records.change import Action, Change
from app.records.diff import changes as differences
from app.records.kind import Kind
from app.records.state import State
from app.records.store import Written

ENTRY_BYTES = 64_000
"""What is told of a line that would change a record is at most so long; longer ones name the places and no more."""
PLACES = {"stale-version": "/version", "external-id-taken": "/external_id"}
"""Where in a line stands what these problems speak of."""


@dataclass(frozen=True, slots=True)
class Job:
    """An import as its worker needs it. `owner` names the worker's claim, `kept` is what was told before."""

    id: UUID
    organisation_id: UUID
    credential_id: UUID
    kind: str | None
    format: str
    dry_run: bool
    atomic: bool
    next_part: int
    owner: UUID
    kept: Kept


@dataclass(frozen=True, slots=True)
class Asked:
    """What a line asks for: a change, and texts in other languages to go with it."""

    change: Change
    translations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


Prepared = tuple[int, Asked | Fault | Problem | None]
"""The number of a line, and what it asks for: None for the head of an export, else why it cannot be."""


@dataclass(slots=True)
class Outcome:
    """What became of the lines of one part; `problems` and `lines` are entries of the report, (line, JSON)."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    failed: int = 0
    repeated: int = 0
    problems: list[tuple[int, bytes]] = field(default_factory=list)
    lines: list[tuple[int, bytes]] = field(default_factory=list)

    def accept(self, lines: Iterable[Prepared]) -> Iterable[tuple[int, Asked]]:
        """The lines that ask for something; those that cannot be are noted as refused."""
        for number, asked in lines:
            if isinstance(asked, Asked):
                yield number, asked
            elif isinstance(asked, Fault):
                self.failed += 1
                self._tell_problem({"line": number, **asked.as_json()})
            elif isinstance(asked, Problem):
                self.refuse(number, asked)

    def refuse(self, number: int, problem: Problem) -> None:
        """Notes that a line was refused, and why; never what stood in it."""
        self.failed += 1
        more = {name: problem.extra[name] for name in ("current_version",) if name in problem.extra}
        if not problem.errors:
            detail = {} if problem.detail is None else {"detail": problem.detail}
            pointer = PLACES.get(problem.code, "")
            self._tell_problem({"line": number, "pointer": pointer, "code": problem.code, **detail, **more})
        for fault in problem.errors:
            self._tell_problem({"line": number, "pointer": fault.pointer, "code": fault.code, **more})

    def count(self, number: int, result: Written, *, tell: bool) -> None:
        """Counts what became of a line; with `tell` the report says what it does to the record."""
        if result.problem is not None:
            self.refuse(number, result.problem)
            return
        entry: dict[str, Any] = {"line": number, "action": "unchanged"}
        if not result.changed:
            self.unchanged += 1
        elif result.before is None:
            entry["action"] = "create"
            self.created += 1
        else:
            entry["action"] = "update"
            self.updated += 1
        if tell:
            if entry["action"] == "update" and result.before is not None and result.state is not None:
                entry["id"] = result.state.id
                entry["changes"] = list(differences(_shown(result.before), _shown(result.state)))
            self._tell_line(entry)

    def repeat(self, number: int) -> None:
        """Notes a line of a dry run about a record that an earlier line of the same file makes or changes."""
        self.repeated += 1
        self._tell_line({"line": number, "action": "repeated"})

    def _tell_problem(self, entry: dict[str, Any]) -> None:
        self.problems.append((entry["line"], orjson.dumps(entry) + b"\n"))

    def _tell_line(self, entry: dict[str, Any]) -> None:
        told = orjson.dumps(entry)
        if len(told) > ENTRY_BYTES:
            places = [{name: one[name] for name in ("op", "pointer")} for one in entry["changes"]]
            told = orjson.dumps({**entry, "changes": places})
        self.lines.append((entry["line"], told + b"\n"))


def _shown(state: State) -> dict[str, Any]:
    audience = [str(one) for one in state.marking.audience]
    return {**state.body, "tlp": state.marking.tlp, "audience": audience, "external_id": state.external_id}


def taken_apart(kinds: Mapping[str, Kind], job: Job, line: Sequence[Any]) -> Prepared:
    """What a received line asks for."""
    number, value, code = line
    if code is not None:
        return number, Fault("", code)
    try:
        return number, _asked(kinds, job, value)
    except Problem as problem:
        return number, problem


def _asked(kinds: Mapping[str, Kind], job: Job, value: Any) -> Asked | None:
    """What a line asks for; None for the head of an export. Errors: Problem."""
    # Cells go the way of JSON too, so that what no body may hold is refused in both forms alike.
    given = strict_json.parse(value.encode() if job.format == "ndjson" else orjson.dumps(value))
    if not isinstance(given, dict):
        raise Problem("invalid-body", errors=[Fault("", "object-required")])
    if given.keys() == {"feed"}:
        return None
    by_name = {name: kind for kind in kinds.values() for name in (kind.name, kind.plural)}
    named = given.get("kind") or job.kind
    kind = by_name.get(named) if isinstance(named, str) else None
    if kind is None:
        code = "unknown-kind" if named else "required"
        raise Problem("invalid-body", errors=[Fault("/kind", code)])
    translations: Mapping[str, Mapping[str, Any]] = {}
    if job.format == "csv":
        given, translations = cells.read(kind, given)
    given["kind"] = kind.name
    if given.get("id") is not None:
        return Asked(Change(kind, Action.REPLACE, _id(given["id"]), given), translations)
    given.pop("id", None)
    external_id = given.get("external_id")
    if isinstance(external_id, str) and external_id:
        return Asked(Change(kind, Action.REPLACE, body=given, external_id=external_id), translations)
    body = {name: part for name, part in given.items() if name != "kind"}
    return Asked(Change(kind, Action.CREATE, body=body), translations)


def _id(value: Any) -> UUID:
    try:
        return UUID(value)
    except (ValueError, TypeError, AttributeError):
        raise Problem("invalid-body", errors=[Fault("/id", "invalid-id")]) from None
