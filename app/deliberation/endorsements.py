"""Endorsements: what organisations say of an issue at any time, outside rounds. A ledger that is only added to.

Public output gives one total and the number of regions, and the statements whose organisations chose `public`;
members see figures by region and every endorsement of an organisation they may know of.
"""

from enum import StrEnum
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from app import reference
from app.db.pool import Connection, Database
from app.deliberation.charter_settings import MAY_VOTE
from app.deliberation.contributions import SHOWN_NOW
from app.deliberation.double_majority import Vote
from app.deliberation.reading import record_for
from app.deliberation.wire import computed
from app.http.body import json_body, validated
from app.http.openapi import IF_NONE_MATCH, answer, public, request_body, responses, secured
from app.http.problem import Problem
from app.http.query import instant, query_parameters, read_query
from app.http.responses import empty_response, json_response
from app.http.transact import transact
from app.identity.access import PublicReader, member
from app.identity.caller import Caller
from app.identity.organisations import visible_organisations
from app.records.fields import Note
from app.records.kind import Status
from app.records.router import described, record_id
from app.records.show import NO_STORE

router = APIRouter(tags=["deliberation"])


class EndorsementDisplay(StrEnum):
    """Who sees an organisation's endorsement with its name."""

    PUBLIC = "public"
    MEMBERS = "members"


class EndorsementInput(BaseModel):
    """A position on an issue, and why."""

    model_config = ConfigDict(extra="forbid")

    position: Vote
    statement: Note | None = None
    display: EndorsementDisplay = EndorsementDisplay.MEMBERS


ENDORSEMENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["issue", "organisation", "position", "display", "at"],
    "properties": {
        "issue": {"type": "string", "format": "uuid"},
        "organisation": {"type": "object"},
        "position": {"enum": list(Vote)},
        "statement": {"type": ["string", "null"]},
        "display": {"enum": list(EndorsementDisplay)},
        "at": {"type": "string", "format": "date-time"},
    },
}
ENDORSEMENTS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["issue", "total", "regions", "items"],
    "properties": {
        "issue": {"type": "string", "format": "uuid"},
        "as_of": {"type": ["string", "null"], "format": "date-time"},
        "total": {"type": "integer", "description": "Organisations that endorse the issue."},
        "regions": {"type": "integer", "description": "Regions they come from."},
        "by_region": {"type": "object", "description": "Members only: region → yes, no, abstain."},
        "items": {"type": "array", "items": ENDORSEMENT_SCHEMA},
        "mine": {"type": ["object", "null"], "description": "Members only."},
    },
}
PARAMETERS = {"as_of": instant().described("The state at this instant.")}

NEWEST = """
SELECT DISTINCT ON (endorsement.organisation_id) endorsement.issue_id, endorsement.organisation_id,
    endorsement.position, endorsement.statement, endorsement.display, endorsement.at
FROM endorsement
WHERE endorsement.issue_id = %(issue)s AND endorsement.at <= coalesce(%(as_of)s::timestamptz, 'infinity')
ORDER BY endorsement.organisation_id, endorsement.seq DESC
"""


async def _require_published(connection: Connection, caller: Caller, issue_id: UUID) -> None:
    """Passes for a published issue the caller may read. Errors: 404, 410; 409 `illegal-transition` for a draft."""
    issue = await record_for(connection, caller, "issue", issue_id)
    if issue.status is not Status.PUBLISHED:
        raise Problem("illegal-transition", "Only a published issue can be endorsed.")


async def _append(
    connection: Connection, caller: Caller, issue_id: UUID, position: str, statement: str | None, display: str
) -> dict[str, Any] | None:
    """The newest row of the caller on the issue, added unless it says the same already; None where there was nothing
    to withdraw."""
    # One row of this ledger at a time for an organisation and an issue, so that "the newest" has one meaning.
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('endorsement ' || %s::text || %s::text, 0))",
        [issue_id, caller.organisation_id],
    )
    cursor = await connection.execute(
        f"SELECT position, statement, display, at FROM ({NEWEST}) AS newest WHERE organisation_id = %(me)s",
        {"issue": issue_id, "as_of": None, "me": caller.organisation_id},
    )
    row = await cursor.fetchone()
    if position == "withdrawn" and (row is None or row[0] == "withdrawn"):
        return None
    if row is None or row[:3] != (position, statement, display):
        cursor = await connection.execute(
            "INSERT INTO endorsement (issue_id, organisation_id, position, statement, display, credential_id, at)"
            " VALUES (%(issue)s, %(me)s, %(position)s, %(statement)s, %(display)s, %(credential)s, clock_timestamp())"
            " RETURNING position, statement, display, at",
            {
                "issue": issue_id,
                "me": caller.organisation_id,
                "position": position,
                "statement": statement,
                "display": display,
                "credential": caller.credential_id,
            },
        )
        row = await cursor.fetchone()
    assert row is not None
    return dict(zip(("position", "statement", "display", "at"), row, strict=True))


@router.put(
    "/v1/issues/{id}/endorsements/me",
    operation_id="endorseIssue",
    summary="Say where your organisation stands on an issue",
    responses=responses(
        {200: answer(ENDORSEMENT_SCHEMA)},
        "not-found", "withdrawn", "not-permitted", "owner-unlisted", "illegal-transition", "invalid-body",
    ),
    openapi_extra=described(
        [], request_body(EndorsementInput, example={"position": "yes", "display": "members"}),
        secured("deliberation:write"),
    ),
)  # fmt: skip
async def endorse(request: Request, id: str, caller: Caller = member("deliberation:write")) -> Response:
    issue_id = record_id(id)
    given = validated(EndorsementInput, await json_body(request))

    async def work(connection: Connection) -> Response:
        await _require_published(connection, caller, issue_id)
        if caller.kind not in MAY_VOTE:
            raise Problem("not-permitted", "Organisations of this kind do not endorse issues.")
        if given.display is EndorsementDisplay.PUBLIC and caller.unlisted:
            raise Problem("owner-unlisted")
        row = await _append(connection, caller, issue_id, given.position, given.statement, given.display)
        shown = {"issue": issue_id, "organisation": {"id": caller.organisation_id, "name": caller.name}, **(row or {})}
        return json_response(shown, headers={"Cache-Control": NO_STORE})

    return await transact(request, work)


@router.delete(
    "/v1/issues/{id}/endorsements/me",
    operation_id="withdrawEndorsement",
    summary="Take your organisation's endorsement back; the ledger keeps that there was one",
    status_code=204,
    responses=responses({204: None}, "not-found", "withdrawn", "illegal-transition"),
    openapi_extra=secured("deliberation:write"),
)
async def take_back(request: Request, id: str, caller: Caller = member("deliberation:write")) -> Response:
    issue_id = record_id(id)

    async def work(connection: Connection) -> Response:
        await _require_published(connection, caller, issue_id)
        if await _append(connection, caller, issue_id, "withdrawn", None, "members") is None:
            raise Problem("not-found", "Your organisation has not endorsed this issue.")
        return empty_response(204, {"Cache-Control": NO_STORE})

    return await transact(request, work)


@router.get(
    "/v1/issues/{id}/endorsements",
    operation_id="listEndorsements",
    summary="Who endorses an issue, as far as you may see",
    responses=responses(
        {200: answer(ENDORSEMENTS_SCHEMA), 304: None}, "not-found", "withdrawn", "invalid-parameter",
    ),
    openapi_extra=described([*query_parameters(PARAMETERS), IF_NONE_MATCH], public("records:read")),
)  # fmt: skip
async def list_endorsements(request: Request, id: str, caller: PublicReader) -> Response:
    issue_id = record_id(id)
    as_of = read_query(request, PARAMETERS)["as_of"]
    predicate, values = visible_organisations(caller)
    database: Database = request.app.state.database
    async with database.connection() as connection:
        issue = await record_for(connection, caller, "issue", issue_id)
        cursor = await connection.execute(
            "SELECT newest.organisation_id, organisation.name, organisation.region, newest.position, newest.statement,"
            f" newest.display, newest.at, {predicate} AS known, organisation.listing = 'unlisted', {SHOWN_NOW}"
            f" FROM ({NEWEST}) AS newest JOIN organisation ON organisation.id = newest.organisation_id"
            " WHERE newest.position <> 'withdrawn' ORDER BY newest.at, newest.organisation_id",
            {**values, "issue": issue_id, "as_of": as_of},
        )
        rows = await cursor.fetchall()
    items = []
    by_region: dict[str, dict[str, int]] = {}
    mine = None
    for organisation_id, name, region, position, statement, display, at, known, unlisted, shown_now in rows:
        shown = {
            "issue": issue_id,
            "organisation": {"id": organisation_id, "name": name},
            "region": region,
            "position": position,
            "statement": statement,
            "display": display,
            "at": at,
        }
        if organisation_id == caller.organisation_id:
            mine = shown
        # An unlisted organisation is in nobody's figures but those of who knows of it.
        if known or not unlisted:
            counted = by_region.setdefault(region or "OTH", {vote.value: 0 for vote in Vote})
            counted[position] += 1
        # An older state is shown no more widely than its organisation wants today.
        if known and (caller.is_member or display == shown_now == EndorsementDisplay.PUBLIC):
            items.append(shown)
    endorsing = {region: said["yes"] for region, said in by_region.items() if said["yes"]}
    found: dict[str, Any] = {
        "issue": issue_id,
        "as_of": as_of,
        "total": sum(endorsing.values()),
        "regions": len(endorsing),
        "items": items,
        "next": None,
    }
    if caller.is_member:
        found["by_region"] = {region: by_region[region] for region in reference.REGIONS if region in by_region}
        found["mine"] = mine
    private = issue.marking.tlp.startswith("amber") or issue.status is not Status.PUBLISHED
    return computed(request, caller, found, private=private)
