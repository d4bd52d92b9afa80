"""What there is to tell accounts, written in the transaction in which it happened, so that nothing is told of what did
not happen, and all that did is told.

Jobs write theirs in the statement that ends them (`lifecycle/ends.py`), balances by a trigger (migration 0005), all
others through `note`. Nothing is written for an account that nobody listens for.
"""

from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from infra.models import Document

#: Every type of event that an endpoint can be told of.
TYPES = (
    *("job.succeeded", "job.failed", "job.canceled", "job.expired"),
    *("batch.accepted", "batch.completed", "batch.failed", "batch.canceled", "batch.expired"),
    *("file.ready", "file.rejected"),
    *("quota.warned", "quota.stopped"),
    "webhook.test",
)


async def note(
    session: AsyncSession, account_id: UUID, type_: str, subject_id: UUID, data: Document, *, url: str | None = None
) -> None:
    """Write down that something happened, where an endpoint of the account lives, or `url` is to be told."""
    assert type_ in TYPES, type_
    given = {"account": account_id, "type": type_, "subject": subject_id, "url": url}
    await session.execute(_NOTE, given | {"data": msgspec.json.encode(data).decode()})


_NOTE = text("""
    INSERT INTO webhook_messages (id, account_id, type, subject_id, data, url)
    SELECT uuidv7(), :account, :type, :subject, CAST(:data AS jsonb), CAST(:url AS text)
    WHERE CAST(:url AS text) IS NOT NULL
          OR EXISTS (SELECT FROM webhook_endpoints WHERE account_id = :account AND disabled_at IS NULL)
""")
