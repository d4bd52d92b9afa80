"""Who the accounts are: made with an e-mail address on the default plan, found by id or address."""

import re
from typing import Literal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from infra import ids
from infra.errors import PulseError
from infra.models import Account
from quotas import ledger, plans

# One @, no spaces, a dot in the domain: the mail itself proves the rest.
_EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]+\.[^@\s\x00-\x1f.]{2,}")


class InvalidEmail(PulseError):
    """{email!r} is not an e-mail address."""

    ar = "القيمة {email!r} ليست عنوان بريد إلكتروني."
    status = 400


class AccountExists(PulseError):
    """There already is an account with the address {email}."""

    ar = "يوجد حساب بالعنوان {email} من قبل."
    status = 409


async def create(session: AsyncSession, email: str, *, language: Literal["ar", "en"] = "ar") -> Account:
    """Make an account on the default plan and grant it the plan's first period.

    Raises `InvalidEmail`, or `AccountExists` when the address is taken.
    """
    address = email.strip().lower()
    if len(address) > 254 or not _EMAIL.fullmatch(address):
        raise InvalidEmail(field="email", email=email)
    made = await session.scalar(
        insert(Account)
        .values(id=ids.new(), email=address, plan=plans.load().default, language=language)
        .on_conflict_do_nothing(index_elements=["email"])
        .returning(Account)
    )
    if made is None:
        raise AccountExists(field="email", email=address)
    await ledger.lock(session, [(made, meter) for meter in plans.load().planned])
    return made


async def find(session: AsyncSession, email: str) -> Account | None:
    """Return the account with this address, if any."""
    return await session.scalar(select(Account).where(Account.email == email.strip().lower()))


async def get(session: AsyncSession, account_id: UUID) -> Account:
    """Return the account; raises `sqlalchemy.exc.NoResultFound` when there is none."""
    return await session.get_one(Account, account_id)
