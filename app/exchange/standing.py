"""Standing: the rights of an organisation as they are now, for work that goes on without a token of its own.

A webhook, or an import that is worked through after its request, acts for an organisation. What that may read and
write is asked of the database each time, never remembered.
"""

from uuid import UUID

from app.db.pool import Connection
from app.identity.caller import Caller

_STANDING = """
SELECT organisation.id, credential.id, coalesce(credential.scopes, '{}'), organisation.access_epoch,
    organisation.listing = 'unlisted', organisation.name, organisation.kind, organisation.region,
    ARRAY(SELECT membership.network_id FROM membership JOIN organisation AS network ON network.id = network_id
        WHERE membership.organisation_id = organisation.id AND ended_at IS NULL AND network_agreed_at IS NOT NULL
        AND organisation_agreed_at IS NOT NULL AND network.status = 'active' ORDER BY 1)
FROM organisation LEFT JOIN credential ON credential.id = %(credential)s
    AND credential.organisation_id = organisation.id AND credential.revoked_at IS NULL
    AND (credential.expires_at IS NULL OR credential.expires_at > now())
WHERE organisation.id = %(organisation)s AND organisation.status = 'active'
"""


async def organisation(
    connection: Connection, organisation_id: UUID, credential_id: UUID | None = None
) -> Caller | None:
    """The organisation as a caller, None when it is no longer active.

    With `credential_id` it carries that credential and its scopes, or None when that has been revoked or has expired.
    """
    values = {"organisation": organisation_id, "credential": credential_id}
    row = await (await connection.execute(_STANDING, values)).fetchone()
    if row is None or (credential_id is not None and row[1] is None):
        return None
    id_, credential, scopes, epoch, unlisted, name, kind, region, networks = row
    return Caller(
        organisation_id=id_,
        credential_id=credential,
        scopes=frozenset(scopes),
        network_ids=tuple(networks),
        access_epoch=epoch,
        unlisted=unlisted,
        name=name,
        kind=kind,
        region=region,
    )
