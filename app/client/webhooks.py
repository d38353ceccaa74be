"""Verification of webhooks on the receiver's side (Standard Webhooks 1.0)."""

import hmac
import json
import time
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from app.client.errors import WebhookError

TOLERANCE_SECONDS = 300


def verify_webhook(
    secret: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    tolerance_seconds: int = TOLERANCE_SECONDS,
    now: float | None = None,
) -> dict[str, Any]:
    """The payload of a webhook that was signed with `secret` (`whsec_…`) within the last five minutes.

    Give the raw bytes of the body, not re-encoded JSON. `webhook-id` is the same at every attempt to deliver: keep the
    ids you have handled for a day and drop repetitions.

    Errors: WebhookError when a header is missing, too old, or no signature fits.
    """
    given = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, stamp, signatures = (given[f"webhook-{part}"] for part in ("id", "timestamp", "signature"))
    except KeyError:
        raise WebhookError("a webhook header is missing") from None
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 13):
        raise WebhookError("the timestamp is not a number of seconds")
    if abs((time.time() if now is None else now) - int(stamp)) > tolerance_seconds:
        raise WebhookError("the timestamp is too far from now")
    try:
        key = b64decode(secret.removeprefix("whsec_"), validate=True)
    except Error:
        raise WebhookError("the secret is not whsec_ and base64") from None
    expected = b64encode(hmac.new(key, f"{message_id}.{stamp}.".encode() + body, sha256).digest())
    fits = [
        hmac.compare_digest(expected, value.encode())
        for version, _, value in (part.partition(",") for part in signatures.split())
        if version == "v1"
    ]
    if not any(fits):
        raise WebhookError("no signature fits")
    try:
        payload = json.loads(body)
    except ValueError:
        raise WebhookError("the payload is not JSON") from None
    if not isinstance(payload, dict):
        raise WebhookError("the payload is not an object")
    return payload
