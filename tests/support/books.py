"""A look into the books."""

from sqlalchemy import select

from infra.ground import Ground
from infra.models import Account, Balance
from quotas import ledger


async def balance_of(ground: Ground, account: Account, meter: str = "chat_tokens") -> Balance:
    """Return the account's balance of a meter, in its only period."""
    async with ground.database.begin() as session:
        found = await session.scalars(select(Balance).where(Balance.account_id == account.id, Balance.meter == meter))
        return found.one()


async def assert_even(ground: Ground) -> None:
    """Fail unless every balance equals its entries and its holds, to the unit."""
    async with ground.database.begin() as session:
        assert await ledger.audit(session) == []
