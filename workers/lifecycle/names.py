"""Under which names calls are known: an Idempotency-Key stands for whatever its call made, for a day.

Jobs are looked up and kept under their names (these, unique keys, failed jobs that were given another go) by the
database's own `admit_jobs`; what else is made under a key, such as a file, by `workers/idempotency.py`.
"""

import hashlib
from datetime import timedelta

import msgspec
from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from infra.errors import PulseError
from infra.models import IdempotencyKey

#: A caller's key is remembered this long.
KEEP_KEYS = timedelta(hours=24)
#: The route that makes jobs, as `fingerprint` knows it.
JOBS_ROUTE = "POST /v1/jobs"


class IdempotencyKeyReused(PulseError):
    """This Idempotency-Key was used for another request within the last 24 hours."""

    ar = "استُخدم مفتاح Idempotency-Key هذا لطلب آخر خلال الأربع والعشرين ساعة الماضية."
    status = 422


def fingerprint(route: str, request: object) -> bytes:
    """Return what tells requests apart, however they were written; the same one on another route is another."""
    return hashlib.sha256(route.encode() + b"\n" + msgspec.json.encode(request, order="sorted")).digest()


async def forget_keys(session: AsyncSession) -> None:
    """Delete the idempotency keys that are past their time; what a call has in its hands is deleted by that."""
    # Waiting for it could be in a circle: a call locks the rows of its keys in an order of its own.
    old = select(IdempotencyKey.account_id, IdempotencyKey.key).where(IdempotencyKey.expires_at <= func.now())
    mine = tuple_(IdempotencyKey.account_id, IdempotencyKey.key).in_(old.with_for_update(skip_locked=True))
    await session.execute(delete(IdempotencyKey).where(mine))
