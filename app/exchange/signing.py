"""Signatures of outgoing webhooks, as the Standard Webhooks specification 1.0 has them.

A secret is shown as `whsec_` and base64 of 32 random bytes. While it is being rotated both the new and the old one
sign, so the receiver can change its copy at leisure. Verification belongs to receivers: `app.client.verify_webhook`.
"""

import hmac
import secrets
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Sequence
from hashlib import sha256

PREFIX = "whsec_"
MINIMUM_BYTES = 24
MAXIMUM_BYTES = 64
NEW_BYTES = 32


def new_secret() -> str:
    """A fresh secret in its shown form."""
    return PREFIX + b64encode(secrets.token_bytes(NEW_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """The key inside a shown secret. Errors: ValueError when it is not one of 24 to 64 bytes."""
    try:
        key = b64decode(secret.removeprefix(PREFIX), validate=True)
    except Error:
        raise ValueError("a webhook secret is whsec_ and base64") from None
    if not secret.startswith(PREFIX) or not MINIMUM_BYTES <= len(key) <= MAXIMUM_BYTES:
        raise ValueError("a webhook secret is whsec_ and base64 of 24 to 64 bytes")
    return key


def signature_headers(secrets_in_use: Sequence[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers that go with `body`. `timestamp` is of this attempt, `message_id` the same at every attempt.

    Errors: ValueError for a bad secret, for none, or an id with a full stop, which separates the signed parts.
    """
    if not secrets_in_use or "." in message_id:
        raise ValueError("signing needs a secret and an id without full stop")
    signed = f"{message_id}.{timestamp}.".encode() + body
    made = (b64encode(hmac.new(key_of(secret), signed, sha256).digest()).decode() for secret in secrets_in_use)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in made),
    }
