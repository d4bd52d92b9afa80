"""The ids of everything that is kept: UUIDv7, made by the client, so that rows sort and partition by their time."""

from datetime import UTC, datetime
from uuid import UUID

from uuid_utils.compat import uuid7


def new() -> UUID:
    """Return a new UUIDv7 (RFC 9562); later ones of one process sort after earlier ones."""
    return uuid7()


def created(identifier: UUID) -> datetime:
    """Return the time, in UTC to the millisecond, at which a UUIDv7 was made."""
    return datetime.fromtimestamp((identifier.int >> 80) / 1000, UTC)
