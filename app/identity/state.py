"""What one process knows about callers: verified tokens, live rights, signing keys, names.

A verified token is remembered until its `exp`, because a signature does not change. Rights do: who holds the
credential, whether organisation and credential are still welcome, which networks count, which tokens and keys were
taken back are read again, in one statement, when they are older than `LIVE_SECONDS`, and at once after an act in this
process (`forget`). When the database does not answer, callers get 503, never old rights.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import psycopg

from app.db.pool import Connection, Database
from app.db.readers import Reads
from app.http.problem import Problem
from app.identity import tokens
from app.identity.caller import Caller
from app.identity.tokens import Claims, InvalidToken, KeyRing
from app.sealing import MasterSecret

LIVE_SECONDS = 0.8
NAMES_SECONDS = 30.0
REFUSAL_SECONDS = 60.0
MAX_TOKENS = 10_000

T = TypeVar("T")

_LIVE = """
SELECT credential.id, organisation.id,
    credential.revoked_at IS NULL AND (credential.expires_at IS NULL OR credential.expires_at > now())
        AND organisation.status = 'active',
    credential.scopes, organisation.access_epoch, organisation.listing = 'unlisted',
    organisation.name, organisation.kind, organisation.region,
    ARRAY(SELECT membership.network_id FROM membership JOIN organisation AS network ON network.id = network_id
        WHERE membership.organisation_id = organisation.id AND ended_at IS NULL AND network_agreed_at IS NOT NULL
        AND organisation_agreed_at IS NOT NULL AND network.status = 'active' ORDER BY 1),
    ARRAY(SELECT jti FROM revoked_token WHERE credential_id = credential.id AND revoked_token.expires_at > now()),
    ARRAY(SELECT kid FROM signing_key WHERE removed_at IS NULL OR removed_at > now())
FROM credential JOIN organisation ON organisation.id = credential.organisation_id
WHERE credential.client_id = %(client_id)s
"""


@dataclass(frozen=True, slots=True, eq=False)
class Live:
    """The rights behind one credential as the database had them at `read_at` (monotonic seconds)."""

    read_at: float
    credential_id: UUID
    organisation_id: UUID
    welcome: bool
    scopes: frozenset[str]
    access_epoch: int
    unlisted: bool
    name: str
    kind: str
    region: str | None
    network_ids: tuple[UUID, ...]
    revoked_jtis: frozenset[str]
    kids: frozenset[str]


@dataclass(slots=True)
class _Seen:
    """A verified token, with the caller it gave under `live`."""

    claims: Claims
    live: Live | None = None
    caller: Caller | None = None


class IdentityState:
    """Caches of one process, in `app.state.identity`. All of it can be lost at any moment without harm."""

    def __init__(self, database: Database, secret: MasterSecret, issuer: str) -> None:
        self._database = database
        self._secret = secret
        self.issuer = issuer
        self._seen: dict[bytes, _Seen] = {}
        self._live: dict[str, Live] = {}
        self._reading: dict[str, asyncio.Task[Live | None]] = {}
        self._generation = 0
        self._ring = KeyRing({}, None)
        self._ring_read_at = float("-inf")
        self._names: dict[UUID, str] = {}
        self._names_until = 0.0
        self._refused_at: dict[str, float] = {}

    async def caller(self, token: bytes) -> Caller:
        """The caller a bearer token stands for, now. Errors: InvalidToken; 503 `unavailable`."""
        name = tokens.digest(token)
        seen = self._seen.get(name)
        if seen is None:
            seen = _Seen(await self.verified(token))
            while len(self._seen) >= MAX_TOKENS:
                del self._seen[next(iter(self._seen))]
            self._seen[name] = seen
        elif time.time() >= seen.claims.expires_at:
            del self._seen[name]
            raise InvalidToken
        live = await self.live(seen.claims.client_id)
        if seen.live is live and seen.caller is not None:
            return seen.caller
        seen.caller = _caller(seen.claims, live)
        seen.live = live
        return seen.caller

    async def verified(self, token: bytes) -> Claims:
        """The claims of a token this service signed and whose time has not passed. Errors: InvalidToken; 503."""
        try:
            text = token.decode("ascii")
        except UnicodeDecodeError as error:
            raise InvalidToken from error
        ring = self._ring
        if tokens.key_id(text) not in ring.published:
            ring = await self.keys()
        return tokens.verify(text, ring, self.issuer, time.time())

    async def live(self, client_id: str) -> Live:
        """The rights of a credential, at most `LIVE_SECONDS` old. Errors: InvalidToken when there is none; 503."""
        known = self._live.get(client_id)
        if known is not None and time.monotonic() - known.read_at <= LIVE_SECONDS:
            return known
        reading = self._reading.get(client_id)
        if reading is None:
            # One statement for all requests that wait for it; shielded, so that a client that goes away does not
            # take the answer from the others.
            reading = asyncio.create_task(self._read(client_id))
            self._reading[client_id] = reading
            reading.add_done_callback(lambda task: self._read_ended(client_id, task))
        found = await asyncio.shield(reading)
        if found is None:
            raise InvalidToken
        return found

    async def _read(self, client_id: str) -> Live | None:
        generation, read_at = self._generation, time.monotonic()

        async def select(connection: Connection) -> Live | None:
            cursor = await connection.execute(_LIVE, {"client_id": client_id})
            row = await cursor.fetchone()
            if row is None:
                return None
            credential_id, organisation_id, welcome, scopes, epoch, unlisted, name, kind, region, *lists = row
            networks, revoked, kids = lists
            return Live(
                read_at, credential_id, organisation_id, welcome, frozenset(scopes), epoch, unlisted, name, kind,
                region, tuple(networks), frozenset(revoked), frozenset(kids),
            )  # fmt: skip

        found = await self._reached(select)
        if generation == self._generation and found is not None:
            if len(self._live) >= MAX_TOKENS:
                self._live.clear()
            self._live[client_id] = found
        return found

    def _read_ended(self, client_id: str, task: "asyncio.Task[Live | None]") -> None:
        if self._reading.get(client_id) is task:
            del self._reading[client_id]
        if not task.cancelled():
            task.exception()

    async def keys(self) -> KeyRing:
        """The signing keys in use, at most `LIVE_SECONDS` old; the first one is made here. Errors: 503."""
        read_at = time.monotonic()
        if read_at - self._ring_read_at > LIVE_SECONDS:
            self._ring, self._ring_read_at = await self._reached(self._load_keys), read_at
        return self._ring

    async def _load_keys(self, connection: Connection) -> KeyRing:
        ring = await tokens.load_keys(connection, self._secret, self._ring.published)
        if not ring.published:
            async with connection.transaction():
                await tokens.ensure_key(connection, self._secret)
            ring = await tokens.load_keys(connection, self._secret, {})
        return ring

    async def names(self, connection: Reads, ids: Iterable[UUID]) -> dict[UUID, str]:
        """The name of each organisation, at most `NAMES_SECONDS` old; unknown ids are left out."""
        if time.monotonic() > self._names_until:
            self._names = {}
            self._names_until = time.monotonic() + NAMES_SECONDS
        names = self._names
        wanted = set(ids)
        missing = [one for one in wanted if one not in names]
        if missing:
            cursor = await connection.execute(
                "SELECT id, name FROM organisation WHERE id = ANY(%(ids)s)", {"ids": missing}
            )
            names.update(await cursor.fetchall())
        return {one: names[one] for one in wanted if one in names}

    def refusal_is_news(self, client_id: str) -> bool:
        """True once a minute for each client id: a flood of wrong secrets must not become a flood of events."""
        now = time.monotonic()
        if now - self._refused_at.get(client_id, float("-inf")) < REFUSAL_SECONDS:
            return False
        if len(self._refused_at) >= MAX_TOKENS:
            self._refused_at = {}
        self._refused_at[client_id] = now
        return True

    def forget(self) -> None:
        """Drops rights, keys and names, after an act of this process on any of them has been committed."""
        self._generation += 1
        self._live = {}
        self._reading = {}
        self._ring_read_at = float("-inf")
        self._names_until = 0.0

    async def _reached(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """What `work` gives over a connection. Errors: 503 `unavailable` when the database does not answer."""
        try:
            async with self._database.connection() as connection:
                return await work(connection)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise Problem("unavailable", headers={"Retry-After": "2"}) from error


def _caller(claims: Claims, live: Live) -> Caller:
    """The caller of a verified token under these rights. Errors: InvalidToken."""
    if (
        not live.welcome
        or live.organisation_id != claims.organisation_id
        or claims.kid not in live.kids
        or claims.jti in live.revoked_jtis
        or claims.root_jti in live.revoked_jtis
    ):
        raise InvalidToken
    return Caller(
        organisation_id=live.organisation_id,
        credential_id=live.credential_id,
        scopes=claims.scopes & live.scopes,
        network_ids=live.network_ids,
        access_epoch=live.access_epoch,
        unlisted=live.unlisted,
        name=live.name,
        kind=live.kind,
        region=live.region,
        jti=claims.jti,
        expires_at=claims.expires_at,
    )
