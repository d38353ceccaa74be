"""Credentials over HTTP: an organisation manages its own. Secrets are shown once (rules E2, B10)."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from psycopg.rows import dict_row
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from app.db.pool import Connection, Database
from app.http import query
from app.http.body import json_body, validated
from app.http.openapi import IDEMPOTENCY_KEY, IF_NONE_MATCH, answer, request_body, responses, schema_ref, secured
from app.http.problem import Fault, Problem
from app.http.query import query_parameters, read_query
from app.http.responses import empty_response, json_response
from app.http.transact import transact
from app.identity import audit, credentials, pages
from app.identity.access import member, own_id
from app.identity.caller import Caller
from app.identity.credentials import COLUMNS, OVERLAP_SECONDS
from app.identity.profile import Name
from app.identity.views import CredentialView, NewCredentialView

Manager = Annotated[Caller, member("organisation:manage")]
LIST: dict[str, query.Parser] = {
    "revoked": query.boolean(None).described("Only revoked ones, or only the others."),
    **pages.PAGE_PARAMETERS,
}

router = APIRouter(tags=["credentials"])


class NewCredential(BaseModel):
    """A credential to be made."""

    model_config = ConfigDict(extra="forbid", strict=True)

    label: Name = Field(description="What uses it: one credential for each script or site.")
    scopes: list[str] | None = Field(
        None, min_length=1, max_length=20, description="At most those of the token used; all of them when left out."
    )
    expires_at: AwareDatetime | None = Field(None, strict=False, description="When it stops working by itself.")


class Rotation(BaseModel):
    """How to rotate a secret."""

    model_config = ConfigDict(extra="forbid", strict=True)

    overlap_seconds: int = Field(
        OVERLAP_SECONDS, ge=0, le=OVERLAP_SECONDS, description="How long the old secret works on; at most 7 days."
    )


@router.get(
    "/v1/credentials",
    operation_id="listCredentials",
    responses=responses(
        {200: answer(pages.page_schema("CredentialPage", schema_ref(CredentialView, "serialization")))}
    ),
    openapi_extra={**secured("organisation:manage"), "parameters": [*query_parameters(LIST), IF_NONE_MATCH]},
)
async def list_credentials(request: Request, caller: Manager) -> Response:
    """The organisation's credentials, newest first, without secrets."""
    asked = read_query(request, LIST)
    place = pages.after(request, caller, asked)
    database: Database = request.app.state.database
    async with database.connection() as connection:
        rows = connection.cursor(row_factory=dict_row)
        await rows.execute(
            f"SELECT {COLUMNS} FROM credential WHERE organisation_id = %(me)s"
            " AND (%(revoked)s::boolean IS NULL OR (revoked_at IS NOT NULL) = %(revoked)s)"
            " AND (%(after)s::uuid IS NULL OR id < %(after)s)"
            f" ORDER BY id DESC LIMIT {asked['limit'] + 1}",
            {
                "me": caller.organisation_id,
                "revoked": asked["revoked"],
                "after": None if place is None else place[1],
            },
        )
        found = await rows.fetchall()
    states = [tuple(one[name] for name in ("revoked_at", "last_used_at", "previous_expires_at")) for one in found]
    return pages.answered(request, caller, asked, found, versions=states)


@router.post(
    "/v1/credentials",
    status_code=201,
    operation_id="createCredential",
    responses=responses({201: answer(NewCredentialView, headers=["Location"])}, "secret-already-shown", "conflict"),
    openapi_extra={
        **secured("organisation:manage"),
        **request_body(NewCredential, {"label": "Nightly export", "scopes": ["records:read"]}),
        "parameters": [IDEMPOTENCY_KEY],
    },
)
async def create_credential(request: Request, caller: Manager) -> Response:
    """A new credential with its secret, which is shown this once. Its scopes are among those of the token used.

    **Errors:** 422 `scope-not-granted`; 409 `secret-already-shown` when an Idempotency-Key is used again.
    """
    body = validated(NewCredential, await json_body(request))
    if body.expires_at is not None and body.expires_at <= datetime.now(UTC):
        raise Problem("invalid-body", errors=[Fault("/expires_at", "in-the-past")])
    scopes = credentials.checked_scopes(body.scopes, caller.scopes - {"steward"})

    async def work(connection: Connection) -> Response:
        made = await credentials.add(
            connection,
            request.app.state.secret,
            own_id(caller),
            body.label,
            scopes,
            expires_at=body.expires_at,
            actor=audit.by(caller),
        )
        return json_response(made, 201, {"Location": f"{request.app.state.public_url}/v1/credentials/{made['id']}"})

    return await transact(request, work, credential_id=caller.credential_id, idempotent=True, holds_secret=True)


async def _own(connection: Connection, caller: Caller, credential_id: UUID) -> dict[str, Any]:
    rows = connection.cursor(row_factory=dict_row)
    await rows.execute(
        f"SELECT {COLUMNS} FROM credential WHERE id = %(id)s AND organisation_id = %(me)s",
        {"id": credential_id, "me": caller.organisation_id},
    )
    found = await rows.fetchone()
    if found is None:
        raise Problem("not-found")
    return found


@router.get(
    "/v1/credentials/{credential_id}",
    operation_id="getCredential",
    responses=responses({200: answer(CredentialView)}),
    openapi_extra=secured("organisation:manage"),
)
async def read_credential(request: Request, credential_id: UUID, caller: Manager) -> Response:
    """One of the organisation's credentials, without its secret."""
    read_query(request, {})
    database: Database = request.app.state.database
    async with database.connection() as connection:
        return json_response(await _own(connection, caller, credential_id))


@router.post(
    "/v1/credentials/{credential_id}/rotate",
    operation_id="rotateCredential",
    responses=responses({200: answer(NewCredentialView)}, "not-permitted", "secret-already-shown"),
    openapi_extra={
        **secured("organisation:manage"),
        **request_body(Rotation, {"overlap_seconds": 86400}, required=False),
        "parameters": [IDEMPOTENCY_KEY],
    },
)
async def rotate_credential(request: Request, credential_id: UUID, caller: Manager) -> Response:
    """The credential with a new secret, shown this once; the old one works on for the overlap asked, at most 7 days.

    **Errors:** 403 `not-permitted` when it has scopes the token used lacks: a secret would hand them over.
    """
    body = validated(Rotation, await json_body(request) if await request.body() else {})

    async def work(connection: Connection) -> Response:
        present = await _own(connection, caller, credential_id)
        if not set(present["scopes"]) <= caller.scopes - {"steward"}:
            raise Problem("not-permitted", detail="The credential has scopes that this token lacks.")
        changed = await credentials.rotate(
            connection,
            request.app.state.secret,
            credential_id,
            overlap_seconds=body.overlap_seconds,
            organisation_id=caller.organisation_id,
            actor=audit.by(caller),
        )
        return json_response(changed)

    return await transact(request, work, credential_id=caller.credential_id, idempotent=True, holds_secret=True)


async def _revoked(request: Request, credential_id: UUID, caller: Caller) -> dict[str, Any]:
    """The credential after its revocation, which this process honours at once and others within a second."""
    revoked: dict[str, Any] = {}

    async def work(connection: Connection) -> Response:
        revoked.update(
            await credentials.revoke(
                connection, credential_id, organisation_id=caller.organisation_id, actor=audit.by(caller)
            )
        )
        return empty_response()

    await transact(request, work)
    request.app.state.identity.forget()
    return revoked


@router.post(
    "/v1/credentials/{credential_id}/revoke",
    operation_id="revokeCredential",
    responses=responses({200: answer(CredentialView)}),
    openapi_extra=secured("organisation:manage"),
)
async def revoke_credential(request: Request, credential_id: UUID, caller: Manager) -> Response:
    """The credential, revoked: its secret and all its tokens are refused from now on. Doing it twice is fine."""
    return json_response(await _revoked(request, credential_id, caller))


@router.delete(
    "/v1/credentials/{credential_id}",
    status_code=204,
    operation_id="deleteCredential",
    responses=responses({204: None}),
    openapi_extra=secured("organisation:manage"),
)
async def delete_credential(request: Request, credential_id: UUID, caller: Manager) -> Response:
    """The same as revoking it; the entry stays for the record."""
    await _revoked(request, credential_id, caller)
    return empty_response()
