"""A look into the books."""

from sqlalchemy import select, update

from infra.ground import Ground
from infra.models import Account, Balance, LedgerEntry
from quotas import audit


async def balance_of(ground: Ground, account: Account, meter: str = "chat_tokens") -> Balance:
    """Return the account's balance of a meter, in its only period."""
    async with ground.database.begin() as session:
        found = await session.scalars(select(Balance).where(Balance.account_id == account.id, Balance.meter == meter))
        return found.one()


async def grant(ground: Ground, units: int, meter: str = "chat_tokens") -> None:
    """Make it that every account was granted so many units of a meter."""
    async with ground.database.begin() as session:
        await session.execute(update(Balance).where(Balance.meter == meter).values(granted=units))
        entries = update(LedgerEntry).where(LedgerEntry.meter == meter, LedgerEntry.kind == "grant")
        await session.execute(entries.values(granted=units))


async def assert_even(ground: Ground) -> None:
    """Fail unless every balance equals its entries and its holds, to the unit."""
    async with ground.database.begin() as session:
        assert await audit.disagreements(session) == []
