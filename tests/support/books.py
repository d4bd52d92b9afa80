"""A look into the books."""

from sqlalchemy import select, text, update

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


async def assert_charged_once(ground: Ground) -> None:
    """Fail unless every hold of every job was ended by one entry, and that entry took what the job says was charged."""
    async with ground.database.begin() as session:
        wrong = await session.scalars(
            text("""
            SELECT format('job %s (%s): charged %s, its entries: %s', j.id, j.state, j.charged, e.told)
            FROM jobs j LEFT JOIN (
                SELECT holder_id, sum(held) held, sum(used) used, count(*) FILTER (WHERE kind = 'hold') holds,
                       count(*) FILTER (WHERE kind IN ('settle', 'void')) ends,
                       string_agg(format('%s held %s used %s', kind, held, used), ', ' ORDER BY id) told
                FROM ledger_entries WHERE meter = 'chat_tokens' AND holder_id IS NOT NULL GROUP BY 1
            ) e ON e.holder_id = j.id
            WHERE (e.holds, e.ends, e.held, e.used) IS DISTINCT FROM
                  (1::bigint, 1::bigint, 0::numeric, coalesce((j.charged ->> 'chat_tokens')::numeric, 0))
            UNION ALL
            SELECT format('account %s: used %s and held %s, its jobs %s', b.account_id, b.used, b.held, j.charged)
            FROM balances b JOIN (
                SELECT account_id, sum(coalesce((charged ->> 'chat_tokens')::numeric, 0)) charged FROM jobs GROUP BY 1
            ) j USING (account_id)
            WHERE b.meter = 'chat_tokens' AND (b.used <> j.charged OR b.held <> 0)
            """)
        )
        assert list(wrong) == []
