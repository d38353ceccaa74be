"""The trail of an issue: from which events and findings it comes, and what became of it."""

from typing import Any

from fastapi import APIRouter, Request, Response

from app.db.pool import Database
from app.deliberation import provenance
from app.deliberation.reading import record_for
from app.deliberation.wire import computed
from app.http.openapi import IF_NONE_MATCH, answer, public, responses
from app.http.query import read_query
from app.identity.access import PublicReader
from app.records.router import described, record_id

router = APIRouter(tags=["deliberation"])

TRAIL_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["issue", "raised_in", "consultations", "regions", "first_on", "summary", "events", "findings"],
    "properties": {
        "issue": {"type": "string", "format": "uuid"},
        "raised_in": {"type": "integer", "description": "Consultations it was raised in."},
        "consultations": {"type": "integer", "description": "Consultations there were, as far as you may read."},
        "regions": {"type": "array", "items": {"type": "string"}},
        "first_on": {"type": ["string", "null"], "description": "Earliest event; a day, a month or a year."},
        "summary": {"type": "string", "description": "The same in a sentence."},
        "events": {"type": "array", "items": {"type": "object"}},
        "findings": {"type": "array", "items": {"type": "object"}},
        "cases": {"type": "array", "items": {"type": "object"}},
        "issue_lists": {"type": "array", "items": {"type": "object"}},
        "actions": {"type": "array", "items": {"type": "object"}},
    },
}


@router.get(
    "/v1/issues/{id}/trail",
    operation_id="getIssueTrail",
    summary="Raised in k of n consultations, by these regions, first on this date",
    responses=responses({200: answer(TRAIL_SCHEMA), 304: None}, "not-found", "withdrawn"),
    openapi_extra=described([IF_NONE_MATCH], public("records:read")),
)
async def get_trail(request: Request, id: str, caller: PublicReader) -> Response:
    read_query(request, {})
    database: Database = request.app.state.database
    async with database.connection() as connection:
        issue = await record_for(connection, caller, "issue", record_id(id))
        found = await provenance.trail(connection, caller, issue.id, request.app.state.public_url)
    private = issue.marking.tlp.startswith("amber") or issue.status != "published"
    return computed(request, caller, found, private=private)
