"""Rounds: opening and closing votes on the issues of a list.

Opening and closing are the convenor's, that is the list's owner's. Who votes and who closes meet on the row of the
round: a voter holds it shared, whoever closes holds it alone, so a ballot is either counted or refused, never lost.
"""

import asyncio
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict

from app.db.ids import new_id
from app.db.pool import Connection, Database
from app.deliberation.aggregation import RankingBallot
from app.deliberation.charter_settings import CharterSettings
from app.deliberation.double_majority import EndorsementBallot, Standing, Vote
from app.deliberation.outcome import Outcome, endorsement_outcome, ranking_outcome
from app.deliberation.reading import (
    Round,
    cited,
    record_for,
    round_by_id,
    rounds_of,
    settings_in_force,
    stage_since,
    titles,
)
from app.deliberation.sealing_ballots import fingerprint, new_salt
from app.deliberation.stages import move
from app.deliberation.wire import computed
from app.http.body import json_body, validated
from app.http.openapi import IDEMPOTENCY_KEY, IF_NONE_MATCH, answer, public, request_body, responses, secured
from app.http.problem import Problem
from app.http.query import read_query
from app.http.responses import json_response
from app.http.transact import transact
from app.identity.access import PublicReader, member
from app.identity.caller import Caller
from app.records.kind import Status
from app.records.router import described, record_id
from app.records.show import NO_STORE
from app.records.state import State

router = APIRouter(tags=["deliberation"])


class RoundStage(StrEnum):
    """What a round decides."""

    ENDORSEMENT = "endorsement"
    RANKING = "ranking"


class BallotDisplay(StrEnum):
    """Who sees what after close: members the ballots by name, or nobody a name."""

    OPEN = "open"
    ANONYMOUS = "anonymous"


class NewRound(BaseModel):
    """What opening a round needs. The display cannot change once ballots may have come in."""

    model_config = ConfigDict(extra="forbid")

    stage: RoundStage
    ballot_display: BallotDisplay = BallotDisplay.OPEN


ROUND_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["id", "issue_list", "stage", "status", "ballot_display", "opened_at", "charter", "settings"],
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "url": {"type": "string", "format": "uri"},
        "issue_list": {"type": "string", "format": "uuid"},
        "stage": {"enum": list(RoundStage)},
        "status": {"enum": ["open", "closed"]},
        "ballot_display": {"enum": list(BallotDisplay)},
        "issues": {"type": "array", "items": {"type": "string", "format": "uuid"}},
        "opened_at": {"type": "string", "format": "date-time"},
        "closed_at": {"type": ["string", "null"], "format": "date-time"},
        "ballots_sha256": {"type": ["string", "null"]},
        "charter": {"type": ["object", "null"], "description": "The adopted charter whose settings hold; null: none."},
        "settings_source": {"enum": ["charter", "defaults"]},
        "settings": {"type": "object"},
    },
}
"""A round on the wire."""


async def shown(request: Request, connection: Connection, caller: Caller, one: Round) -> dict[str, Any]:
    """The round as this caller gets it: only the issues it may read."""
    known = await titles(connection, caller, one.issues)
    cursor = await connection.execute("SELECT ballots_sha256 FROM round_result WHERE round_id = %s", [one.id])
    sealed = await cursor.fetchone()
    return {
        "id": one.id,
        "url": f"{request.app.state.public_url}/v1/rounds/{one.id}",
        "issue_list": one.issue_list_id,
        "stage": one.stage,
        "status": one.status,
        "ballot_display": one.ballot_display,
        "issues": [issue for issue in one.issues if str(issue) in known],
        "opened_at": one.opened_at,
        "closed_at": one.closed_at,
        "ballots_sha256": None if sealed is None else sealed[0],
        **cited(one.charter_id, one.charter_version),
        "settings": one.settings.as_json(),
    }


@router.post(
    "/v1/issue-lists/{id}/rounds",
    operation_id="openRound",
    summary="Open a vote on the issues of your list",
    status_code=201,
    responses=responses(
        {201: answer(ROUND_SCHEMA, "Opened.", headers=("Location",))},
        "not-found", "withdrawn", "not-owner", "illegal-transition", "round-open", "invalid-body", "conflict",
    ),
    openapi_extra=described(
        [IDEMPOTENCY_KEY],
        request_body(NewRound, example={"stage": "ranking", "ballot_display": "open"}),
        secured("deliberation:write"),
    ),
)  # fmt: skip
async def open_round(request: Request, id: str, caller: Caller = member("deliberation:write")) -> Response:
    list_id = record_id(id)
    new = validated(NewRound, await json_body(request))

    async def work(connection: Connection) -> Response:
        issue_list = await record_for(connection, caller, "issue-list", list_id, own=True, lock=True)
        if issue_list.status is not Status.PUBLISHED:
            raise Problem("illegal-transition", "Publish the list first: voters must be able to read it.")
        earlier = await rounds_of(connection, caller, list_id)
        if any(one.status == "open" for one in earlier):
            raise Problem("round-open")
        in_force = await settings_in_force(connection)
        await _consulted_long_enough(connection, caller, issue_list, in_force.settings)
        issues = await _to_be_voted_on(connection, issue_list, new.stage, earlier, in_force.settings)
        await move(request, connection, caller, issue_list, new.stage.value)
        cursor = await connection.execute(
            "INSERT INTO round (id, issue_list_id, stage, ballot_display, status, issues, settings, charter_id,"
            " charter_version, opened_at) VALUES (%(id)s, %(list)s, %(stage)s, %(display)s, 'open', %(issues)s,"
            " %(settings)s, %(charter)s, %(version)s, clock_timestamp()) RETURNING id",
            {
                "id": new_id(),
                "list": list_id,
                "stage": new.stage,
                "display": new.ballot_display,
                "issues": [UUID(issue) for issue in issues],
                "settings": Jsonb(in_force.settings.model_dump(mode="json")),
                "charter": in_force.charter_id,
                "version": in_force.version,
            },
        )
        row = await cursor.fetchone()
        assert row is not None
        opened = await shown(request, connection, caller, await round_by_id(connection, caller, row[0]))
        return json_response(opened, 201, {"Location": opened["url"], "Cache-Control": NO_STORE})

    return await transact(request, work, credential_id=caller.credential_id, idempotent=True)


async def _consulted_long_enough(
    connection: Connection, caller: Caller, issue_list: State, settings: CharterSettings
) -> None:
    """Errors: 409 `illegal-transition` while the charter's days of consultation have not passed."""
    if settings.consultation_days == 0 or issue_list.stage in ("endorsement", "ranking"):
        return
    began = await stage_since(connection, caller, issue_list.id, "consultation")
    cursor = await connection.execute("SELECT now()")
    row = await cursor.fetchone()
    if began is None or row is None or row[0] < began + timedelta(days=settings.consultation_days):
        raise Problem(
            "illegal-transition", f"The charter asks for {settings.consultation_days} days in consultation first."
        )


async def _to_be_voted_on(
    connection: Connection, issue_list: State, stage: RoundStage, earlier: list[Round], settings: CharterSettings
) -> list[str]:
    """The issues a new round is about: all of the list, or for a ranking those the last endorsement found common.

    Errors: 409 `conflict` when there is none, or an endorsement round is asked for first.
    """
    listed = [item["issue"] for item in issue_list.body["items"]]
    if stage is RoundStage.RANKING:
        endorsed = [one for one in earlier if one.stage == "endorsement" and one.status == "closed"]
        if endorsed:
            cursor = await connection.execute("SELECT outcome FROM round_result WHERE round_id = %s", [endorsed[-1].id])
            row = await cursor.fetchone()
            assert row is not None
            common = {item["issue_id"] for item in row[0]["classes"] if item["class"] == Standing.COMMON}
            listed = [issue for issue in listed if issue in common]
        elif settings.ranking_needs_endorsement:
            raise Problem("conflict", "The charter asks for an endorsement round first.")
    if not listed:
        raise Problem("conflict", "There is no issue to vote on.")
    return listed


@router.get(
    "/v1/issue-lists/{id}/rounds",
    operation_id="listRounds",
    summary="The rounds of a list, oldest first",
    responses=responses(
        {200: answer({"type": "object", "properties": {"items": {"type": "array", "items": ROUND_SCHEMA}}}), 304: None},
        "not-found",
        "withdrawn",
    ),
    openapi_extra=described([IF_NONE_MATCH], public("records:read")),
)
async def list_rounds(request: Request, id: str, caller: PublicReader) -> Response:
    read_query(request, {})
    database: Database = request.app.state.database
    async with database.connection() as connection:
        issue_list = await record_for(connection, caller, "issue-list", record_id(id))
        found = await rounds_of(connection, caller, issue_list.id)
        items = [await shown(request, connection, caller, one) for one in found]
    return computed(request, caller, {"items": items, "next": None}, private=issue_list.marking.tlp.startswith("amber"))


@router.get(
    "/v1/rounds/{id}",
    operation_id="getRound",
    summary="One round",
    responses=responses({200: answer(ROUND_SCHEMA), 304: None}, "not-found"),
    openapi_extra=described([IF_NONE_MATCH], public("records:read")),
)
async def get_round(request: Request, id: str, caller: PublicReader) -> Response:
    read_query(request, {})
    database: Database = request.app.state.database
    async with database.connection() as connection:
        one = await round_by_id(connection, caller, record_id(id))
        return computed(
            request, caller, await shown(request, connection, caller, one), private=one.tlp.startswith("amber")
        )


@router.post(
    "/v1/rounds/{id}/close",
    operation_id="closeRound",
    summary="Close a round of your list: ballots are sealed, the result is computed",
    responses=responses({200: answer(ROUND_SCHEMA, "Closed.")}, "not-found", "not-owner", "round-closed"),
    openapi_extra=described([IDEMPOTENCY_KEY], secured("deliberation:write")),
)
async def close_round(request: Request, id: str, caller: Caller = member("deliberation:write")) -> Response:
    round_id = record_id(id)

    async def work(connection: Connection) -> Response:
        one = await round_by_id(connection, caller, round_id, "FOR UPDATE")
        if one.owner_id != caller.organisation_id:
            raise Problem("not-owner")
        if one.status == "closed":
            raise Problem("round-closed")
        inputs = await _seal_ballots(connection, one)
        salt = new_salt()
        # A long list takes a second or more: other requests of this process go on meanwhile.
        outcome = await asyncio.to_thread(outcome_of, one, inputs, one.settings.exponent, one.settings.q)
        await connection.execute(
            "INSERT INTO round_result (round_id, ballots_sha256, salt, inputs, outcome, sealed_at)"
            " VALUES (%(id)s, %(sha256)s, %(salt)s, %(inputs)s, %(outcome)s, clock_timestamp())",
            {
                "id": one.id,
                "sha256": fingerprint(str(one.id), salt, inputs),
                "salt": salt,
                "inputs": Jsonb(inputs),
                "outcome": Jsonb(outcome),
            },
        )
        await connection.execute(
            "UPDATE round SET status = 'closed', closed_at = clock_timestamp() WHERE id = %s", [one.id]
        )
        closed = await shown(request, connection, caller, await round_by_id(connection, caller, round_id))
        return json_response(closed, headers={"Cache-Control": NO_STORE})

    return await transact(request, work, credential_id=caller.credential_id, idempotent=True)


async def _seal_ballots(connection: Connection, one: Round) -> list[dict[str, Any]]:
    """The ballots that count, each with the region of its organisation now; what does not count is marked so."""
    await connection.execute(
        "UPDATE ballot SET region = organisation.region, counted = organisation.status = 'active'"
        " AND organisation.region IS NOT NULL AND organisation.kind = ANY (%(kinds)s)"
        " FROM organisation WHERE organisation.id = ballot.organisation_id AND ballot.round_id = %(id)s",
        {"id": one.id, "kinds": one.settings.voting_kinds},
    )
    cursor = await connection.execute(
        "SELECT organisation_id::text, region, content FROM ballot WHERE round_id = %s AND counted"
        " ORDER BY organisation_id",
        [one.id],
    )
    return [
        {"organisation": organisation, "region": region, **content}
        for organisation, region, content in await cursor.fetchall()
    ]


def outcome_of(one: Round, inputs: list[dict[str, Any]], alpha: Decimal, q: int) -> Outcome:
    """The outcome of the sealed ballots under these weights."""
    issues = [str(issue) for issue in one.issues]
    if one.stage == RoundStage.RANKING:
        ranked = [RankingBallot(item["region"], tuple(tuple(tier) for tier in item["tiers"])) for item in inputs]
        return ranking_outcome(issues, ranked, one.settings, alpha, q)
    voted = [
        EndorsementBallot(item["region"], {issue: Vote(vote) for issue, vote in item["votes"].items()})
        for item in inputs
    ]
    return endorsement_outcome(issues, voted, one.settings, alpha, q)
