"""Organisations: the principals, who sees them, and the acts that change what one may do.

Every act that changes what an organisation may read raises its `access_epoch` (rules B5) and leaves an audit event.
All functions run in the caller's transaction.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb
from starlette.requests import Request

from app.db.ids import new_id
from app.db.pool import Connection
from app.http.body import validated
from app.http.problem import Fault, Problem
from app.identity import audit
from app.identity.audit import Actor
from app.identity.caller import Caller
from app.identity.profile import NewOrganisation
from app.identity.state import IdentityState
from app.sealing import MasterSecret

CLAIM_PURPOSE = "claim-code"
CLAIM_HOURS = 72
CLAIM_PREFIX = "mngo_"

COLUMNS = (
    "organisation.id, organisation.name, organisation.acronym, organisation.names, organisation.kind,"
    " organisation.country, organisation.region, organisation.network, organisation.listing, organisation.status,"
    " organisation.website, organisation.languages, organisation.sources, organisation.external_id,"
    " organisation.created_at, organisation.updated_at, organisation.version"
)


@dataclass(frozen=True, slots=True)
class Organisation:
    """One organisation as stored."""

    id: UUID
    name: str
    acronym: str | None
    names: dict[str, str]
    kind: str
    country: str | None
    region: str | None
    network: bool
    listing: str
    status: str
    website: str | None
    languages: list[str]
    sources: list[Any]
    external_id: str | None
    created_at: datetime
    updated_at: datetime
    version: int

    def as_json(self, public_url: str | None = None, *, whole: bool = True) -> dict[str, Any]:
        """The organisation on the wire; `listing` and `external_id` are for itself and stewards (`whole`)."""
        shown: dict[str, Any] = {"id": self.id}
        if public_url is not None:
            shown["url"] = f"{public_url}/v1/organisations/{self.id}"
        for name in ("name", "acronym", "names", "kind", "country", "region", "network", "status"):
            shown[name] = getattr(self, name)
        if whole:
            shown["listing"], shown["external_id"] = self.listing, self.external_id
        for name in ("website", "languages", "sources", "version", "created_at", "updated_at"):
            shown[name] = getattr(self, name)
        return shown


def visible_organisations(caller: Caller) -> tuple[str, dict[str, Any]]:
    """A predicate over the alias `organisation`, and its values: which organisations exist for this caller.

    Public and not-claimed ones do for everybody, those listed for members do for members. An unlisted one exists for
    itself, for stewards, and for the other side of a membership it has agreed to or been invited into.
    """
    if not caller.is_member:
        return "(organisation.listing = 'public' OR organisation.status = 'not-claimed')", {}
    if caller.is_steward:
        return "true", {}
    return (
        "(organisation.listing <> 'unlisted' OR organisation.status = 'not-claimed'"
        " OR organisation.id = %(viewer)s"
        " OR EXISTS (SELECT 1 FROM membership WHERE membership.ended_at IS NULL AND"
        " (membership.network_id = %(viewer)s AND membership.organisation_id = organisation.id"
        " AND membership.organisation_agreed_at IS NOT NULL"
        " OR membership.organisation_id = %(viewer)s AND membership.network_id = organisation.id"
        " AND membership.network_agreed_at IS NOT NULL)))",
        {"viewer": caller.organisation_id},
    )


async def names(source: Request | IdentityState | Any, connection: Connection, ids: Iterable[UUID]) -> dict[UUID, str]:
    """The name of each organisation, from the process's cache. `source` is a request or what holds `identity`."""
    if isinstance(source, Request):
        source = source.app.state
    state: IdentityState = source if isinstance(source, IdentityState) else source.identity
    return await state.names(connection, ids)


async def add(
    connection: Connection,
    *,
    name: str,
    kind: str,
    country: str | None = None,
    region: str | None = None,
    network: bool = False,
    acronym: str | None = None,
    names: Mapping[str, str] | None = None,
    listing: str = "members",
    status: str = "active",
    website: str | None = None,
    languages: Sequence[str] = (),
    sources: Sequence[Any] = (),
    external_id: str | None = None,
    actor: Actor = audit.OPERATOR,
) -> Organisation:
    """A new organisation. `cso` stands for `civil-society-organisation`; the region defaults to the country's.

    Errors: 422 `invalid-body` with the fields that are wrong.
    """
    given = {
        "name": name,
        "kind": kind,
        "country": country,
        "region": region,
        "network": network,
        "acronym": acronym,
        "names": dict(names or {}),
        "listing": listing,
        "website": website,
        "languages": list(languages),
    }
    return await insert(
        connection,
        validated(NewOrganisation, given),
        status=status,
        sources=sources,
        external_id=external_id,
        actor=actor,
    )


async def insert(
    connection: Connection,
    new: NewOrganisation,
    *,
    status: str,
    actor: Actor,
    sources: Sequence[Any] = (),
    external_id: str | None = None,
) -> Organisation:
    """Stores a validated organisation and tells of it in the audit."""
    rows = connection.cursor(row_factory=class_row(Organisation))
    await rows.execute(
        "INSERT INTO organisation (id, name, acronym, names, kind, country, region, network, listing, status, website,"
        " languages, sources, external_id) VALUES (%(id)s, %(name)s, %(acronym)s, %(names)s, %(kind)s, %(country)s,"
        " %(region)s, %(network)s, %(listing)s, %(status)s, %(website)s, %(languages)s, %(sources)s, %(external_id)s)"
        f" RETURNING {COLUMNS}",
        {
            **new.model_dump(),
            "names": Jsonb(new.names),
            "id": new_id(),
            "status": status,
            "sources": Jsonb(list(sources)),
            "external_id": external_id,
        },
    )
    made = await rows.fetchone()
    assert made is not None
    if status != "not-claimed":
        await audit.record(connection, "organisation.admit", actor, organisation_id=made.id, details={"status": status})
    return made


async def find(
    connection: Connection, organisation_id: UUID, caller: Caller | None = None, *, lock: bool = False
) -> Organisation:
    """The organisation, if it exists for the caller (for anyone when None). Errors: 404 `not-found`."""
    predicate, values = ("true", {}) if caller is None else visible_organisations(caller)
    rows = connection.cursor(row_factory=class_row(Organisation))
    await rows.execute(
        f"SELECT {COLUMNS} FROM organisation WHERE organisation.id = %(wanted)s AND {predicate}"
        f"{' FOR UPDATE OF organisation' if lock else ''}",
        {**values, "wanted": organisation_id},
    )
    found = await rows.fetchone()
    if found is None:
        raise Problem("not-found")
    return found


async def list_all(connection: Connection) -> list[Organisation]:
    """Every organisation, oldest first, for the operator."""
    rows = connection.cursor(row_factory=class_row(Organisation))
    await rows.execute(f"SELECT {COLUMNS} FROM organisation ORDER BY id")
    return await rows.fetchall()


async def raise_epoch(connection: Connection, organisation_id: UUID) -> None:
    """Makes cursors of this organisation void, and where it is a network those of its active members."""
    await connection.execute(
        "UPDATE organisation SET access_epoch = access_epoch + 1 WHERE id IN (SELECT %(id)s::uuid UNION"
        " SELECT organisation_id FROM membership WHERE network_id = %(id)s AND ended_at IS NULL"
        " AND network_agreed_at IS NOT NULL AND organisation_agreed_at IS NOT NULL)",
        {"id": organisation_id},
    )


async def raise_epoch_of(connection: Connection, organisation_id: UUID) -> None:
    """Makes cursors of this one organisation void."""
    await connection.execute(
        "UPDATE organisation SET access_epoch = access_epoch + 1 WHERE id = %(id)s", {"id": organisation_id}
    )


async def set_status(
    connection: Connection, organisation_id: UUID, status: str, allowed_from: Sequence[str]
) -> Organisation:
    """The organisation with its new status and a raised epoch. Errors: 404; 409 `illegal-transition`."""
    before = await find(connection, organisation_id, lock=True)
    if before.status not in allowed_from:
        raise Problem("illegal-transition", detail=f"Possible from: {', '.join(allowed_from)}.")
    rows = connection.cursor(row_factory=class_row(Organisation))
    await rows.execute(
        "UPDATE organisation SET status = %(status)s, updated_at = now(), version = version + 1 WHERE id = %(id)s"
        f" RETURNING {COLUMNS}",
        {"id": organisation_id, "status": status},
    )
    await raise_epoch(connection, organisation_id)
    after = await rows.fetchone()
    assert after is not None
    return after


async def suspend(connection: Connection, organisation_id: UUID, actor: Actor = audit.OPERATOR) -> Organisation:
    """Suspends an active organisation: no token of it works, its records stay. Errors: 404; 409."""
    after = await set_status(connection, organisation_id, "suspended", ("active",))
    await audit.record(connection, "organisation.suspend", actor, organisation_id=organisation_id)
    return after


async def reinstate(connection: Connection, organisation_id: UUID, actor: Actor = audit.OPERATOR) -> Organisation:
    """Makes a suspended organisation active again. Errors: 404; 409."""
    after = await set_status(connection, organisation_id, "active", ("suspended",))
    await audit.record(connection, "organisation.reinstate", actor, organisation_id=organisation_id)
    return after


async def invite(
    connection: Connection, secret: MasterSecret, organisation_id: UUID, actor: Actor
) -> tuple[Organisation, str]:
    """Opens an entry to be claimed, and gives the one-time code; codes given before stop working.

    Errors: 404; 409 `illegal-transition` unless the entry is not-claimed or already invited.
    """
    after = await set_status(connection, organisation_id, "invited", ("not-claimed", "invited"))
    return after, await claim_code(connection, secret, organisation_id, actor)


async def claim_code(connection: Connection, secret: MasterSecret, organisation_id: UUID, actor: Actor) -> str:
    """A new claim code, good for 72 hours and one use; kept only as a keyed hash."""
    code = CLAIM_PREFIX + secrets.token_urlsafe(32)
    await connection.execute("DELETE FROM claim_code WHERE organisation_id = %(id)s", {"id": organisation_id})
    await connection.execute(
        "INSERT INTO claim_code (id, organisation_id, code_hash, expires_at)"
        " VALUES (%(id)s, %(organisation_id)s, %(hash)s, now() + make_interval(hours => %(hours)s))",
        {
            "id": new_id(),
            "organisation_id": organisation_id,
            "hash": secret.digest(CLAIM_PURPOSE, code.encode()),
            "hours": CLAIM_HOURS,
        },
    )
    await audit.record(connection, "organisation.invite", actor, organisation_id=organisation_id)
    return code


async def claim(connection: Connection, secret: MasterSecret, code: str) -> Organisation:
    """The organisation whose code this is, now active. Errors: 422 `invalid-body` for a used, late or wrong code."""
    cursor = await connection.execute(
        "UPDATE claim_code SET used_at = now() FROM organisation WHERE code_hash = %(hash)s AND used_at IS NULL"
        " AND expires_at > now() AND organisation.id = organisation_id AND organisation.status = 'invited'"
        " RETURNING organisation_id",
        {"hash": secret.digest(CLAIM_PURPOSE, code.encode())},
    )
    row = await cursor.fetchone()
    if row is None:
        raise Problem("invalid-body", errors=[Fault("/claim_code", "claim-code-not-valid")])
    after = await set_status(connection, row[0], "active", ("invited",))
    actor = Actor("credential", organisation_id=after.id)
    await audit.record(connection, "organisation.claim", actor, organisation_id=after.id)
    return after


async def leave(connection: Connection, organisation_id: UUID, actor: Actor) -> Organisation:
    """Ends credentials and memberships and marks the organisation as left (rules E4). Errors: 409.

    Withdrawing its drafts and amber records is the records room's part, done in the same transaction.
    """
    after = await set_status(connection, organisation_id, "left", ("active",))
    await connection.execute(
        "UPDATE credential SET revoked_at = now() WHERE organisation_id = %(id)s AND revoked_at IS NULL",
        {"id": organisation_id},
    )
    await connection.execute(
        "UPDATE membership SET ended_at = now(),"
        " ended_by = CASE WHEN network_id = %(id)s THEN 'network' ELSE 'organisation' END"
        " WHERE (organisation_id = %(id)s OR network_id = %(id)s) AND ended_at IS NULL",
        {"id": organisation_id},
    )
    await audit.record(connection, "organisation.leave", actor, organisation_id=organisation_id)
    return after
