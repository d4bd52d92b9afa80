"""What an operator does to accounts, straight on the studio's database; also the key that `make run` prints."""

import contextlib
import os
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from infra.database import Database
from infra.errors import PulseError
from infra.models import Account
from infra.settings import Settings
from quotas import accounts, keys
from scripts.pulse import operator
from scripts.pulse.words import Language

DEVELOPMENT_EMAIL = "studio@pulse.local"
_KEY_NAME = "pulse command"


class NoSuchAccount(PulseError):
    """There is no account with the address {email}."""

    ar = "لا يوجد حساب بالعنوان {email}."
    status = 404


async def add(settings: Settings, email: str, language: Language) -> tuple[Account, str]:
    """Make an account on the default plan and return it with its first key.

    Raises `quotas.accounts.InvalidEmail` or `quotas.accounts.AccountExists`.
    """
    async with _books(settings) as session:
        account = await accounts.create(session, email, language=language)
        return account, await keys.issue(session, settings, account.id, name=_KEY_NAME)


async def issue_key(settings: Settings, email: str, name: str) -> str:
    """Return one more key of an account. Raises `NoSuchAccount`, or `quotas.keys.AccountClosed`."""
    async with _books(settings) as session:
        account = await accounts.find(session, email)
        if account is None:
            raise NoSuchAccount(field="email", email=email)
        if account.closed_at is not None:
            raise keys.AccountClosed
        return await keys.issue(session, settings, account.id, name=name)


async def revoke_key(settings: Settings, key: str) -> None:
    """Make a key useless. Raises `quotas.keys.InvalidApiKey`, or `quotas.keys.RevokedApiKey` when it was already."""
    async with _books(settings) as session:
        with contextlib.suppress(keys.AccountClosed):
            await keys.verify(session, settings, key)
        await keys.revoke(session, settings, key)


async def development_key(settings: Settings) -> str:
    """Return the key in `<folder>/key` for the account of this machine; makes both where they are missing or wrong."""
    path = settings.folder / "key"
    async with _books(settings) as session:
        with contextlib.suppress(OSError, UnicodeDecodeError, keys.InvalidApiKey, keys.RevokedApiKey):
            key = path.read_text(encoding="ascii").strip()
            await keys.verify(session, settings, key)
            return key
        account = await accounts.find(session, DEVELOPMENT_EMAIL) or await accounts.create(session, DEVELOPMENT_EMAIL)
        key = await keys.issue(session, settings, account.id, name="make run")
    # After the commit: a key in the file is one that works.
    _write(path, key)
    return key


@asynccontextmanager
async def _books(settings: Settings) -> AsyncGenerator[AsyncSession]:
    """Open one transaction on the database; raises what `operator.check` does."""
    database = Database(settings)
    try:
        await operator.check(database)
        async with database.begin() as session:
            yield session
    finally:
        await database.close()


def _write(path: Path, key: str) -> None:
    """Write the file in one step, readable by this user alone, so that nobody ever reads half a key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix="key.")  # mode 0600
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key + "\n")
    Path(name).replace(path)
