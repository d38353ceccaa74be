"""Audit: who did what about access. Rows are only ever added; changes of records are read from `revision` instead."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from app.db.ids import new_id
from app.db.pool import Connection
from app.identity.caller import Caller


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a credential of an organisation (a member's, or a steward's), the operator, or the service itself."""

    kind: str
    organisation_id: UUID | None = None
    credential_id: UUID | None = None


OPERATOR = Actor("operator")
SYSTEM = Actor("system")


def by(caller: Caller, *, steward: bool = False) -> Actor:
    """The actor behind a request; `steward` marks an act done for the node, listed for all stewards."""
    return Actor("steward" if steward else "credential", caller.organisation_id, caller.credential_id)


async def record(
    connection: Connection,
    action: str,
    actor: Actor,
    *,
    organisation_id: UUID | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Writes one event in the caller's transaction, so that act and trace are kept or lost together.

    `action` is `thing.verb` (`credential.revoke`); `organisation_id` is the organisation concerned, which will read
    the event; `details` holds ids and codes, never secrets or content.
    """
    await connection.execute(
        "INSERT INTO audit_event (id, action, actor, actor_organisation_id, actor_credential_id, organisation_id,"
        " details) VALUES (%(id)s, %(action)s, %(actor)s, %(actor_organisation)s, %(actor_credential)s,"
        " %(organisation)s, %(details)s)",
        {
            "id": new_id(),
            "action": action,
            "actor": actor.kind,
            "actor_organisation": actor.organisation_id,
            "actor_credential": actor.credential_id,
            "organisation": organisation_id,
            "details": Jsonb(dict(details or {})),
        },
    )
