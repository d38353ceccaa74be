"""Networks over HTTP, and who belongs to them: both sides agree, either ends it, no one enrols another."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from psycopg.rows import dict_row
from pydantic import BaseModel, ConfigDict, Field

from app.db.pool import Connection, Database
from app.http import etag, query
from app.http.body import json_body, validated
from app.http.openapi import (
    IDEMPOTENCY_KEY,
    IF_NONE_MATCH,
    answer,
    public,
    request_body,
    responses,
    schema_ref,
    secured,
)
from app.http.problem import Fault, Problem
from app.http.query import query_parameters, read_query
from app.http.responses import empty_response, json_response
from app.http.transact import transact
from app.identity import audit, networks, organisations, pages
from app.identity.access import PublicReader, member, own_id
from app.identity.caller import Caller
from app.identity.networks import Side
from app.identity.organisation_routes import NETWORK_LIST, ORGANISATION_PAGE, cache_control, listed
from app.identity.organisations import Organisation, visible_organisations
from app.identity.views import MembershipView, OrganisationView

Manager = Annotated[Caller, member("organisation:manage")]
Reader = Annotated[Caller, member("records:read")]
LIST: dict[str, query.Parser] = {
    "status": query.many(query.choice("invited", "requested", "active")).described(
        "For the network itself; members see active memberships only."
    ),
    **pages.PAGE_PARAMETERS,
}
STATUS = {
    "invited": "membership.organisation_agreed_at IS NULL",
    "requested": "membership.network_agreed_at IS NULL",
    "active": networks.BOTH_AGREED,
}

router = APIRouter(tags=["networks"])


class NewMember(BaseModel):
    """Whom a network invites; an organisation that names itself asks to be let in."""

    model_config = ConfigDict(extra="forbid", strict=True)

    organisation: UUID = Field(strict=False)


@router.get(
    "/v1/networks",
    operation_id="listNetworks",
    responses=responses({200: answer(ORGANISATION_PAGE, headers=["ETag", "Link"])}),
    openapi_extra={**public("records:read"), "parameters": [*query_parameters(NETWORK_LIST), IF_NONE_MATCH]},
)
async def list_networks(request: Request, caller: PublicReader) -> Response:
    """Networks that exist for the caller, newest first; they have the same ids as under /v1/organisations."""
    return await listed(request, caller, networks=True)


@router.get(
    "/v1/networks/{network_id}",
    operation_id="getNetwork",
    responses=responses({200: answer(OrganisationView, headers=["ETag"])}),
    openapi_extra={**public("records:read"), "parameters": [IF_NONE_MATCH]},
)
async def read_network(request: Request, network_id: UUID, caller: PublicReader) -> Response:
    """One network. **Errors:** 404 `not-found`, also for an organisation that is not a network."""
    read_query(request, {})
    database: Database = request.app.state.database
    async with database.connection() as connection:
        network = await _network(connection, network_id, caller)
    validator = etag.of_version(network.version)
    headers = {"ETag": validator, "Cache-Control": cache_control(caller)}
    if etag.matches(request, validator):
        return empty_response(304, headers)
    whole = caller.is_steward or network.id == caller.organisation_id
    return json_response(network.as_json(request.app.state.public_url, whole=whole), headers=headers)


async def _network(connection: Connection, network_id: UUID, caller: Caller) -> Organisation:
    found = await organisations.find(connection, network_id, caller)
    if not found.network:
        raise Problem("not-found")
    return found


@router.get(
    "/v1/networks/{network_id}/members",
    operation_id="listMembers",
    responses=responses(
        {200: answer(pages.page_schema("MembershipPage", schema_ref(MembershipView, "serialization")))},
        "not-permitted",
    ),
    openapi_extra={**secured("records:read"), "parameters": [*query_parameters(LIST), IF_NONE_MATCH]},
)
async def list_members(request: Request, network_id: UUID, caller: Reader) -> Response:
    """Who belongs to a network, newest first: for its active members and itself, which also sees invitations and
    requests. Members the caller may not know of are left out.

    **Errors:** 403 `not-permitted` for every other organisation.
    """
    asked = read_query(request, LIST)
    place = pages.after(request, caller, asked)
    predicate, values = visible_organisations(caller)
    itself = network_id == caller.organisation_id
    wanted = [STATUS[status] for status in asked["status"]] if itself else [networks.BOTH_AGREED]
    database: Database = request.app.state.database
    async with database.connection() as connection:
        await _network(connection, network_id, caller)
        if not itself and network_id not in caller.network_ids:
            raise Problem("not-permitted", detail="Only the network and its active members see who belongs to it.")
        rows = connection.cursor(row_factory=dict_row)
        await rows.execute(
            f"SELECT {networks.MEMBERSHIP} FROM {networks.JOINED} WHERE membership.network_id = %(network)s"
            f" AND membership.ended_at IS NULL AND ({' OR '.join(wanted) or 'true'}) AND {predicate}"
            " AND organisation.status = 'active' AND (%(after)s::uuid IS NULL OR membership.id < %(after)s)"
            f" ORDER BY membership.id DESC LIMIT {asked['limit'] + 1}",
            {**values, "network": network_id, "after": None if place is None else place[1]},
        )
        found = [networks.shown(row) for row in await rows.fetchall()]
    return pages.answered(request, caller, asked, found, versions=[one["status"] for one in found])


def _sides(caller: Caller, network_id: UUID, organisation_id: UUID) -> Side:
    """Which side of a membership the caller is. Errors: 403 `not-permitted` when neither."""
    if caller.organisation_id == network_id:
        return "network"
    if caller.organisation_id == organisation_id:
        return "organisation"
    raise Problem("not-permitted", detail="Only the network and the organisation itself decide about a membership.")


def _organisation_id(caller: Caller, given: str) -> UUID:
    """The organisation an address names; `me` is the caller's. Errors: 404 `not-found`."""
    try:
        return own_id(caller) if given == "me" else UUID(given)
    except ValueError:
        raise Problem("not-found") from None


async def _act(
    request: Request, caller: Caller, network_id: UUID, organisation_id: UUID, *, accept: bool | None, status: int
) -> Response:
    """Agrees (`accept` True: only to what the other side has agreed to; None: either way) or ends (False)."""

    async def work(connection: Connection) -> Response:
        await _network(connection, network_id, caller)
        side = _sides(caller, network_id, organisation_id)
        actor = audit.by(caller)
        if accept is False:
            await networks.end(connection, side, network_id, organisation_id, actor)
            return empty_response()
        if accept:
            present = await networks.open_membership(connection, network_id, organisation_id)
            if present is None:
                raise Problem("not-found")
        row = await networks.agree(connection, side, network_id, organisation_id, actor)
        return json_response(networks.shown(row), status)

    response = await transact(request, work, credential_id=caller.credential_id, idempotent=accept is not False)
    request.app.state.identity.forget()
    return response


@router.post(
    "/v1/networks/{network_id}/members",
    status_code=201,
    operation_id="inviteMember",
    responses=responses({201: answer(MembershipView)}, "conflict", "not-permitted"),
    openapi_extra={
        **secured("organisation:manage"),
        **request_body(NewMember, {"organisation": "0190b3a0-0000-7000-8000-000000000001"}),
        "parameters": [IDEMPOTENCY_KEY],
    },
)
async def invite_member(request: Request, network_id: UUID, caller: Manager) -> Response:
    """An invitation by the network, or an organisation's own request to be let in: nothing counts before the other
    side agrees. If it has agreed already, the membership is active.

    **Errors:** 422 `organisation-not-found` for one the caller may not see; 403 when the caller is neither side;
    409 `conflict` when this side has agreed already, or one of the two is not active.
    """
    body = validated(NewMember, await json_body(request))
    if caller.organisation_id == network_id:
        database: Database = request.app.state.database
        async with database.connection() as connection:
            try:
                await organisations.find(connection, body.organisation, caller)
            except Problem:
                raise Problem("invalid-body", errors=[Fault("/organisation", "organisation-not-found")]) from None
        if body.organisation == network_id:
            raise Problem("conflict", detail="A network cannot belong to itself.")
    return await _act(request, caller, network_id, body.organisation, accept=None, status=201)


@router.post(
    "/v1/networks/{network_id}/members/{organisation_id}/accept",
    operation_id="acceptMembership",
    responses=responses({200: answer(MembershipView)}, "conflict", "not-permitted"),
    openapi_extra={**secured("organisation:manage"), "parameters": [IDEMPOTENCY_KEY]},
)
async def accept_membership(request: Request, network_id: UUID, organisation_id: str, caller: Manager) -> Response:
    """The membership, active from now on: the invited organisation agrees to an invitation, or the network to a
    request. `me` stands for the caller's organisation.

    **Errors:** 404 when there is neither; 409 `conflict` when the caller's side has agreed already.
    """
    member_id = _organisation_id(caller, organisation_id)
    return await _act(request, caller, network_id, member_id, accept=True, status=200)


@router.delete(
    "/v1/networks/{network_id}/members/{organisation_id}",
    status_code=204,
    operation_id="endMembership",
    responses=responses({204: None}, "not-permitted"),
    openapi_extra=secured("organisation:manage"),
)
async def end_membership(request: Request, network_id: UUID, organisation_id: str, caller: Manager) -> Response:
    """Ends a membership at once, declines an invitation or request, or takes one back; either side may.

    `me` stands for the caller's organisation. **Errors:** 404 when there is none.
    """
    member_id = _organisation_id(caller, organisation_id)
    return await _act(request, caller, network_id, member_id, accept=False, status=204)


async def memberships_of(connection: Connection, caller: Caller) -> list[dict[str, Any]]:
    """The caller's own memberships that have not ended, newest first, also those that wait for a consent."""
    rows = connection.cursor(row_factory=dict_row)
    await rows.execute(
        f"SELECT {networks.MEMBERSHIP} FROM {networks.JOINED} WHERE membership.organisation_id = %(me)s"
        " AND membership.ended_at IS NULL ORDER BY membership.id DESC LIMIT 200",
        {"me": caller.organisation_id},
    )
    return [networks.shown(row) for row in await rows.fetchall()]
