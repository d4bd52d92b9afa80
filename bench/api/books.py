"""What each has in its database after a measurement: compared with what it answered, then cleared away.

So nobody pays for those before him, and no account has more unfinished jobs than one measurement makes.
"""

import asyncio
from collections.abc import Sequence

from bench.stage.servers import Stage
from infra.database import Database
from quotas import audit

_CLEAR_OURS = """
    TRUNCATE jobs, holds, idempotency_keys, unique_jobs, ledger_entries;
    UPDATE balances SET held = 0, warned_at = NULL, stopped_at = NULL WHERE held > 0;
    INSERT INTO ledger_entries (id, account_id, balance_id, meter, kind, granted, reason)
    SELECT uuidv7(), account_id, id, meter, 'grant', granted, 'bench' FROM balances;
    VACUUM balances
"""
_CLEAR_TEXTBOOK = """
    TRUNCATE jobs, holds, idempotency_keys;
    UPDATE balances SET held = 0 WHERE held > 0;
    VACUUM balances
"""


class BooksWrong(RuntimeError):
    """Rows, holds and balances do not say what was answered."""


def close(set_up: Stage, name: str, accepted: int) -> None:
    """Check that `name` has a job and a hold for each of the submissions that it accepted, and clear them away.

    Raises `BooksWrong`.
    """
    ask, clear = (set_up.ask, _CLEAR_OURS) if name == "pulse" else (set_up.ask_textbook, _CLEAR_TEXTBOOK)
    jobs, holds = ask("SELECT count(*) FROM jobs"), ask("SELECT count(*) FROM holds")
    if not jobs == holds == accepted:
        raise BooksWrong(f"{name} accepted {accepted} submissions, and has {jobs} jobs and {holds} holds")
    if name == "pulse" and (wrong := asyncio.run(_disagreements(set_up))):
        raise BooksWrong("; ".join(wrong[:10]))
    for statement in clear.split(";"):
        ask(statement)


async def _disagreements(set_up: Stage) -> Sequence[str]:
    database = Database(set_up.settings)
    try:
        async with database.begin() as session:
            return await audit.disagreements(session)
    finally:
        await database.close()
