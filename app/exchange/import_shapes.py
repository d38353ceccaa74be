"""What comes out at `/v1/imports`."""

from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel


class ImportCounts(BaseModel):
    """How many lines had which end."""

    created: int
    updated: int
    unchanged: int
    failed: int


class ImportProblem(BaseModel):
    """What is wrong with a line: its number in the file, the place in its record, a code.

    `current_version` goes with `stale-version`.
    """

    line: int
    pointer: str
    code: str
    detail: str | None = None
    current_version: int | None = None


class ImportLine(BaseModel):
    """What a line would do, in a dry run. `repeated`: it is about a record that an earlier line makes or changes."""

    line: int
    action: Literal["create", "update", "unchanged", "repeated"]
    id: UUID | None = None
    changes: list[dict[str, Any]] | None = None


class ImportReport(BaseModel):
    """An import: how far it is, and what became of its lines.

    `problems` and `lines` are the first 1,000 of each; `report` is the address of all that are kept, of which there
    are `problems_kept` and `lines_kept`. `complete` is false when some found no room.
    """

    id: UUID
    status: Literal["receiving", "queued", "running", "done", "failed"]
    reason: str | None
    dry_run: bool
    atomic: bool
    lines_total: int
    lines_done: int
    counts: ImportCounts
    repeated: int
    report: str
    problems_kept: int
    lines_kept: int
    complete: bool
    problems: list[ImportProblem]
    lines: list[ImportLine]
    created_at: str
    finished_at: str | None
