"""What runs next: job ids in arq's own keys and format, a queue for each pool, and the channel that carries cancels.

The queue is a road, not a truth: everything here may be sent twice, and what is lost is sent again from PostgreSQL
by the tender (`workers/tend.py`).
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
from arq.constants import in_progress_key_prefix, job_key_prefix
from arq.jobs import serialize_job
from redis.asyncio import Redis

#: The one function that every pool registers; its argument is the job's id.
FUNCTION = "perform"
CANCELS = "pulse:cancels"
# arq drops a job whose definition has expired; the tender would bring it back, but a long backlog should not need it.
_KEEP_DEFINITION = timedelta(days=14)


def name(pool: str) -> str:
    """Return arq's queue name of a pool."""
    return f"arq:queue:{pool}"


def serialize(value: dict[str, object]) -> bytes:
    """Encode a job for arq: MessagePack, so that a queue cannot carry code as pickle does."""
    return msgspec.msgpack.encode(value)


def deserialize(data: bytes) -> dict[str, object]:
    """Decode what `serialize` wrote."""
    return msgspec.msgpack.decode(data, type=dict[str, object])


class Queue:
    """The queues of all pools."""

    def __init__(self, redis: Redis) -> None:
        """Use `redis` for everything."""
        self._redis = redis

    async def enqueue(self, pool: str, job_ids: Sequence[UUID], *, due: datetime | None = None) -> None:
        """Put jobs on the queue of a pool, to start from `due` (now by default); one that waits there stays."""
        now = datetime.now(UTC)
        now_ms, due_ms = (int(moment.timestamp() * 1000) for moment in (now, due or now))
        async with self._redis.pipeline(transaction=True) as pipe:
            for job_id in map(str, job_ids):
                definition = serialize_job(FUNCTION, (job_id,), {}, None, now_ms, serializer=serialize)
                pipe.set(job_key_prefix + job_id, definition, px=_KEEP_DEFINITION)
                pipe.zadd(name(pool), {job_id: due_ms}, nx=True)
            await pipe.execute()

    async def lost(self, pool: str, job_ids: Sequence[UUID]) -> list[UUID]:
        """Return those of `job_ids` that neither wait on the pool's queue nor run under a lease."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id in map(str, job_ids):
                pipe.zscore(name(pool), job_id)
                pipe.exists(in_progress_key_prefix + job_id)
            found = await pipe.execute()
        return [
            job_id
            for job_id, score, lease in zip(job_ids, found[::2], found[1::2], strict=True)
            if score is None and not lease
        ]

    async def leased(self, job_ids: Sequence[UUID]) -> set[UUID]:
        """Return those of `job_ids` that a living worker holds a lease on."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.exists(f"{in_progress_key_prefix}{job_id}")
            found = await pipe.execute()
        return {job_id for job_id, lease in zip(job_ids, found, strict=True) if lease}

    async def renew(self, job_ids: Sequence[str], lease_s: float) -> None:
        """Extend the leases of running jobs to `lease_s` from now; a lease that is gone stays gone."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.pexpire(in_progress_key_prefix + job_id, int(lease_s * 1000))
            await pipe.execute()

    async def cancel(self, job_id: UUID) -> None:
        """Tell all workers that a running job is not wanted any more."""
        await self._redis.publish(CANCELS, str(job_id))  # pyright: ignore[reportUnknownMemberType]
