"""Ballots: one for each organisation in a round, editable until close, seen by nobody else before."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict, Field

from app.db.pool import Connection, Database
from app.deliberation.double_majority import Vote
from app.deliberation.outcome import access
from app.deliberation.reading import Round, round_by_id, titles
from app.deliberation.rounds import RoundStage
from app.deliberation.sealing_ballots import canonical, in_order, normalised
from app.deliberation.wire import computed
from app.http.body import json_body, validated
from app.http.openapi import IF_NONE_MATCH, answer, request_body, responses, secured
from app.http.problem import Fault, Problem
from app.http.query import read_query
from app.http.responses import empty_response, json_response
from app.http.transact import transact
from app.identity import organisations
from app.identity.access import member
from app.identity.caller import Caller
from app.records.references import visible_organisation_ids
from app.records.router import described, record_id
from app.records.show import NO_STORE

router = APIRouter(tags=["deliberation"])

Tier = Annotated[list[UUID], Field(min_length=1, max_length=200)]
SAMPLE = ("01980d9e-7a00-7000-8000-000000000001", "01980d9e-7a00-7000-8000-000000000002")


class BallotInput(BaseModel):
    """`votes` in an endorsement round, `tiers` in a ranking round."""

    model_config = ConfigDict(extra="forbid")

    votes: Annotated[dict[UUID, Vote] | None, Field(max_length=200, description="Issue → vote; silence abstains.")] = (
        None
    )
    tiers: Annotated[
        list[Tier] | None,
        Field(
            min_length=1,
            max_length=200,
            description="Issues from most to least urgent; one tier is a tie, what is left out shares last place.",
        ),
    ] = None


BALLOT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["round", "updated_at"],
    "properties": {
        "round": {"type": "string", "format": "uuid"},
        "organisation": {"type": "object"},
        "votes": {"type": "object", "additionalProperties": {"enum": list(Vote)}},
        "tiers": {"type": "array", "items": {"type": "array", "items": {"type": "string", "format": "uuid"}}},
        "created_at": {"type": "string", "format": "date-time"},
        "updated_at": {"type": "string", "format": "date-time"},
    },
}
BALLOTS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["round", "ballots_sha256", "salt", "items"],
    "properties": {
        "round": {"type": "string", "format": "uuid"},
        "ballots_sha256": {"type": "string"},
        "salt": {"type": "string"},
        "items": {"type": "array", "items": {"type": "object"}},
    },
}


def require_vote(caller: Caller, one: Round) -> None:
    """Passes when the caller's organisation votes in this round. Errors: 403 `not-permitted`."""
    if caller.kind not in one.settings.voting_kinds:
        raise Problem("not-permitted", "Organisations of this kind do not vote.")
    if caller.region is None:
        raise Problem("not-permitted", "Votes count by region, and your organisation has none.")


async def _open_round(connection: Connection, caller: Caller, round_id: UUID) -> Round:
    """The round, held shared so that it cannot close meanwhile. Errors: 404; 403; 409 `round-closed`."""
    one = await round_by_id(connection, caller, round_id, "FOR SHARE")
    require_vote(caller, one)
    if one.status == "closed":
        raise Problem("round-closed")
    return one


def checked_content(given: BallotInput, one: Round, readable: set[str]) -> dict[str, Any]:
    """The ballot as it is kept. Errors: 422 `invalid-body` for the other kind of ballot, an issue that is not voted
    on here or that the voter may not read, or one named twice."""
    wanted, other = ("tiers", "votes") if one.stage == RoundStage.RANKING else ("votes", "tiers")
    if getattr(given, wanted) is None or getattr(given, other) is not None:
        raise Problem("invalid-body", errors=[Fault(f"/{wanted}", "required")])
    issues = {str(issue) for issue in one.issues} & readable
    if given.votes is not None:
        # The pointer would repeat what was sent, so it stops at the object.
        if not {str(issue) for issue in given.votes} <= issues:
            raise Problem("invalid-body", errors=[Fault("/votes", "issue-not-in-round")])
        return normalised({"votes": {str(issue): vote.value for issue, vote in given.votes.items()}})
    faults, seen = [], set()
    for number, tier in enumerate(given.tiers or ()):
        for place, issue in enumerate(tier):
            if str(issue) not in issues:
                faults.append(Fault(f"/tiers/{number}/{place}", "issue-not-in-round"))
            elif issue in seen:
                faults.append(Fault(f"/tiers/{number}/{place}", "duplicate"))
            seen.add(issue)
    if faults:
        raise Problem("invalid-body", errors=faults)
    return normalised({"tiers": [[str(issue) for issue in tier] for tier in given.tiers or ()]})


def _shown(one: Round, caller: Caller, content: dict[str, Any], made: datetime, changed: datetime) -> dict[str, Any]:
    return {
        "round": one.id,
        "organisation": {"id": caller.organisation_id, "name": caller.name},
        **content,
        "created_at": made,
        "updated_at": changed,
    }


@router.put(
    "/v1/rounds/{id}/ballots/me",
    operation_id="castBallot",
    summary="Cast or change your organisation's ballot",
    responses=responses({200: answer(BALLOT_SCHEMA)}, "not-found", "not-permitted", "round-closed", "invalid-body"),
    openapi_extra=described(
        [], request_body(BallotInput, example={"tiers": [[SAMPLE[1]], [SAMPLE[0]]]}), secured("deliberation:write")
    ),
)
async def cast(request: Request, id: str, caller: Caller = member("deliberation:write")) -> Response:
    round_id = record_id(id)
    given = validated(BallotInput, await json_body(request))

    async def work(connection: Connection) -> Response:
        one = await _open_round(connection, caller, round_id)
        readable = set(await titles(connection, caller, one.issues))
        content = checked_content(given, one, readable)
        cursor = await connection.execute(
            "INSERT INTO ballot (round_id, organisation_id, content, created_at, updated_at)"
            " VALUES (%(round)s, %(me)s, %(content)s, clock_timestamp(), clock_timestamp())"
            " ON CONFLICT (round_id, organisation_id) DO UPDATE"
            " SET content = excluded.content, updated_at = excluded.updated_at RETURNING created_at, updated_at",
            {"round": one.id, "me": caller.organisation_id, "content": Jsonb(content)},
        )
        row = await cursor.fetchone()
        assert row is not None
        return json_response(_shown(one, caller, content, *row), headers={"Cache-Control": NO_STORE})

    return await transact(request, work)


@router.get(
    "/v1/rounds/{id}/ballots/me",
    operation_id="getOwnBallot",
    summary="Your organisation's ballot",
    responses=responses({200: answer(BALLOT_SCHEMA), 304: None}, "not-found"),
    openapi_extra=described([IF_NONE_MATCH], secured("records:read")),
)
async def own(request: Request, id: str, caller: Caller = member("records:read")) -> Response:
    read_query(request, {})
    database: Database = request.app.state.database
    async with database.connection() as connection:
        one = await round_by_id(connection, caller, record_id(id))
        cursor = await connection.execute(
            "SELECT content, created_at, updated_at FROM ballot WHERE round_id = %s AND organisation_id = %s",
            [one.id, caller.organisation_id],
        )
        row = await cursor.fetchone()
        if row is None:
            raise Problem("not-found", "Your organisation has no ballot in this round.")
        content, made, changed = row
        known = set(await titles(connection, caller, one.issues))
        return computed(request, caller, _shown(one, caller, _readable(content, known), made, changed), private=True)


@router.delete(
    "/v1/rounds/{id}/ballots/me",
    operation_id="withdrawBallot",
    summary="Take your organisation's ballot back, as if it had never been cast",
    status_code=204,
    responses=responses({204: None}, "not-found", "not-permitted", "round-closed"),
    openapi_extra=secured("deliberation:write"),
)
async def take_back(request: Request, id: str, caller: Caller = member("deliberation:write")) -> Response:
    round_id = record_id(id)

    async def work(connection: Connection) -> Response:
        one = await _open_round(connection, caller, round_id)
        cursor = await connection.execute(
            "DELETE FROM ballot WHERE round_id = %s AND organisation_id = %s", [one.id, caller.organisation_id]
        )
        if cursor.rowcount == 0:
            raise Problem("not-found", "Your organisation has no ballot in this round.")
        return empty_response(204, {"Cache-Control": NO_STORE})

    return await transact(request, work)


@router.get(
    "/v1/rounds/{id}/ballots",
    operation_id="listBallots",
    summary="The sealed ballots of a closed round, as far as its display allows",
    responses=responses({200: answer(BALLOTS_SCHEMA), 304: None}, "not-found", "round-open", "display-withheld"),
    openapi_extra=described([IF_NONE_MATCH], secured("records:read")),
)
async def list_ballots(request: Request, id: str, caller: Caller = member("records:read")) -> Response:
    read_query(request, {})
    database: Database = request.app.state.database
    async with database.connection() as connection:
        one = await round_by_id(connection, caller, record_id(id))
        sha256, salt, inputs, allowed = await sealed_ballots(connection, caller, one)
        if not allowed.ballots:
            raise Problem("display-withheld")
        known = set(await titles(connection, caller, one.issues))
        items: list[dict[str, Any]] = in_order(inputs)
        if allowed.names:
            owners = [UUID(item["organisation"]) for item in inputs]
            visible = await visible_organisation_ids(connection, caller, owners)
            names = await organisations.names(request, connection, owners)
            items = [
                {
                    # An organisation this reader does not know of stays without a name; its ballot counts all the same.
                    "organisation": {"id": item["organisation"], "name": names.get(UUID(item["organisation"]), "")}
                    if item["organisation"] in visible
                    else None,
                    **one_in_order,
                }
                for item in inputs
                for one_in_order in in_order([item])
            ]
            # They are kept in the order of ids, which would tell between whom a nameless voter was admitted.
            items.sort(key=canonical)
        found = {"round": one.id, "ballots_sha256": sha256, "salt": salt, "items": [_readable(i, known) for i in items]}
    return computed(request, caller, found, private=True)


def _readable(item: dict[str, Any], known: set[str]) -> dict[str, Any]:
    """A ballot less the issues this reader may not see any more."""
    if "votes" in item:
        return {**item, "votes": {issue: vote for issue, vote in item["votes"].items() if issue in known}}
    tiers = ([issue for issue in tier if issue in known] for tier in item["tiers"])
    return {**item, "tiers": [tier for tier in tiers if tier]}


async def sealed_ballots(connection: Connection, caller: Caller, one: Round) -> tuple[str, str, list[Any], Any]:
    """(fingerprint, salt, ballots, what the caller may have of them). Errors: 409 `round-open`."""
    cursor = await connection.execute(
        "SELECT ballots_sha256, salt, inputs, outcome -> 'ballots_by_region' FROM round_result WHERE round_id = %s",
        [one.id],
    )
    row = await cursor.fetchone()
    if row is None:
        raise Problem("round-open")
    smallest = min(row[3].values(), default=0)
    allowed = access(one.ballot_display, is_member=caller.is_member, ballots_in_smallest_region=smallest)
    return row[0], row[1], row[2], allowed
