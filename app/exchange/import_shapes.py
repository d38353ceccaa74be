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
    """What is wrong with a line: its number in the file, the place in its record, a code."""

    line: int
    pointer: str
    code: str
    detail: str | None = None


class ImportLine(BaseModel):
    """What a line would do, in a dry run."""

    line: int
    action: Literal["create", "update", "unchanged"]
    id: UUID | None = None
    changes: list[dict[str, Any]] | None = None


class ImportReport(BaseModel):
    """An import: how far it is, and what became of its lines."""

    id: UUID
    status: Literal["receiving", "queued", "running", "done", "failed"]
    reason: str | None
    dry_run: bool
    atomic: bool
    lines_total: int
    lines_done: int
    counts: ImportCounts
    problems: list[ImportProblem]
    lines: list[ImportLine]
    created_at: str
    finished_at: str | None
