"""Keeps encrypted what the database has to give back in clear, such as the secrets that sign webhooks.

AES-256-GCM under a key that HKDF-SHA256 derives from `PULSE_SECRET`: who reads the database alone reads none of it. A
sealed value is a version byte, 12 bytes of nonce and the ciphertext with its tag; it opens only for the row it was
sealed for.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from infra.errors import PulseError

_VERSION = b"\x01"
_NONCE_BYTES = 12
# Keeps this key apart from whatever else is derived from the same secret.
_PURPOSE = b"pulse seal 1"


class SealBroken(PulseError):
    """What is kept encrypted cannot be opened: PULSE_SECRET is not the one under which it was sealed."""

    ar = "يتعذّر فتح القيمة المحفوظة مشفّرة: قيمة PULSE_SECRET ليست التي شُفّرت بها."


class Seal:
    """What seals and opens under one secret."""

    def __init__(self, secret: str) -> None:
        """Derive the key from `secret`."""
        key = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(secret.encode())
        self._cipher = AESGCM(key)

    def seal(self, clear: bytes, *, about: bytes) -> bytes:
        """Encrypt `clear` for what `about` names (a row's id)."""
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher.encrypt(nonce, clear, _VERSION + about)

    def open(self, sealed: bytes, *, about: bytes) -> bytes:
        """Return what was sealed for `about`; raises `SealBroken` where it was changed, moved or sealed otherwise."""
        version, nonce, rest = sealed[:1], sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        if version != _VERSION or len(nonce) != _NONCE_BYTES:
            raise SealBroken
        try:
            return self._cipher.decrypt(nonce, rest, version + about)
        except InvalidTag:
            raise SealBroken from None
