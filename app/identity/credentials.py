"""Credentials: what a member's script or site proves itself with. Secrets are shown once and kept as keyed hashes."""

import hmac
import re
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID
from zlib import crc32

from psycopg.rows import dict_row

from app.db.ids import new_id
from app.db.pool import Connection
from app.http.problem import Fault, Problem
from app.identity import audit
from app.identity.caller import SCOPES
from app.sealing import MasterSecret

PREFIX = "mng_"
CLIENT_PREFIX = "mngc_"
PURPOSE = "client-secret"
OVERLAP_SECONDS = 7 * 24 * 3600
MAX_CREDENTIALS = 50
MEMBER_SCOPES = tuple(scope for scope in SCOPES if scope != "steward")

_ALPHABET = string.digits + string.ascii_letters
_CLIENT_ID = re.compile("[A-Za-z0-9_-]{1,64}")
_NO_HASH = bytes(32)
COLUMNS = "id, client_id, label, scopes, expires_at, revoked_at, last_used_at, previous_expires_at, created_at"


def _base62(value: int, length: int) -> str:
    digits = []
    for _ in range(length):
        value, digit = divmod(value, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def new_secret() -> str:
    """`mng_`, 32 random bytes in base 62 (43 characters) and a checksum (6) by which scanners know a leaked one."""
    body = PREFIX + _base62(int.from_bytes(secrets.token_bytes(32), "big"), 43)
    return body + _base62(crc32(body.encode()), 6)


def is_client_id(text: str) -> bool:
    """Whether the text has the form of a client id at all."""
    return _CLIENT_ID.fullmatch(text) is not None


def secret_hash(secret: MasterSecret, text: str) -> bytes:
    """What is kept of a client secret: HMAC-SHA-256 under a key derived from the master secret."""
    return secret.digest(PURPOSE, text.encode())


@dataclass(frozen=True, slots=True)
class Authenticated:
    """A credential that has just proved itself."""

    credential_id: UUID
    client_id: str
    organisation_id: UUID
    scopes: frozenset[str]


async def authenticate(
    connection: Connection, secret: MasterSecret, client_id: str, client_secret: str
) -> Authenticated | None:
    """The credential, or None: unknown client, wrong secret, expired, revoked, or its organisation is not active.

    The steps and statements are the same in every case, so that time tells nothing.
    """
    known = client_id if is_client_id(client_id) else "-"
    cursor = await connection.execute(
        "SELECT credential.id, credential.client_id, credential.organisation_id, credential.scopes,"
        " credential.secret_hash,"
        " CASE WHEN credential.previous_expires_at > now() THEN credential.previous_secret_hash END,"
        " credential.revoked_at IS NULL AND (credential.expires_at IS NULL OR credential.expires_at > now())"
        " AND organisation.status = 'active',"
        " credential.last_used_at IS NULL OR credential.last_used_at < date_trunc('hour', now())"
        " FROM credential JOIN organisation ON organisation.id = credential.organisation_id"
        " WHERE credential.client_id = %(client_id)s",
        {"client_id": known},
    )
    row = await cursor.fetchone()
    current, previous = (row[4], row[5] or _NO_HASH) if row else (_NO_HASH, _NO_HASH)
    offered = secret_hash(secret, client_secret)
    same = hmac.compare_digest(offered, current) | hmac.compare_digest(offered, previous)
    if row is None or not same or not row[6]:
        return None
    if row[7]:
        # Hours are enough to see whether a credential is in use, and spare a write per token.
        await connection.execute(
            "UPDATE credential SET last_used_at = date_trunc('hour', now()) WHERE id = %(id)s", {"id": row[0]}
        )
    return Authenticated(row[0], row[1], row[2], frozenset(row[3]))


def checked_scopes(asked: Sequence[str] | None, allowed: Sequence[str] | frozenset[str]) -> list[str]:
    """The scopes a credential gets, in the order of SCOPES; all allowed ones when none are asked for.

    Errors: 422 `invalid-body`, `unknown-scope` or `scope-not-granted`.
    """
    if asked is None:
        asked = [scope for scope in allowed if scope != "steward"]
    faults = [
        Fault(f"/scopes/{place}", "unknown-scope" if scope not in SCOPES else "scope-not-granted")
        for place, scope in enumerate(asked)
        if scope not in allowed
    ]
    if not asked:
        faults = [Fault("/scopes", "too-short")]
    if faults:
        raise Problem("invalid-body", errors=faults)
    return [scope for scope in SCOPES if scope in asked]


async def add(
    connection: Connection,
    secret: MasterSecret,
    organisation_id: UUID,
    label: str,
    scopes: Sequence[str] | None = None,
    *,
    expires_at: datetime | None = None,
    actor: audit.Actor = audit.OPERATOR,
) -> dict[str, Any]:
    """A new credential with its `client_secret`, the only time it is shown. No scopes: all but `steward`.

    Only the operator (`minga admin credential add`) grants `steward`; HTTP callers are held to their own scopes
    before this is reached. Runs in the caller's transaction. Errors: 404 unknown organisation, 409 when it is not
    active or has 50 live credentials, 422 unknown scope.
    """
    allowed = SCOPES if actor.kind == "operator" else MEMBER_SCOPES
    granted = checked_scopes(scopes, allowed)
    cursor = await connection.execute(
        "SELECT status FROM organisation WHERE id = %(id)s FOR UPDATE", {"id": organisation_id}
    )
    row = await cursor.fetchone()
    if row is None:
        raise Problem("not-found")
    if row[0] != "active":
        raise Problem("conflict", detail="Only an active organisation can have credentials.")
    # A statement of its own, after the lock is held, so that it sees what the lock was waited for.
    cursor = await connection.execute(
        "SELECT count(*) >= %(most)s FROM credential WHERE organisation_id = %(id)s AND revoked_at IS NULL"
        " AND (expires_at IS NULL OR expires_at > now())",
        {"id": organisation_id, "most": MAX_CREDENTIALS},
    )
    full = await cursor.fetchone()
    if full is None or full[0]:
        raise Problem("conflict", detail=f"An organisation has at most {MAX_CREDENTIALS} live credentials.")
    client_secret = new_secret()
    rows = connection.cursor(row_factory=dict_row)
    await rows.execute(
        "INSERT INTO credential (id, client_id, organisation_id, label, scopes, secret_hash, expires_at)"
        " VALUES (%(id)s, %(client_id)s, %(organisation_id)s, %(label)s, %(scopes)s, %(hash)s, %(expires_at)s)"
        f" RETURNING {COLUMNS}",
        {
            "id": new_id(),
            "client_id": CLIENT_PREFIX + _base62(int.from_bytes(secrets.token_bytes(15), "big"), 21),
            "organisation_id": organisation_id,
            "label": label,
            "scopes": granted,
            "hash": secret_hash(secret, client_secret),
            "expires_at": expires_at,
        },
    )
    made = await rows.fetchone()
    assert made is not None
    await audit.record(
        connection,
        "credential.add",
        actor,
        organisation_id=organisation_id,
        details={"credential": str(made["id"]), "client_id": made["client_id"], "scopes": granted},
    )
    return {**made, "client_secret": client_secret}


def _named(credential: UUID | str) -> tuple[str, dict[str, Any]]:
    """Predicate for a credential given by id or by client_id."""
    if isinstance(credential, str) and credential.startswith(CLIENT_PREFIX):
        return "client_id = %(named)s", {"named": credential}
    try:
        return "id = %(named)s", {"named": credential if isinstance(credential, UUID) else UUID(credential)}
    except ValueError:
        raise Problem("not-found") from None


async def rotate(
    connection: Connection,
    secret: MasterSecret,
    credential: UUID | str,
    *,
    overlap_seconds: int = OVERLAP_SECONDS,
    organisation_id: UUID | None = None,
    actor: audit.Actor = audit.OPERATOR,
) -> dict[str, Any]:
    """The credential with a new `client_secret`; the old one works on for `overlap_seconds` (0 to 7 days).

    `credential` is an id or client_id; with `organisation_id`, only that organisation's. Runs in the caller's
    transaction. Errors: 404 `not-found`, also for a revoked one.
    """
    predicate, values = _named(credential)
    client_secret = new_secret()
    overlap = max(0, min(overlap_seconds, OVERLAP_SECONDS))
    rows = connection.cursor(row_factory=dict_row)
    await rows.execute(
        "UPDATE credential SET secret_hash = %(hash)s,"
        " previous_secret_hash = CASE WHEN %(overlap)s > 0 THEN secret_hash END,"
        " previous_expires_at = CASE WHEN %(overlap)s > 0 THEN now() + make_interval(secs => %(overlap)s) END"
        f" WHERE {predicate} AND revoked_at IS NULL"
        " AND (%(organisation_id)s::uuid IS NULL OR organisation_id = %(organisation_id)s)"
        f" RETURNING {COLUMNS}, organisation_id",
        {
            **values,
            "hash": secret_hash(secret, client_secret),
            "overlap": overlap,
            "organisation_id": organisation_id,
        },
    )
    changed = await rows.fetchone()
    if changed is None:
        raise Problem("not-found")
    owner = changed.pop("organisation_id")
    await audit.record(
        connection,
        "credential.rotate",
        actor,
        organisation_id=owner,
        details={"credential": str(changed["id"]), "overlap_seconds": overlap},
    )
    return {**changed, "client_secret": client_secret}


async def revoke(
    connection: Connection,
    credential: UUID | str,
    *,
    organisation_id: UUID | None = None,
    actor: audit.Actor = audit.OPERATOR,
) -> dict[str, Any]:
    """The credential, revoked: neither its secret nor any of its tokens works from now on. Doing it twice is fine.

    Runs in the caller's transaction. Errors: 404 `not-found`.
    """
    predicate, values = _named(credential)
    scoped = {**values, "organisation_id": organisation_id}
    where = f"{predicate} AND (%(organisation_id)s::uuid IS NULL OR organisation_id = %(organisation_id)s)"
    rows = connection.cursor(row_factory=dict_row)
    await rows.execute(
        f"UPDATE credential SET revoked_at = now() WHERE {where} AND revoked_at IS NULL"
        f" RETURNING {COLUMNS}, organisation_id",
        scoped,
    )
    changed = await rows.fetchone()
    if changed is None:
        await rows.execute(f"SELECT {COLUMNS} FROM credential WHERE {where}", scoped)
        already = await rows.fetchone()
        if already is None:
            raise Problem("not-found")
        return already
    owner = changed.pop("organisation_id")
    await audit.record(
        connection,
        "credential.revoke",
        actor,
        organisation_id=owner,
        details={"credential": str(changed["id"]), "client_id": changed["client_id"]},
    )
    return changed
