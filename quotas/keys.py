"""API keys: made once and shown once, kept only as an HMAC.

A key is `pulse_`, 36 random characters (214 bits) and 6 characters of CRC-32 over what stands before them, all from
the 62 letters and digits: a scanner can find a leaked one by its prefix, and a mistyped one is refused without a
look-up.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from datetime import UTC, datetime
from uuid import UUID

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from infra import ids
from infra.errors import PulseError
from infra.models import Account, ApiKey
from infra.settings import Settings

log = structlog.stdlib.get_logger()

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PREFIX, _RANDOM, _CHECK = "pulse_", 36, 6
_SHAPE = re.compile(rf"{_PREFIX}[0-9A-Za-z]{{{_RANDOM + _CHECK}}}")


class InvalidApiKey(PulseError):
    """This API key is not valid."""

    ar = "مفتاح الواجهة البرمجية هذا غير صالح."
    status = 401


class RevokedApiKey(PulseError):
    """This API key was revoked or has expired."""

    ar = "أُلغي مفتاح الواجهة البرمجية هذا أو انتهت صلاحيته."
    status = 401


class AccountClosed(PulseError):
    """This account is closed."""

    ar = "هذا الحساب مغلق."
    status = 403


def _checksum(text: str) -> str:
    number, digits = zlib.crc32(text.encode()), ""
    for _ in range(_CHECK):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


def hashed(settings: Settings, key: str) -> bytes:
    """Return what is kept of a key."""
    return hmac.digest(settings.secret.encode(), key.encode(), hashlib.sha256)


def is_mistyped(key: str) -> bool:
    """Tell a key that is none of ours by its form alone."""
    return not _SHAPE.fullmatch(key) or not hmac.compare_digest(_checksum(key[:-_CHECK]), key[-_CHECK:])


async def issue(session: AsyncSession, settings: Settings, account_id: UUID, *, name: str) -> str:
    """Make a key for the account and return it: the only time that it can be read."""
    body = _PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM))
    key = body + _checksum(body)
    session.add(ApiKey(id=ids.new(), account_id=account_id, name=name, hash=hashed(settings, key), last4=key[-4:]))
    await session.flush()
    return key


async def verify(session: AsyncSession, settings: Settings, key: str) -> Account:
    """Return the account that `key` speaks for.

    Raises `InvalidApiKey` (also for a wrong checksum, without a look-up), `RevokedApiKey` or `AccountClosed`.
    """
    if is_mistyped(key):
        raise InvalidApiKey
    found = await session.execute(
        select(ApiKey, Account)
        .join(Account, Account.id == ApiKey.account_id)
        .where(ApiKey.hash == hashed(settings, key))
    )
    row = found.one_or_none()
    if row is None:
        raise InvalidApiKey
    api_key, account = row
    if api_key.revoked_at or (api_key.expires_at and api_key.expires_at <= datetime.now(UTC)):
        raise RevokedApiKey
    if account.closed_at:
        raise AccountClosed
    return account


async def revoke(session: AsyncSession, settings: Settings, key: str) -> None:
    """Make `key` useless from now on; a key that is unknown or revoked already stays as it is."""
    await session.execute(
        update(ApiKey)
        .where(ApiKey.hash == hashed(settings, key), ApiKey.revoked_at.is_(None))
        .values(revoked_at=func.now())
    )
