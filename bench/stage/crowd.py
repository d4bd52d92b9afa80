"""The accounts of a bench: each with a key, and with more units than anybody will ask for."""

from sqlalchemy import text

from infra import ground
from infra.settings import Settings
from quotas import accounts, keys

_UNITS = 10**15
#: As an add-on would be booked, so that the books still agree.
_GRANT = text("""
    WITH raised AS (
        UPDATE balances SET granted = granted + :units WHERE period_end IS NOT NULL RETURNING id, account_id, meter
    )
    INSERT INTO ledger_entries (id, account_id, balance_id, meter, kind, granted, reason)
    SELECT uuidv7(), account_id, id, meter, 'grant', :units, 'bench' FROM raised
""")


async def make(settings: Settings, count: int) -> list[str]:
    """Make the accounts and return their keys; the nth has the address of `email(n)`."""
    async with ground.opened(settings) as opened, opened.database.begin() as session:
        made: list[str] = []
        for number in range(count):
            account = await accounts.create(session, email(number))
            made.append(await keys.issue(session, settings, account.id, name="bench"))
        await session.flush()
        await session.execute(_GRANT, {"units": _UNITS})
    return made


def email(number: int) -> str:
    """Return the address of an account."""
    return f"bench-{number}@example.com"
