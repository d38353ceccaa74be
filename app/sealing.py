"""Sealing: everything secret at rest hangs on one master secret (docs/guides/operator.md, "Secrets").

`derive` gives an independent key for each purpose (HKDF-SHA-256, RFC 5869); `seal`/`unseal` are AES-256-GCM with a
random nonce; `seal_stable`/`unseal_stable` are AES-SIV (RFC 5297): equal input, equal output.
"""

import hmac
import os
from functools import lru_cache
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MINIMUM_BYTES = 32
NONCE_BYTES = 12


class NotSealedHere(Exception):
    """The text was not sealed with this secret, for this purpose and context."""


class MasterSecret:
    """The one secret of an installation. Errors: ValueError when it is shorter than 32 bytes or plainly weak."""

    def __init__(self, value: bytes) -> None:
        if len(value) < MINIMUM_BYTES or len(set(value)) < 8:
            raise ValueError(f"the master secret needs at least {MINIMUM_BYTES} random bytes")
        self._value = value
        self._derived = lru_cache(maxsize=64)(self._derive)

    def _derive(self, purpose: str, length: int) -> bytes:
        return HKDF(SHA256(), length, salt=b"minga/1", info=purpose.encode()).derive(self._value)

    def derive(self, purpose: str, length: int = 32) -> bytes:
        """The key for one purpose, `length` bytes."""
        return self._derived(purpose, length)

    def digest(self, purpose: str, text: bytes) -> bytes:
        """Keyed HMAC-SHA-256 of `text`: stored in place of a client secret or a claim code."""
        return hmac.new(self.derive(purpose), text, sha256).digest()

    def seal(self, purpose: str, plain: bytes, context: bytes = b"") -> bytes:
        """Nonce and AES-256-GCM ciphertext; different at each call."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + AESGCM(self.derive(purpose)).encrypt(nonce, plain, context)

    def unseal(self, purpose: str, sealed: bytes, context: bytes = b"") -> bytes:
        """What `seal` was given. Errors: NotSealedHere."""
        try:
            return AESGCM(self.derive(purpose)).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context)
        except (InvalidTag, ValueError) as error:
            raise NotSealedHere from error

    def seal_stable(self, purpose: str, plain: bytes, context: bytes = b"") -> bytes:
        """AES-SIV ciphertext; the same at each call."""
        return AESSIV(self.derive(purpose, 64)).encrypt(plain, [context])

    def unseal_stable(self, purpose: str, sealed: bytes, context: bytes = b"") -> bytes:
        """What `seal_stable` was given. Errors: NotSealedHere."""
        try:
            return AESSIV(self.derive(purpose, 64)).decrypt(sealed, [context])
        except (InvalidTag, ValueError) as error:
            raise NotSealedHere from error
