"""Actions: stages moved by the owner, and the consent of each partner, given by itself.

proposed → agreed → running → done or stopped. An action is agreed when each of its issues stands in an adopted list
and each partner it names has accepted.
"""

from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from app.db.pool import Connection, Database
from app.deliberation.reading import in_adopted_lists, record_for
from app.deliberation.wire import OPTIONAL_MATCH, computed
from app.http import etag
from app.http.body import json_body, validated
from app.http.openapi import IDEMPOTENCY_KEY, IF_NONE_MATCH, answer, public, request_body, responses, secured
from app.http.problem import Fault, Problem
from app.http.query import read_query
from app.http.responses import empty_response, json_response
from app.http.transact import transact
from app.identity import organisations
from app.identity.access import PublicReader, member
from app.identity.caller import Caller
from app.records import show, store
from app.records.change import Action, Change
from app.records.kind import Kind, Status
from app.records.references import visible_organisation_ids
from app.records.router import described, record_id
from app.records.show import NO_STORE
from app.records.state import State

router = APIRouter(tags=["actions"])

LEGAL: Mapping[str, tuple[str, ...]] = {
    "proposed": ("agreed", "stopped"),
    "agreed": ("running", "stopped"),
    "running": ("done", "stopped"),
    "done": (),
    "stopped": (),
}
OPEN_TO_PARTNERS = ("proposed", "agreed", "running")


class ActionMove(BaseModel):
    """A move of an action."""

    model_config = ConfigDict(extra="forbid")

    stage: Literal["agreed", "running", "done", "stopped"]


@router.post(
    "/v1/actions/{id}/stage",
    operation_id="moveAction",
    summary="Move your action to another stage",
    responses=responses(
        {200: answer({"type": "object"}, "The record.")},
        "not-found", "withdrawn", "not-owner", "illegal-transition", "issue-not-adopted", "partners-not-agreed",
        "stale-version", "invalid-body",
    ),
    openapi_extra=described(
        [OPTIONAL_MATCH, IDEMPOTENCY_KEY],
        request_body(ActionMove, example={"stage": "agreed"}),
        secured("deliberation:write"),
    ),
)  # fmt: skip
async def move_action(request: Request, id: str, caller: Caller = member("deliberation:write")) -> Response:
    action_id = record_id(id)
    target = validated(ActionMove, await json_body(request)).stage
    expected = etag.expected_version(request, required=False)
    kinds: Mapping[str, Kind] = request.app.state.kinds

    async def work(connection: Connection) -> Response:
        action = await record_for(connection, caller, "action", action_id, own=True, lock=True)
        legal = LEGAL[action.stage or "proposed"]
        if target not in legal:
            raise Problem(
                "illegal-transition",
                f"From {action.stage} an action can go to: {', '.join(legal) or 'none'}.",
                extra={"stage": action.stage, "legal": list(legal)},
            )
        if action.status is not Status.PUBLISHED:
            raise Problem("illegal-transition", "Publish the action first.")
        if target == "agreed":
            await _require_agreement(connection, caller, action)
        change = Change(kinds["action"], Action.AMEND, action_id, stage=target, expected_version=expected)
        (written,) = await store.write(connection, caller, [change])
        assert written.state is not None
        return await show.written(request, connection, caller, kinds["action"], written.state)

    return await transact(request, work, credential_id=caller.credential_id, idempotent=True)


async def _require_agreement(connection: Connection, caller: Caller, action: State) -> None:
    """Errors: 422 `issue-not-adopted`; 409 `partners-not-agreed`."""
    adopted = await in_adopted_lists(connection, caller, action.body["issues"])
    faults = [
        Fault(f"/issues/{place}", "issue-not-adopted")
        for place, issue in enumerate(action.body["issues"])
        if issue not in adopted
    ]
    if faults or not action.body["issues"]:
        raise Problem("issue-not-adopted", errors=faults or [Fault("/issues", "issue-required")])
    if not set(action.body["partners"]) <= (await _accepted(connection, action.id)).keys():
        raise Problem("partners-not-agreed")


async def _accepted(connection: Connection, action_id: UUID) -> dict[str, Any]:
    """Partners that accepted → when."""
    cursor = await connection.execute(
        "SELECT organisation_id::text, accepted_at FROM action_partner WHERE action_id = %s", [action_id]
    )
    return dict(await cursor.fetchall())


async def _partner_of(connection: Connection, caller: Caller, action_id: UUID) -> State:
    """The action that names the caller as partner. Errors: 404, 410; 403 `not-permitted`; 409 `illegal-transition`."""
    action = await record_for(connection, caller, "action", action_id)
    if str(caller.organisation_id) not in action.body["partners"]:
        raise Problem("not-permitted", "The action does not name your organisation as a partner.")
    if action.stage not in OPEN_TO_PARTNERS or action.status is not Status.PUBLISHED:
        raise Problem("illegal-transition", "The action is not open to partners.")
    return action


@router.put(
    "/v1/actions/{id}/partners/me",
    operation_id="acceptAction",
    summary="Accept to be a partner of an action that names your organisation",
    responses=responses(
        {200: answer({"type": "object"})}, "not-found", "withdrawn", "not-permitted", "illegal-transition"
    ),
    openapi_extra=secured("deliberation:write"),
)
async def accept(request: Request, id: str, caller: Caller = member("deliberation:write")) -> Response:
    action_id = record_id(id)

    async def work(connection: Connection) -> Response:
        await _partner_of(connection, caller, action_id)
        await connection.execute(
            "INSERT INTO action_partner (action_id, organisation_id) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            [action_id, caller.organisation_id],
        )
        accepted = await _accepted(connection, action_id)
        shown = {
            "action": action_id,
            "organisation": {"id": caller.organisation_id, "name": caller.name},
            "status": "accepted",
            "accepted_at": accepted[str(caller.organisation_id)],
        }
        return json_response(shown, headers={"Cache-Control": NO_STORE})

    return await transact(request, work)


@router.delete(
    "/v1/actions/{id}/partners/me",
    operation_id="declineAction",
    summary="Take your organisation's acceptance back",
    status_code=204,
    responses=responses({204: None}, "not-found", "withdrawn", "not-permitted", "illegal-transition"),
    openapi_extra=secured("deliberation:write"),
)
async def decline(request: Request, id: str, caller: Caller = member("deliberation:write")) -> Response:
    action_id = record_id(id)

    async def work(connection: Connection) -> Response:
        await _partner_of(connection, caller, action_id)
        await connection.execute(
            "DELETE FROM action_partner WHERE action_id = %s AND organisation_id = %s",
            [action_id, caller.organisation_id],
        )
        return empty_response(204, {"Cache-Control": NO_STORE})

    return await transact(request, work)


@router.get(
    "/v1/actions/{id}/partners",
    operation_id="listActionPartners",
    summary="The partners of an action and whether they have accepted",
    responses=responses({200: answer({"type": "object"}), 304: None}, "not-found", "withdrawn"),
    openapi_extra=described([IF_NONE_MATCH], public("records:read")),
)
async def partners(request: Request, id: str, caller: PublicReader) -> Response:
    read_query(request, {})
    database: Database = request.app.state.database
    async with database.connection() as connection:
        action = await record_for(connection, caller, "action", record_id(id))
        named = [UUID(partner) for partner in action.body["partners"]]
        visible = await visible_organisation_ids(connection, caller, named)
        names = await organisations.names(request, connection, named)
        accepted = await _accepted(connection, action.id)
    items = [
        {
            "organisation": {"id": partner, "name": names.get(partner, "")},
            "status": "accepted" if str(partner) in accepted else "invited",
            "accepted_at": accepted.get(str(partner)),
        }
        for partner in named
        if str(partner) in visible
    ]
    private = action.marking.tlp.startswith("amber") or action.status != "published"
    return computed(request, caller, {"action": action.id, "items": items, "next": None}, private=private)
