"""Stages: the life of an issue list, moved by its owner only.

draft → consultation → endorsement → ranking → adopted → superseded, or lapsed. Opening a round moves a list to
`endorsement` or `ranking`; `adopt` and `stage` do the rest. What is adopted never changes again.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.db.pool import Connection, Database
from app.deliberation.double_majority import Standing
from app.deliberation.list_diff import difference
from app.deliberation.reading import record_for, rounds_of, titles, without_finding
from app.deliberation.wire import OPTIONAL_MATCH, computed
from app.http import etag
from app.http.body import json_body, validated
from app.http.openapi import IDEMPOTENCY_KEY, IF_MATCH, IF_NONE_MATCH, answer, public, request_body, responses, secured
from app.http.problem import Fault, Problem
from app.http.query import read_query
from app.http.transact import transact
from app.identity.access import PublicReader, member
from app.identity.caller import Caller
from app.records import show, store
from app.records.change import Action, Change
from app.records.kind import Kind, Status
from app.records.router import described, record_id
from app.records.state import State

router = APIRouter(tags=["deliberation"])

LEGAL: Mapping[str, tuple[str, ...]] = {
    "draft": ("consultation", "endorsement", "ranking"),
    "consultation": ("endorsement", "ranking", "lapsed"),
    "endorsement": ("endorsement", "ranking", "lapsed"),
    "ranking": ("ranking", "adopted", "lapsed"),
    "adopted": ("superseded",),
    "superseded": (),
    "lapsed": (),
}
"""Where a list can go from each stage. A second round of the same stage is a move to where it already is."""

ANY_RECORD: dict[str, Any] = {"type": "object", "description": "The full record as it is now."}


class StageMove(BaseModel):
    """A move that needs no round."""

    model_config = ConfigDict(extra="forbid")

    stage: Literal["draft", "consultation", "endorsement", "ranking", "adopted", "superseded", "lapsed"] = Field(
        description="`consultation`, `lapsed` or `superseded`; the others are reached by rounds and by `adopt`."
    )


class Adoption(BaseModel):
    """What may go with an adoption."""

    model_config = ConfigDict(extra="forbid")

    supersedes: Annotated[UUID | None, Field(description="Your adopted list that this one takes the place of.")] = None


def require_legal(stage: str | None, target: str) -> None:
    """Errors: 409 `illegal-transition` naming the legal stages."""
    legal = LEGAL[stage or "draft"]
    if target not in legal:
        listed = ", ".join(legal) if legal else "none"
        raise Problem(
            "illegal-transition",
            f"From {stage} a list can go to: {listed}.",
            extra={"stage": stage, "legal": list(legal)},
        )


async def move(
    request: Request,
    connection: Connection,
    caller: Caller,
    issue_list: State,
    target: str,
    *,
    amendment: Mapping[str, Any] | None = None,
    expected_version: int | None = None,
) -> State:
    """The list in its new stage. Errors: 409 `illegal-transition`; those of the store."""
    require_legal(issue_list.stage, target)
    change = Change(
        _lists(request),
        Action.AMEND,
        issue_list.id,
        stage=target,
        amendment=amendment,
        expected_version=expected_version,
    )
    (written,) = await store.write(connection, caller, [change])
    assert written.state is not None
    return written.state


def _lists(request: Request) -> Kind:
    kinds: Mapping[str, Kind] = request.app.state.kinds
    return kinds["issue-list"]


@router.post(
    "/v1/issue-lists/{id}/stage",
    operation_id="moveIssueList",
    summary="Move your list to another stage",
    responses=responses(
        {200: answer(ANY_RECORD)}, "not-found", "withdrawn", "not-owner", "illegal-transition", "round-open",
        "stale-version", "invalid-body",
    ),
    openapi_extra=described(
        [OPTIONAL_MATCH, IDEMPOTENCY_KEY],
        request_body(StageMove, example={"stage": "consultation"}),
        secured("deliberation:write"),
    ),
)  # fmt: skip
async def move_list(request: Request, id: str, caller: Caller = member("deliberation:write")) -> Response:
    list_id = record_id(id)
    target = validated(StageMove, await json_body(request)).stage
    expected = etag.expected_version(request, required=False)

    async def work(connection: Connection) -> Response:
        issue_list = await record_for(connection, caller, "issue-list", list_id, own=True, lock=True)
        require_legal(issue_list.stage, target)
        if target in ("endorsement", "ranking", "adopted"):
            verb = "adopt" if target == "adopted" else "rounds"
            raise Problem("illegal-transition", f"A list comes to {target} by POST …/{verb}.", extra=_legal(issue_list))
        if issue_list.status is not Status.PUBLISHED:
            raise Problem("illegal-transition", "Publish the list first.", extra=_legal(issue_list))
        if any(one.status == "open" for one in await rounds_of(connection, caller, list_id)):
            raise Problem("round-open")
        state = await move(request, connection, caller, issue_list, target, expected_version=expected)
        return await show.written(request, connection, caller, _lists(request), state)

    return await transact(request, work, credential_id=caller.credential_id, idempotent=True)


def _legal(issue_list: State) -> dict[str, Any]:
    return {"stage": issue_list.stage, "legal": list(LEGAL[issue_list.stage or "draft"])}


@router.post(
    "/v1/issue-lists/{id}/adopt",
    operation_id="adoptIssueList",
    summary="Adopt your list in the order of its last ranking; it never changes again",
    responses=responses(
        {200: answer(ANY_RECORD, headers=("ETag", "TLP"))},
        "not-found", "withdrawn", "not-owner", "illegal-transition", "round-open", "no-quorum", "list-changed",
        "issue-without-finding", "precondition-required", "stale-version", "invalid-body", "reference-not-readable",
    ),
    openapi_extra=described(
        [IF_MATCH, IDEMPOTENCY_KEY], request_body(Adoption, example={}, required=False), secured("deliberation:write")
    ),
)  # fmt: skip
async def adopt(request: Request, id: str, caller: Caller = member("deliberation:write")) -> Response:
    list_id = record_id(id)
    asked = validated(Adoption, await json_body(request) if await request.body() else {})

    async def work(connection: Connection) -> Response:
        issue_list = await record_for(connection, caller, "issue-list", list_id, own=True, lock=True)
        expected = etag.expected_version(request)
        if expected != issue_list.version:
            raise Problem("stale-version", extra={"current_version": issue_list.version})
        require_legal(issue_list.stage, "adopted")
        ordered = await _ranked_items(connection, caller, issue_list)
        bare = await without_finding(connection, caller, [item["issue"] for item in ordered])
        if bare:
            raise Problem(
                "issue-without-finding",
                errors=[
                    Fault(f"/items/{place}/issue", "finding-required")
                    for place, item in enumerate(issue_list.body["items"])
                    if item["issue"] in bare
                ],
            )
        if asked.supersedes is not None:
            await _supersede(request, connection, caller, asked.supersedes, list_id)
        state = await move(
            request, connection, caller, issue_list, "adopted", amendment={"items": ordered, "ordered": True}
        )
        return await show.written(request, connection, caller, _lists(request), state)

    return await transact(request, work, credential_id=caller.credential_id, idempotent=True)


async def _ranked_items(connection: Connection, caller: Caller, issue_list: State) -> list[dict[str, Any]]:
    """The list's items: first those ranked, in their order; then regional ones, the annex, as they stood.

    Errors: 409 `round-open`, `illegal-transition` (no ranking yet), `no-quorum`, `list-changed`.
    """
    rounds = await rounds_of(connection, caller, issue_list.id)
    if any(one.status == "open" for one in rounds):
        raise Problem("round-open")
    rankings = [one for one in rounds if one.stage == "ranking"]
    if not rankings:
        raise Problem("illegal-transition", "Only a list that was ranked can be adopted.")
    outcomes = {}
    for one in rounds:
        cursor = await connection.execute("SELECT outcome FROM round_result WHERE round_id = %s", [one.id])
        row = await cursor.fetchone()
        assert row is not None
        outcomes[one.id] = row[0]
    last = rankings[-1]
    if not outcomes[last.id]["quorum"]["met"]:
        raise Problem("no-quorum")
    items = {item["issue"]: item for item in issue_list.body["items"]}
    ranked = [entry["issue_id"] for entry in outcomes[last.id]["ranks"]]
    before = [one for one in rounds if one.stage == "endorsement" and one.id < last.id]
    classes = {} if not before else {item["issue_id"]: item["class"] for item in outcomes[before[-1].id]["classes"]}
    voted_on = classes.keys() if classes else set(ranked)
    if items.keys() != voted_on or not set(ranked) <= items.keys():
        raise Problem("list-changed")
    annex = [issue for issue in items if classes.get(issue) == Standing.REGIONAL and issue not in ranked]
    return [items[issue] for issue in (*ranked, *annex)]


async def _supersede(request: Request, connection: Connection, caller: Caller, superseded: UUID, by: UUID) -> None:
    """Moves an adopted list of the caller's to `superseded`. Errors: 422 `reference-not-readable`; 409."""
    try:
        if superseded == by:
            raise Problem("not-found")
        older = await record_for(connection, caller, "issue-list", superseded, own=True, lock=True)
    except Problem as problem:
        fault = Fault("/supersedes", "reference-not-readable")
        raise Problem("reference-not-readable", errors=[fault]) from problem
    await move(request, connection, caller, older, "superseded")


@router.get(
    "/v1/issue-lists/{id}/diff/{other}",
    operation_id="compareIssueLists",
    summary="What differs between two lists: issues gone, come, moved, notes changed",
    responses=responses({200: answer({"type": "object"}), 304: None}, "not-found", "withdrawn"),
    openapi_extra=described([IF_NONE_MATCH], public("records:read")),
)
async def compare(request: Request, id: str, other: str, caller: PublicReader) -> Response:
    read_query(request, {})
    database: Database = request.app.state.database
    async with database.connection() as connection:
        first = await record_for(connection, caller, "issue-list", record_id(id))
        second = await record_for(connection, caller, "issue-list", record_id(other))
        listed = {item["issue"] for state in (first, second) for item in state.body["items"]}
        known = await titles(connection, caller, listed)
    marked = any(state.marking.tlp.startswith("amber") or state.status != "published" for state in (first, second))
    return computed(request, caller, difference(first, second, known), private=marked)
