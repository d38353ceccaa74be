"""Who the service takes the caller for, and what was done about its access."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from psycopg.rows import dict_row

from app.db.pool import Database
from app.http import query
from app.http.openapi import IF_NONE_MATCH, answer, responses, schema_ref, secured
from app.http.query import query_parameters, read_query
from app.http.rate import RateLimiter
from app.http.responses import json_response
from app.identity import organisations, pages
from app.identity.access import member, own_id, require_scope
from app.identity.caller import SCOPES, Caller
from app.identity.credentials import COLUMNS
from app.identity.network_routes import memberships_of
from app.identity.views import AuditEventView, MeView

Anyone = Annotated[Caller, member()]
Manager = Annotated[Caller, member("organisation:manage")]
LIST: dict[str, query.Parser] = {
    "acts_of": query.choice("organisation", "stewards", default="organisation").described(
        "`organisation`: what concerns or was done by one's own; `stewards`: acts of stewards, for stewards only."
    ),
    "action": query.many(query.text(60, pattern="[a-z.-]+")).described("Such as `credential.revoke`."),
    "since": query.instant().described("Only events at or after this instant."),
    **pages.PAGE_PARAMETERS,
}

router = APIRouter(tags=["me"])


@router.get(
    "/v1/me",
    operation_id="getMe",
    responses=responses({200: answer(MeView)}),
    openapi_extra=secured(),
)
async def read_me(request: Request, caller: Anyone) -> Response:
    """The caller's organisation, credential, scopes, networks, memberships, and the limits it is held to."""
    read_query(request, {})
    database: Database = request.app.state.database
    limiter: RateLimiter | None = request.app.state.limiter
    async with database.connection() as connection:
        organisation = await organisations.find(connection, own_id(caller))
        rows = connection.cursor(row_factory=dict_row)
        await rows.execute(f"SELECT {COLUMNS} FROM credential WHERE id = %(id)s", {"id": caller.credential_id})
        credential = await rows.fetchone()
        memberships = await memberships_of(connection, caller)
    return json_response(
        {
            "organisation": organisation.as_json(request.app.state.public_url),
            "credential": credential,
            "scopes": [scope for scope in SCOPES if scope in caller.scopes],
            "networks": [one["network"] for one in memberships if one["network"]["id"] in caller.network_ids],
            "memberships": memberships,
            "token": {"jti": caller.jti, "expires_at": datetime.fromtimestamp(caller.expires_at, UTC)},
            "limits": None if limiter is None else limiter.describe(),
        }
    )


def _shown(caller: Caller, row: dict[str, Any]) -> dict[str, Any]:
    """An event on the wire. Which organisation a steward belongs to is told to stewards and to that organisation."""
    own = caller.organisation_id == row["actor_organisation_id"]
    named = own or caller.is_steward or row["actor"] != "steward"
    return {
        "id": row["id"],
        "at": row["at"],
        "action": row["action"],
        "actor": {
            "kind": row["actor"],
            "organisation": row["actor_organisation_id"] if named else None,
            "credential": row["actor_credential_id"] if own else None,
        },
        "organisation": row["organisation_id"],
        "details": row["details"],
    }


@router.get(
    "/v1/audit-events",
    operation_id="listAuditEvents",
    responses=responses(
        {200: answer(pages.page_schema("AuditEventPage", schema_ref(AuditEventView, "serialization")))}
    ),
    openapi_extra={**secured("organisation:manage"), "parameters": [*query_parameters(LIST), IF_NONE_MATCH]},
)
async def list_audit_events(request: Request, caller: Manager) -> Response:
    """What was done about access, newest first: to or by the own organisation; for stewards also the acts of all
    stewards. Changes of records are in their versions.

    **Errors:** 403 `insufficient-scope` for `acts_of=stewards` without the scope `steward`.
    """
    asked = read_query(request, LIST)
    if asked["acts_of"] == "stewards":
        require_scope(caller, "steward")
        concerned = "actor = 'steward'"
    else:
        concerned = "(organisation_id = %(me)s OR actor_organisation_id = %(me)s)"
    place = pages.after(request, caller, asked)
    database: Database = request.app.state.database
    async with database.connection() as connection:
        rows = connection.cursor(row_factory=dict_row)
        await rows.execute(
            "SELECT seq, id, at, action, actor, actor_organisation_id, actor_credential_id, organisation_id, details"
            f" FROM audit_event WHERE {concerned} AND (%(after)s::bigint IS NULL OR seq < %(after)s)"
            " AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)"
            " AND (%(actions)s::text[] IS NULL OR action = ANY(%(actions)s))"
            f" ORDER BY seq DESC LIMIT {asked['limit'] + 1}",
            {
                "me": caller.organisation_id,
                "after": None if place is None else place[0],
                "since": asked["since"],
                "actions": list(asked["action"]) or None,
            },
        )
        found = await rows.fetchall()
    return pages.answered(
        request, caller, asked, [_shown(caller, row) for row in found], keys=[row["seq"] for row in found]
    )
