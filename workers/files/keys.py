"""Where files lie in the store: an upload under its file's id, an asset under the SHA-256 of its bytes."""

from uuid import UUID


def quarantine_key(account_id: UUID, file_id: UUID) -> str:
    """Return where a file lies until it is decided on."""
    return f"{account_id}/{file_id}"


def asset_key(account_id: UUID, sha256: str) -> str:
    """Return where bytes lie that are served; `sha256` is in hexadecimal."""
    return f"{account_id}/{sha256}"
