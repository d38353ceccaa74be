"""Organisations over HTTP: who is here, one's own profile, and what stewards do."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from app import reference
from app.db.pool import Connection, Database
from app.http import etag, query
from app.http.body import json_body, validated
from app.http.openapi import IF_NONE_MATCH, answer, public, request_body, responses, schema_ref, secured
from app.http.problem import Problem, register
from app.http.query import query_parameters, read_query
from app.http.responses import empty_response, json_response
from app.http.transact import transact
from app.identity import audit, organisations, pages
from app.identity.access import PublicReader, member, own_id
from app.identity.caller import Caller
from app.identity.organisations import COLUMNS, Organisation, visible_organisations
from app.identity.profile import Profile
from app.identity.views import OrganisationView
from app.identity.vocabulary import KINDS, STATUSES

Manager = Annotated[Caller, member("organisation:manage")]
Hook = Callable[[Request, Connection, Caller], Awaitable[None]]

LIST: dict[str, query.Parser] = {
    "kind": query.many(query.choice(*KINDS)).described("Kind; repeat for any of several."),
    "country": query.many(query.choice(*sorted(reference.COUNTRIES))).described("ISO 3166-1 alpha-2 code."),
    "region": query.many(query.choice(*sorted(reference.REGIONS))).described("Region, as at /v1/regions."),
    "status": query.many(query.choice(*STATUSES)).described("Status; repeat for any of several."),
    "network": query.boolean(None).described("Only networks, or only the others."),
    "q": query.text(200).described("Part of the name or the acronym, in any case."),
    "count": query.boolean().described("Adds `total`."),
    **pages.PAGE_PARAMETERS,
}
NETWORK_LIST = {name: parser for name, parser in LIST.items() if name != "network"}
PATCH_TYPES = ("application/merge-patch+json", "application/json")

ORGANISATION_PAGE = pages.page_schema("OrganisationPage", schema_ref(OrganisationView, "serialization"))

register({"leave-unconfirmed": (409, "Fetch your exports first, then confirm that your organisation leaves.")})

router = APIRouter(tags=["organisations"])


def cache_control(caller: Caller) -> str:
    """How an answer about organisations may be kept."""
    return "private, no-cache" if caller.is_member else "public, max-age=60"


def _whole(caller: Caller, organisation: Organisation) -> bool:
    return caller.is_steward or organisation.id == caller.organisation_id


def _shown(request: Request, caller: Caller, organisation: Organisation) -> dict[str, Any]:
    return organisation.as_json(request.app.state.public_url, whole=_whole(caller, organisation))


def _one(request: Request, caller: Caller, organisation: Organisation, status: int = 200) -> Response:
    """An organisation with its validator; 304 when the client of a GET holds it already."""
    validator = etag.of_version(organisation.version)
    headers = {"ETag": validator, "Cache-Control": cache_control(caller)}
    if request.method == "GET" and etag.matches(request, validator):
        return empty_response(304, headers)
    return json_response(_shown(request, caller, organisation), status, headers)


async def listed(request: Request, caller: Caller, *, networks: bool) -> Response:
    """A page of the organisations (or only the networks) that exist for the caller, newest first."""
    asked = read_query(request, NETWORK_LIST if networks else LIST)
    predicate, values = visible_organisations(caller)
    conditions = [predicate]
    for name in ("kind", "country", "region", "status"):
        if asked[name]:
            conditions.append(f"organisation.{name} = ANY(%({name})s)")
            values[name] = list(asked[name])
    wanted = True if networks else asked["network"]
    if wanted is not None:
        conditions.append("organisation.network = %(network)s")
        values["network"] = wanted
    if asked["q"] is not None:
        conditions.append(
            "(position(lower(%(q)s) IN lower(organisation.name)) > 0"
            " OR position(lower(%(q)s) IN lower(coalesce(organisation.acronym, ''))) > 0)"
        )
        values["q"] = asked["q"]
    found = " AND ".join(conditions)
    place = pages.after(request, caller, asked)
    following = "" if place is None else " AND organisation.id < %(after)s"
    database: Database = request.app.state.database
    async with database.connection() as connection:
        rows = connection.cursor(row_factory=class_row(Organisation))
        await rows.execute(
            f"SELECT {COLUMNS} FROM organisation WHERE {found}{following} ORDER BY organisation.id DESC"
            f" LIMIT {asked['limit'] + 1}",
            {**values, "after": None if place is None else place[1]},
        )
        organisations_found = await rows.fetchall()
        more = {}
        if asked["count"]:
            cursor = await connection.execute(f"SELECT count(*) FROM organisation WHERE {found}", values)
            row = await cursor.fetchone()
            more = {"total": 0 if row is None else row[0]}
    return pages.answered(
        request,
        caller,
        asked,
        [_shown(request, caller, one) for one in organisations_found],
        versions=[one.version for one in organisations_found],
        cache_control=cache_control(caller),
        more=more,
    )


@router.get(
    "/v1/organisations",
    operation_id="listOrganisations",
    responses=responses({200: answer(ORGANISATION_PAGE, headers=["ETag", "Link"])}),
    openapi_extra={**public("records:read"), "parameters": [*query_parameters(LIST), IF_NONE_MATCH]},
)
async def list_organisations(request: Request, caller: PublicReader) -> Response:
    """Organisations that exist for the caller, newest first: public and not-claimed ones for everybody, those listed
    for members with a token, unlisted ones for themselves only.
    """
    return await listed(request, caller, networks=False)


@router.get(
    "/v1/organisations/me",
    operation_id="getOwnOrganisation",
    responses=responses({200: answer(OrganisationView, headers=["ETag"])}),
    openapi_extra={**secured(), "parameters": [IF_NONE_MATCH]},
)
async def read_own_organisation(request: Request, caller: Annotated[Caller, member()]) -> Response:
    """The caller's own organisation."""
    database: Database = request.app.state.database
    read_query(request, {})
    async with database.connection() as connection:
        return _one(request, caller, await organisations.find(connection, own_id(caller)))


@router.get(
    "/v1/organisations/{organisation_id}",
    operation_id="getOrganisation",
    responses=responses({200: answer(OrganisationView, headers=["ETag"])}),
    openapi_extra={**public("records:read"), "parameters": [IF_NONE_MATCH]},
)
async def read_organisation(request: Request, organisation_id: UUID, caller: PublicReader) -> Response:
    """One organisation. **Errors:** 404 `not-found`, also for one that is unlisted."""
    read_query(request, {})
    database: Database = request.app.state.database
    async with database.connection() as connection:
        return _one(request, caller, await organisations.find(connection, organisation_id, caller))


def _merged(present: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """`present` after the JSON Merge Patch (RFC 7396)."""
    merged = dict(present)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict) and isinstance(merged.get(name), dict):
            merged[name] = _merged(merged[name], value)
        else:
            merged[name] = value
    return merged


@router.patch(
    "/v1/organisations/me",
    operation_id="updateOwnOrganisation",
    responses=responses(
        {200: answer(OrganisationView, headers=["ETag"])}, "owner-unlisted", "stale-version", "invalid-body"
    ),
    openapi_extra={
        **secured("organisation:manage"),
        **request_body(Profile, {"listing": "public"}, PATCH_TYPES, description="JSON Merge Patch (RFC 7396)."),
        "parameters": [
            {
                "name": "If-Match",
                "in": "header",
                "required": False,
                "description": "The ETag you read; without it the change is made whatever the version.",
                "schema": {"type": "string"},
            }
        ],
    },
)
async def update_own_organisation(request: Request, caller: Manager) -> Response:
    """The organisation with its profile changed, checked whole. A new country takes its region along.

    **Errors:** 412 `stale-version`; 409 `owner-unlisted` when it becomes unlisted while readers who would not know of
    it can read its records.
    """
    patch = await json_body(request, *PATCH_TYPES)
    expected = etag.expected_version(request, required=False)

    async def work(connection: Connection) -> Response:
        before = await organisations.find(connection, own_id(caller), lock=True)
        if expected is not None and expected != before.version:
            raise Problem("stale-version", extra={"version": before.version})
        present = {name: getattr(before, name) for name in Profile.model_fields}
        if "country" in patch and "region" not in patch:
            present["region"] = None
        after = validated(Profile, _merged(present, patch)).model_dump()
        changed = sorted(name for name, value in after.items() if value != getattr(before, name))
        if not changed:
            return _one(request, caller, before)
        if after["listing"] == "unlisted" and before.listing != "unlisted":
            await _hooked(request, connection, caller, "on_unlist")
        rows = connection.cursor(row_factory=class_row(Organisation))
        await rows.execute(
            "UPDATE organisation SET name = %(name)s, acronym = %(acronym)s, names = %(names)s, country = %(country)s,"
            " region = %(region)s, listing = %(listing)s, website = %(website)s, languages = %(languages)s,"
            f" updated_at = now(), version = version + 1 WHERE id = %(id)s RETURNING {COLUMNS}",
            {**after, "names": Jsonb(after["names"]), "id": before.id},
        )
        stored = await rows.fetchone()
        assert stored is not None
        details = {"fields": changed}
        await audit.record(
            connection, "organisation.update", audit.by(caller), organisation_id=before.id, details=details
        )
        return _one(request, caller, stored)

    response = await transact(request, work)
    request.app.state.identity.forget()
    return response


async def _hooked(request: Request, connection: Connection, caller: Caller, name: str) -> None:
    """Lets the rooms above take part in this transaction, where the application has registered them."""
    hook: Hook | None = getattr(request.app.state, name, None)
    if hook is not None:
        await hook(request, connection, caller)


@router.post(
    "/v1/organisations/me/leave",
    operation_id="leaveCommunity",
    responses=responses({200: answer(OrganisationView)}, "leave-unconfirmed", "invalid-body"),
    openapi_extra={
        **secured("organisation:manage"),
        **request_body(
            {
                "type": "object",
                "additionalProperties": False,
                "properties": {"confirm": {"const": True}},
            },
            {"confirm": True},
        ),
    },
)
async def leave(request: Request, caller: Manager) -> Response:
    """Leaves the community: drafts and amber records are withdrawn, clear and green ones stay unless withdrawn before;
    credentials and memberships end at once.

    **Errors:** 409 `leave-unconfirmed` without `"confirm": true`; its `exports` are where to fetch everything first.
    """
    body = await json_body(request)
    if body != {"confirm": True}:
        base = request.app.state.public_url
        kinds: Mapping[str, Any] = getattr(request.app.state, "kinds", {})
        exports = [
            f"{base}/v1/exports/{kind.plural}.ndjson?organisation={caller.organisation_id}" for kind in kinds.values()
        ]
        raise Problem("leave-unconfirmed", extra={"exports": exports})

    async def work(connection: Connection) -> Response:
        await _hooked(request, connection, caller, "on_leave")
        after = await organisations.leave(connection, own_id(caller), audit.by(caller))
        return json_response(_shown(request, caller, after))

    response = await transact(request, work)
    request.app.state.identity.forget()
    return response
