"""Networks: organisations that others belong to. A membership counts once both sides have agreed.

All functions run in the caller's transaction. What an active membership lets an organisation read begins and ends
with it, so its `access_epoch` is raised then.
"""

from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

from psycopg.errors import UniqueViolation
from psycopg.rows import dict_row

from app.db.ids import new_id
from app.db.pool import Connection
from app.http.problem import Problem
from app.identity import audit, organisations
from app.identity.audit import Actor

Side = Literal["network", "organisation"]

MEMBERSHIP = (
    "membership.id, membership.network_id, network.name AS network_name, membership.organisation_id,"
    " organisation.name AS organisation_name, membership.network_agreed_at, membership.organisation_agreed_at,"
    " membership.by_operator, membership.ended_at, membership.ended_by"
)
JOINED = (
    "membership JOIN organisation AS network ON network.id = membership.network_id"
    " JOIN organisation ON organisation.id = membership.organisation_id"
)
BOTH_AGREED = "membership.network_agreed_at IS NOT NULL AND membership.organisation_agreed_at IS NOT NULL"


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A membership on the wire."""
    if row["ended_at"] is not None:
        status = "ended"
    elif row["network_agreed_at"] is None:
        status = "requested"
    else:
        status = "invited" if row["organisation_agreed_at"] is None else "active"
    return {
        "id": row["id"],
        "network": {"id": row["network_id"], "name": row["network_name"]},
        "organisation": {"id": row["organisation_id"], "name": row["organisation_name"]},
        "status": status,
        **{
            name: row[name]
            for name in ("network_agreed_at", "organisation_agreed_at", "by_operator", "ended_at", "ended_by")
        },
    }


async def _membership(connection: Connection, membership_id: UUID) -> dict[str, Any]:
    rows = connection.cursor(row_factory=dict_row)
    await rows.execute(f"SELECT {MEMBERSHIP} FROM {JOINED} WHERE membership.id = %(id)s", {"id": membership_id})
    found = await rows.fetchone()
    assert found is not None
    return found


async def open_membership(connection: Connection, network_id: UUID, organisation_id: UUID) -> dict[str, Any] | None:
    """The membership that has not ended, locked; None when there is none."""
    rows = connection.cursor(row_factory=dict_row)
    await rows.execute(
        f"SELECT {MEMBERSHIP} FROM {JOINED} WHERE membership.network_id = %(network)s"
        " AND membership.organisation_id = %(organisation)s AND membership.ended_at IS NULL FOR UPDATE OF membership",
        {"network": network_id, "organisation": organisation_id},
    )
    return await rows.fetchone()


async def _tell(
    connection: Connection, action: str, actor: Actor, network_id: UUID, organisation_id: UUID, **details: Any
) -> None:
    """One audit event for each side."""
    named = {"network": str(network_id), "organisation": str(organisation_id), **details}
    for concerned in (network_id, organisation_id):
        await audit.record(connection, action, actor, organisation_id=concerned, details=named)


async def agree(
    connection: Connection, side: Side, network_id: UUID, organisation_id: UUID, actor: Actor
) -> dict[str, Any]:
    """One side's consent: a new invitation or request, or, when the other side has agreed before, a membership.

    Errors: 409 `conflict` when this side has agreed already or one of the two is not active.
    """
    for concerned in sorted((network_id, organisation_id)):
        if (await organisations.find(connection, concerned)).status != "active":
            raise Problem("conflict", detail="Both the network and the organisation must be active.")
    present = await open_membership(connection, network_id, organisation_id)
    if present is None:
        made = new_id()
        try:
            await connection.execute(
                f"INSERT INTO membership (id, network_id, organisation_id, {side}_agreed_at, {side}_agreed_by)"
                " VALUES (%(id)s, %(network)s, %(organisation)s, now(), %(by)s)",
                {"id": made, "network": network_id, "organisation": organisation_id, "by": actor.credential_id},
            )
        except UniqueViolation:
            raise Problem("conflict", detail="There is a membership already, or one is waiting.") from None
        action = "membership.invite" if side == "network" else "membership.request"
        await _tell(connection, action, actor, network_id, organisation_id)
        return await _membership(connection, made)
    if present[f"{side}_agreed_at"] is not None:
        raise Problem("conflict", detail="Your side has agreed already.")
    await connection.execute(
        f"UPDATE membership SET {side}_agreed_at = now(), {side}_agreed_by = %(by)s WHERE id = %(id)s",
        {"id": present["id"], "by": actor.credential_id},
    )
    await organisations.raise_epoch_of(connection, organisation_id)
    await _tell(connection, "membership.accept", actor, network_id, organisation_id)
    return await _membership(connection, present["id"])


async def end(
    connection: Connection, side: Side, network_id: UUID, organisation_id: UUID, actor: Actor
) -> dict[str, Any]:
    """Ends a membership, declines an invitation or request, or takes one back. Errors: 404 `not-found`."""
    present = await open_membership(connection, network_id, organisation_id)
    if present is None:
        raise Problem("not-found")
    await connection.execute(
        "UPDATE membership SET ended_at = now(), ended_by = %(side)s WHERE id = %(id)s",
        {"id": present["id"], "side": side},
    )
    if present["network_agreed_at"] is not None and present["organisation_agreed_at"] is not None:
        await organisations.raise_epoch_of(connection, organisation_id)
    await _tell(connection, "membership.end", actor, network_id, organisation_id, by=side)
    return await _membership(connection, present["id"])


async def add_member_by_operator(connection: Connection, network_id: UUID, organisation_id: UUID) -> dict[str, Any]:
    """A membership for which the operator records both consents (rules E3); both sides see that it was so.

    Comes back as on the wire. Errors: 404 when one of the two does not exist; 409 `conflict` when the first is not a
    network, one is not active, or they belong together already.
    """
    network = await organisations.find(connection, network_id)
    organisation = await organisations.find(connection, organisation_id)
    if not network.network or network.id == organisation.id:
        raise Problem("conflict", detail="The first of the two must be a network, the second another organisation.")
    if network.status != "active" or organisation.status != "active":
        raise Problem("conflict", detail="Both the network and the organisation must be active.")
    present = await open_membership(connection, network_id, organisation_id)
    if present is None:
        made = new_id()
        await connection.execute(
            "INSERT INTO membership (id, network_id, organisation_id, network_agreed_at, organisation_agreed_at,"
            " by_operator) VALUES (%(id)s, %(network)s, %(organisation)s, now(), now(), true)",
            {"id": made, "network": network_id, "organisation": organisation_id},
        )
    elif present["network_agreed_at"] is not None and present["organisation_agreed_at"] is not None:
        raise Problem("conflict", detail="The organisation is a member already.")
    else:
        made = present["id"]
        await connection.execute(
            "UPDATE membership SET network_agreed_at = coalesce(network_agreed_at, now()), by_operator = true,"
            " organisation_agreed_at = coalesce(organisation_agreed_at, now()) WHERE id = %(id)s",
            {"id": made},
        )
    await organisations.raise_epoch_of(connection, organisation_id)
    await _tell(connection, "membership.add", audit.OPERATOR, network_id, organisation_id, by="operator")
    return shown(await _membership(connection, made))
