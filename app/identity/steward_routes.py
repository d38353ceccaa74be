"""What stewards do, and how an invited organisation takes its entry (rules E1, E4). Every act is audited."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.db.pool import Connection
from app.http.body import json_body, validated
from app.http.openapi import IDEMPOTENCY_KEY, answer, public, request_body, responses, secured
from app.http.problem import Problem
from app.http.rate import charge
from app.http.responses import json_response
from app.http.transact import transact
from app.identity import audit, credentials, organisations
from app.identity.access import member
from app.identity.audit import Actor
from app.identity.caller import Caller
from app.identity.organisations import CLAIM_HOURS, Organisation
from app.identity.profile import Name, NewOrganisation
from app.identity.views import ClaimedCredentialView, InvitedOrganisation, OrganisationView

Steward = Annotated[Caller, member("steward")]
EXAMPLE = {"name": "Example CSO A", "kind": "civil-society-organisation", "country": "CD", "listing": "members"}

router = APIRouter(tags=["organisations"])


class Claim(BaseModel):
    """What an invited organisation sends to take its entry."""

    model_config = ConfigDict(extra="forbid", strict=True)

    claim_code: str = Field(min_length=1, max_length=200)
    label: Name = Field("First credential", description="What to call the credential.")


def _invited(request: Request, organisation: Organisation, code: str, status: int) -> Response:
    shown: dict[str, Any] = organisation.as_json(request.app.state.public_url)
    shown["claim_code"] = code
    shown["claim_expires_at"] = datetime.now(UTC) + timedelta(hours=CLAIM_HOURS)
    return json_response(shown, status, {"Location": shown["url"], "Cache-Control": "private, no-store"})


@router.post(
    "/v1/organisations",
    status_code=201,
    operation_id="admitOrganisation",
    responses=responses({201: answer(InvitedOrganisation, headers=["Location"])}, "secret-already-shown"),
    openapi_extra={
        **secured("steward"),
        **request_body(NewOrganisation, EXAMPLE),
        "parameters": [IDEMPOTENCY_KEY],
    },
)
async def admit_organisation(request: Request, caller: Steward) -> Response:
    """A new entry, `invited`, with a claim code that its organisation turns into the first credential.

    The code is shown once. Hand it over by a channel both sides trust.
    """
    new = validated(NewOrganisation, await json_body(request))

    async def work(connection: Connection) -> Response:
        actor = audit.by(caller, steward=True)
        made = await organisations.insert(connection, new, status="invited", actor=actor)
        code = await organisations.claim_code(connection, request.app.state.secret, made.id, actor)
        return _invited(request, made, code, 201)

    return await transact(request, work, credential_id=caller.credential_id, idempotent=True, holds_secret=True)


@router.post(
    "/v1/organisations/{organisation_id}/invite",
    operation_id="inviteOrganisation",
    responses=responses({200: answer(InvitedOrganisation)}, "illegal-transition", "secret-already-shown"),
    openapi_extra={**secured("steward"), "parameters": [IDEMPOTENCY_KEY]},
)
async def invite_organisation(request: Request, organisation_id: UUID, caller: Steward) -> Response:
    """Opens a not-claimed entry (or one invited before) with a new claim code; codes given before stop working.

    **Errors:** 409 `illegal-transition` for an entry that has been claimed: stewards make no credentials for others.
    """

    async def work(connection: Connection) -> Response:
        await organisations.find(connection, organisation_id, caller)
        actor = audit.by(caller, steward=True)
        after, code = await organisations.invite(connection, request.app.state.secret, organisation_id, actor)
        return _invited(request, after, code, 200)

    return await transact(request, work, credential_id=caller.credential_id, idempotent=True, holds_secret=True)


@router.post(
    "/v1/organisations/claim",
    status_code=201,
    operation_id="claimOrganisation",
    responses=responses({201: answer(ClaimedCredentialView)}, "invalid-body"),
    openapi_extra={**public(), **request_body(Claim, {"claim_code": "mngo_…", "label": "First script"})},
)
async def claim_organisation(request: Request) -> Response:
    """The first credential of the organisation whose claim code is sent; it is active from now on.

    The secret is shown once. **Errors:** 422 `claim-code-not-valid` for a code that is wrong, used, or older than 72 h.
    """
    await charge(request)
    body = validated(Claim, await json_body(request))
    secret = request.app.state.secret

    async def work(connection: Connection) -> Response:
        organisation = await organisations.claim(connection, secret, body.claim_code)
        actor = Actor("credential", organisation.id)
        made = await credentials.add(connection, secret, organisation.id, body.label, actor=actor)
        named = {"id": organisation.id, "name": organisation.name}
        return json_response({**made, "organisation": named}, 201, {"Cache-Control": "private, no-store"})

    response = await transact(request, work)
    request.app.state.identity.forget()
    return response


async def _changed(request: Request, organisation_id: UUID, caller: Caller, *, suspended: bool) -> Response:
    if organisation_id == caller.organisation_id:
        raise Problem("not-permitted", detail="A steward cannot do this to the own organisation.")

    async def work(connection: Connection) -> Response:
        await organisations.find(connection, organisation_id, caller)
        act = organisations.suspend if suspended else organisations.reinstate
        after = await act(connection, organisation_id, audit.by(caller, steward=True))
        return json_response(after.as_json(request.app.state.public_url))

    response = await transact(request, work, credential_id=caller.credential_id, idempotent=True)
    request.app.state.identity.forget()
    return response


@router.post(
    "/v1/organisations/{organisation_id}/suspend",
    operation_id="suspendOrganisation",
    responses=responses({200: answer(OrganisationView)}, "illegal-transition", "not-permitted"),
    openapi_extra={**secured("steward"), "parameters": [IDEMPOTENCY_KEY]},
)
async def suspend_organisation(request: Request, organisation_id: UUID, caller: Steward) -> Response:
    """Suspends an active organisation: none of its tokens works from now on, its records stay."""
    return await _changed(request, organisation_id, caller, suspended=True)


@router.post(
    "/v1/organisations/{organisation_id}/reinstate",
    operation_id="reinstateOrganisation",
    responses=responses({200: answer(OrganisationView)}, "illegal-transition", "not-permitted"),
    openapi_extra={**secured("steward"), "parameters": [IDEMPOTENCY_KEY]},
)
async def reinstate_organisation(request: Request, organisation_id: UUID, caller: Steward) -> Response:
    """Makes a suspended organisation active again; its credentials work as before."""
    return await _changed(request, organisation_id, caller, suspended=False)
