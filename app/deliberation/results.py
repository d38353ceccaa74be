"""Results: what a closed round came to, as far as its display lets this reader see, and what-if beside it."""

import asyncio
from decimal import Decimal, InvalidOperation
from typing import Any

from fastapi import APIRouter, Request, Response

from app.db.pool import Database
from app.deliberation.ballots import sealed_ballots
from app.deliberation.outcome import reduced, without_hidden
from app.deliberation.reading import cited, round_by_id, titles
from app.deliberation.rounds import outcome_of
from app.deliberation.wire import computed
from app.http.openapi import IF_NONE_MATCH, answer, public, responses
from app.http.problem import Problem
from app.http.query import Parser, integer, query_parameters, read_query
from app.identity.access import PublicReader
from app.records.router import described, record_id

router = APIRouter(tags=["deliberation"])

FRACTION: dict[str, Any] = {"type": "string", "pattern": "^-?[0-9]+(/[0-9]+)?$", "examples": ["13/9"]}
SHARES: dict[str, Any] = {"type": "object", "additionalProperties": FRACTION}
MATRIX: dict[str, Any] = {"type": "object", "additionalProperties": SHARES}
RESULT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["round", "stage", "method", "ballots", "quorum", "binding"],
    "properties": {
        "round": {"type": "string", "format": "uuid"},
        "stage": {"enum": ["endorsement", "ranking"]},
        "method": {"type": "string", "examples": ["region-balanced-schulze/1"]},
        "binding": {"const": True},
        "display": {"enum": ["full", "reduced"]},
        "settings": {"type": "object"},
        "charter": {"type": ["object", "null"]},
        "settings_source": {"enum": ["charter", "defaults"]},
        "ballots": {"type": "integer", "minimum": 0},
        "ballots_sha256": {"type": "string"},
        "ballots_by_region": {"type": "object", "additionalProperties": {"type": "integer"}},
        "quorum": {"type": "object", "required": ["met"], "properties": {"met": {"type": "boolean"}}},
        "weights": {**SHARES, "description": "Region → what one ballot of it weighs."},
        "ranks": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["issue_id", "rank", "borda"],
                "properties": {
                    "issue_id": {"type": "string", "format": "uuid"},
                    "rank": {"type": "integer", "minimum": 1},
                    "place": {"type": "integer", "minimum": 1},
                    "borda": {"type": ["string", "null"]},
                },
            },
        },
        "classes": {"type": "array", "items": {"type": "object"}},
        "pairwise": MATRIX,
        "paths": MATRIX,
        "agreement": {"type": "object", "additionalProperties": {"type": ["string", "null"]}},
        "dissent": {"type": "array", "items": {"type": "object"}},
        "explanations": {"type": "array", "items": {"type": "object"}},
        "simulation": {"type": "object", "description": "The same ballots under `?alpha=` and `?q=`; not binding."},
    },
}


def _exponent() -> Parser:
    def read(text: str) -> Decimal:
        try:
            value = Decimal(text)
        except InvalidOperation:
            raise ValueError from None
        if not text.replace(".", "", 1).isascii() or not text.replace(".", "", 1).isdigit():
            raise ValueError
        if not 0 <= value <= 1 or value != round(value, 4):
            raise ValueError
        return value

    schema = {"type": "number", "minimum": 0, "maximum": 1}
    return Parser(read, "must be a number from 0 to 1 with at most four decimals", schema)


PARAMETERS = {
    "alpha": _exponent().described("Simulates: 0 regions equal, 1 organisations equal, between: by size."),
    "q": integer(1, 100).described("Simulates: ballots a region needs for its full weight."),
}


@router.get(
    "/v1/rounds/{id}/result",
    operation_id="getRoundResult",
    summary="The result of a closed round, with what it rests on",
    responses=responses(
        {200: answer(RESULT_SCHEMA), 304: None}, "not-found", "round-open", "display-withheld", "invalid-parameter"
    ),
    openapi_extra=described([*query_parameters(PARAMETERS), IF_NONE_MATCH], public("records:read")),
)
async def get_result(request: Request, id: str, caller: PublicReader) -> Response:
    asked = read_query(request, PARAMETERS)
    database: Database = request.app.state.database
    async with database.connection() as connection:
        one = await round_by_id(connection, caller, record_id(id))
        sha256, _, inputs, allowed = await sealed_ballots(connection, caller, one)
        cursor = await connection.execute("SELECT outcome FROM round_result WHERE round_id = %s", [one.id])
        row = await cursor.fetchone()
        known = await titles(connection, caller, one.issues)
    assert row is not None
    found: dict[str, Any] = {
        "round": one.id,
        "issue_list": one.issue_list_id,
        "stage": one.stage,
        "binding": True,
        "display": "full" if allowed.numbers else "reduced",
        **cited(one.charter_id, one.charter_version),
        "settings": one.settings.as_json(),
        "closed_at": one.closed_at,
        "ballots_sha256": sha256,
        **without_hidden(row[0] if allowed.numbers else reduced(row[0]), known),
    }
    if asked["alpha"] is not None or asked["q"] is not None:
        if not allowed.ballots:
            raise Problem("display-withheld", "Only who may see the ballots may simulate with them.")
        alpha = one.settings.exponent if asked["alpha"] is None else asked["alpha"]
        q = asked["q"] or one.settings.q
        simulated = without_hidden(await asyncio.to_thread(outcome_of, one, inputs, alpha, q), known)
        found["simulation"] = {"binding": False, "alpha": float(alpha), "q": q, **simulated}
    return computed(request, caller, found, private=one.tlp.startswith("amber"))
