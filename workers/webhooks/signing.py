"""How what is delivered is signed, as Standard Webhooks 1.0.0 says: the keys, their texts, and the three headers.

What is signed is `{webhook-id}.{webhook-timestamp}.{body}`, by HMAC-SHA256 (`v1,`) or ed25519 (`v1a,`), in base64.
"""

import base64
import hmac
import os
from collections.abc import Iterable
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_PREFIX = "msg_"
_HMAC_BYTES = 32
_SEED_BYTES = 32


class Key:
    """One key that signs; it shows itself to nobody who only prints it.

    `raw` is 24 to 64 bytes for `hmac`. For `ed25519` it is 64 bytes, the seed and then the public key, which is how the
    libraries of Standard Webhooks write a `whsk_`.
    """

    __slots__ = ("raw", "signature")

    def __init__(self, signature: str, raw: bytes) -> None:
        """Sign with `raw`, by `hmac` or `ed25519`."""
        self.signature = signature
        self.raw = raw

    def __repr__(self) -> str:
        return f"Key({self.signature})"

    @property
    def text(self) -> str:
        """The key as it is handed over: `whsec_...` or `whsk_...`."""
        return ("whsec_" if self.signature == "hmac" else "whsk_") + base64.b64encode(self.raw).decode()

    @property
    def public(self) -> str | None:
        """What verifies but cannot sign: `whpk_...`; None of a key that has no such half."""
        if self.signature == "hmac":
            return None
        return "whpk_" + base64.b64encode(self.raw[_SEED_BYTES:]).decode()

    def sign(self, content: bytes) -> str:
        """Return one signature as the header lists it."""
        if self.signature == "hmac":
            return "v1," + base64.b64encode(hmac.digest(self.raw, content, "sha256")).decode()
        signed = Ed25519PrivateKey.from_private_bytes(self.raw[:_SEED_BYTES]).sign(content)
        return "v1a," + base64.b64encode(signed).decode()


def new_key(signature: str) -> Key:
    """Return a random key."""
    if signature == "hmac":
        return Key(signature, os.urandom(_HMAC_BYTES))
    private = Ed25519PrivateKey.generate()
    return Key(signature, private.private_bytes_raw() + private.public_key().public_bytes_raw())


def name_of(message_id: UUID) -> str:
    """Return the id under which receivers know a message, whatever delivery or try brings it."""
    return f"{_PREFIX}{message_id.hex}"


def message_of(name: str) -> UUID:
    """Return the message that receivers know under this name; raises `ValueError`."""
    if not name.startswith(_PREFIX):
        raise ValueError(name)
    return UUID(name.removeprefix(_PREFIX))


def headers(message_id: UUID, timestamp: int, body: bytes, keys: Iterable[Key]) -> dict[str, str]:
    """Return the headers of one try at `timestamp` (seconds), signed by every one of `keys`."""
    name = name_of(message_id)
    content = f"{name}.{timestamp}.".encode() + body
    return {
        "webhook-id": name,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(key.sign(content) for key in keys),
    }
