"""Access tokens: made, checked, and the keys behind them. The only module that imports python-jose.

The library takes tokens without `exp` or `aud`, any `typ`, `crit` headers and string times, and can be made to raise
errors that are not its own. So a token is measured and its header read here first, the library verifies nothing but
the signature, and every claim is checked here again. Source: RFC 9068, RFC 8725, RFC 7515.
"""

import json
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NoReturn
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jose import jwk, jws
from psycopg.types.json import Jsonb

from app.db.pool import Connection
from app.identity import audit
from app.sealing import MasterSecret

ALGORITHM = "ES256"
TYPE = "at+jwt"
LIFE_SECONDS = 600
LEEWAY_SECONDS = 30
MAX_TOKEN_BYTES = 8192
PUBLISH_SECONDS = 600
KEEP_SECONDS = 1200 + LEEWAY_SECONDS
PURPOSE = "signing-key"

_SHAPE = re.compile(r"([A-Za-z0-9_-]{1,400})\.([A-Za-z0-9_-]{1,7600})\.([A-Za-z0-9_-]{86})")
_IN_USE = "(removed_at IS NULL OR removed_at > now())"


class InvalidToken(Exception):
    """The text is not an access token this service made and still honours."""


@dataclass(frozen=True, slots=True)
class Key:
    """One signing key with prebuilt key objects: verifying with them costs half of verifying with PEM text."""

    kid: str
    private: Any
    public: Any
    public_jwk: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys in use: `published` by kid, oldest first, and the one that signs now."""

    published: Mapping[str, Key]
    signer: Key | None

    @property
    def jwks(self) -> dict[str, Any]:
        """The public halves as a JWK set (RFC 7517)."""
        return {"keys": [dict(key.public_jwk) for key in self.published.values()]}


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says. `root_jti` is the token an exchanged one was made from, else its own `jti`."""

    kid: str
    organisation_id: UUID
    client_id: str
    scopes: frozenset[str]
    jti: str
    root_jti: str
    issued_at: int
    expires_at: int


def _invalid() -> NoReturn:
    raise InvalidToken


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    return value if len(value) == len(pairs) else _invalid()


def _bytes(text: str) -> bytes:
    """A token's part; its encoding must be the one canonical form."""
    raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return raw if urlsafe_b64encode(raw).rstrip(b"=").decode() == text else _invalid()


def _json_object(text: str) -> dict[str, Any]:
    value = json.loads(_bytes(text).decode(), object_pairs_hook=_unique)
    return value if type(value) is dict else _invalid()


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    return value if type(value) is str and value else _invalid()


def _time(claims: Mapping[str, Any], name: str) -> int:
    value = claims.get(name)
    return value if type(value) is int else _invalid()


def key_id(token: str) -> str:
    """The `kid` of a well-formed header: exactly `alg`, `typ` and `kid`. Errors: InvalidToken."""
    if len(token) > MAX_TOKEN_BYTES:
        _invalid()
    shape = _SHAPE.fullmatch(token)
    if shape is None:
        _invalid()
    try:
        header = _json_object(shape[1])
        _bytes(shape[3])
    except (ValueError, RecursionError) as error:
        raise InvalidToken from error
    if header.keys() != {"alg", "typ", "kid"} or header["alg"] != ALGORITHM or header["typ"] != TYPE:
        _invalid()
    return _text(header, "kid")


def verify(token: str, ring: KeyRing, issuer: str, now: float) -> Claims:
    """What the token says, when it is ours and in its time. Errors: InvalidToken, and no other.

    `now` is seconds since 1970. Whether credential and organisation are still welcome is for the state to say.
    """
    key = ring.published.get(key_id(token))
    if key is None:
        _invalid()
    try:
        jws.verify(token, key.public, [ALGORITHM])
        claims = _json_object(token.split(".")[1])
        if claims.get("iss") != issuer or claims.get("aud") != issuer:
            _invalid()
        issued_at, expires_at = _time(claims, "iat"), _time(claims, "exp")
        if issued_at > now + LEEWAY_SECONDS or now >= expires_at or not 0 < expires_at - issued_at <= LIFE_SECONDS:
            _invalid()
        if "nbf" in claims and _time(claims, "nbf") > now + LEEWAY_SECONDS:
            _invalid()
        jti = _text(claims, "jti")
        return Claims(
            kid=key.kid,
            organisation_id=UUID(_text(claims, "sub")),
            client_id=_text(claims, "client_id"),
            scopes=frozenset(_text(claims, "scope").split()),
            jti=jti,
            root_jti=_text(claims, "root_jti") if "root_jti" in claims else jti,
            issued_at=issued_at,
            expires_at=expires_at,
        )
    # Hostile input made the library raise RecursionError, UnicodeEncodeError and others; none may become a 500.
    except Exception as error:
        raise InvalidToken from error


def sign(
    key: Key,
    issuer: str,
    *,
    organisation_id: UUID,
    client_id: str,
    scopes: frozenset[str],
    now: float,
    life_seconds: int = LIFE_SECONDS,
    root_jti: str | None = None,
) -> str:
    """An access token (RFC 9068) with a new `jti`."""
    issued_at = int(now)
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": issuer,
        "sub": str(organisation_id),
        "client_id": client_id,
        "iat": issued_at,
        "exp": issued_at + min(life_seconds, LIFE_SECONDS),
        "jti": secrets.token_urlsafe(16),
        "scope": " ".join(sorted(scopes)),
    }
    if root_jti is not None:
        claims["root_jti"] = root_jti
    token: str = jws.sign(claims, key.private, headers={"typ": TYPE, "kid": key.kid}, algorithm=ALGORITHM)
    return token


def digest(token: bytes) -> bytes:
    """The name under which a verified token is remembered."""
    return sha256(token).digest()


def _key(kid: str, pem: bytes) -> Key:
    private = jwk.construct(pem, ALGORITHM)
    public = private.public_key()
    described = {name: value for name, value in public.to_dict().items() if name in ("kty", "crv", "x", "y")}
    return Key(kid, private, public, {**described, "kid": kid, "alg": ALGORITHM, "use": "sig"})


async def load_keys(connection: Connection, secret: MasterSecret, known: Mapping[str, Key]) -> KeyRing:
    """The keys in use now by the database's clock; key objects in `known` are used again.

    Errors: NotSealedHere when the master secret is not the one the keys were sealed with.
    """
    cursor = await connection.execute(
        f"SELECT kid, sealed, active_from <= now() FROM signing_key WHERE {_IN_USE} ORDER BY active_from, kid"
    )
    published: dict[str, Key] = {}
    signer = None
    for kid, sealed, active in await cursor.fetchall():
        key = known.get(kid) or _key(kid, secret.unseal(PURPOSE, sealed, kid.encode()))
        published[kid] = key
        if active:
            signer = key
    return KeyRing(published, signer)


async def rotate_keys(
    connection: Connection, secret: MasterSecret, now: bool = False, actor: audit.Actor = audit.OPERATOR
) -> dict[str, Any]:
    """Publishes a new signing key that signs after 10 minutes; the old ones are removed after 20 and the leeway.

    With `now`, for emergencies, the new key signs at once and the old ones are removed, so that every token made
    with them is refused within a second. Comes back: `{"kid", "active_from", "removed": [kid …]}`. Runs in the
    caller's transaction.
    """
    await connection.execute("SELECT pg_advisory_xact_lock(hashtext('minga signing keys'))")
    return await _new_key(connection, secret, 0 if now else PUBLISH_SECONDS, 0 if now else KEEP_SECONDS, actor)


async def ensure_key(connection: Connection, secret: MasterSecret) -> None:
    """Makes the first signing key, active at once, when there is none. Runs in the caller's transaction."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtext('minga signing keys'))")
    cursor = await connection.execute(f"SELECT 1 FROM signing_key WHERE {_IN_USE} LIMIT 1")
    if await cursor.fetchone() is None:
        await _new_key(connection, secret, 0, 0, audit.SYSTEM)


async def _new_key(
    connection: Connection, secret: MasterSecret, publish_seconds: int, keep_seconds: int, actor: audit.Actor
) -> dict[str, Any]:
    kid = secrets.token_hex(8)
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    )
    key = _key(kid, pem)
    cursor = await connection.execute(
        "UPDATE signing_key SET retired_at = least(retired_at, now() + make_interval(secs => %(publish)s)),"
        " removed_at = least(removed_at, now() + make_interval(secs => %(keep)s))"
        f" WHERE {_IN_USE} RETURNING kid",
        {"publish": publish_seconds, "keep": keep_seconds},
    )
    removed = [row[0] for row in await cursor.fetchall()]
    cursor = await connection.execute(
        "INSERT INTO signing_key (kid, sealed, public_jwk, active_from)"
        " VALUES (%(kid)s, %(sealed)s, %(jwk)s, now() + make_interval(secs => %(publish)s)) RETURNING active_from",
        {
            "kid": kid,
            "sealed": secret.seal(PURPOSE, pem, kid.encode()),
            "jwk": Jsonb(dict(key.public_jwk)),
            "publish": publish_seconds,
        },
    )
    row = await cursor.fetchone()
    active_from = None if row is None else row[0]
    await audit.record(connection, "key.rotate", actor, details={"kid": kid, "removed": removed})
    return {"kid": kid, "active_from": active_from, "removed": removed}
