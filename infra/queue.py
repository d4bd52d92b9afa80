"""What runs next: jobs in arq's own keys and format, claimed in fair order under leases.

The queue is a road, not a truth: everything here may be sent twice, and what is lost is sent again from PostgreSQL
by the tender (`workers/tend.py`). `lua/` holds the four steps of a job on it; each is one call for many jobs.
"""

import asyncio
import builtins
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import msgspec
from arq.constants import in_progress_key_prefix
from arq.jobs import serialize_job
from msgspec import Struct
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from infra import redis as road

#: The one function that the studio's pools register; its argument is the job's id.
FUNCTION = "perform"
CANCELS = "pulse:cancels"
#: One in so many turns goes to the batch lane first.
BATCH_EVERY = 8
#: A job that loses its worker this often is what kills the workers.
MOST_LOSSES = 20
Lane = Literal["interactive", "batch"]
# A definition that expires is lost to the queue; the tender would bring the job back, but a backlog should not need it.
_KEEP_DEFINITION_MS = 14 * 86_400_000
# A script is called with so many jobs at most: nobody else is served while it runs.
_MOST_AT_ONCE = 1000
_LUA = Path(__file__).parent / "lua"
_EXCEPTION = 1  # MessagePack extension type


def name(pool: str) -> str:
    """Return arq's queue name of a pool."""
    return f"arq:queue:{pool}"


def base(queue_name: str) -> str:
    """Return what the names of our own keys of a queue begin with."""
    return f"pulse:{queue_name}:"


def _now_ms() -> int:
    """Return 0: what time it is, the server knows best. A simulation says another time."""
    return 0


def source(*files: str) -> str:
    """Return the text of a script, with what stands before it."""
    return "".join((_LUA / part).read_text(encoding="utf-8") for part in ("common.lua", *files))


def script(redis: Redis, *files: str) -> Callable[[list[str], list[Any]], Awaitable[Any]]:
    """Return a script of `lua/`, to be called with its keys and arguments."""
    registered: Any = redis.register_script(source(*files))
    return registered


def serialize(value: dict[str, Any]) -> bytes:
    """Encode a job or a result for arq: MessagePack, so that a queue cannot carry code as pickle does."""
    return _ENCODER.encode(value)


def deserialize(data: bytes) -> dict[str, Any]:
    """Decode what `serialize` wrote."""
    return _DECODER.decode(data)


def _encode_exception(value: object) -> object:
    if isinstance(value, BaseException):
        kind = type(value)
        return msgspec.msgpack.Ext(_EXCEPTION, msgspec.json.encode([kind.__module__, kind.__qualname__, str(value)]))
    raise NotImplementedError(f"{type(value)} cannot be kept in a queue")


def _decode_exception(code: int, data: memoryview) -> BaseException:
    """Return Python's own exceptions as they were, and any other as a `RuntimeError` that names it."""
    assert code == _EXCEPTION, "no other extension is ever written"
    module, kind, text = msgspec.json.decode(data, type=tuple[str, str, str])
    known = getattr(builtins, kind, None) if module == "builtins" else None
    if kind == asyncio.CancelledError.__qualname__:
        return asyncio.CancelledError(text)
    if isinstance(known, type) and issubclass(known, Exception):
        with contextlib.suppress(TypeError):  # it takes more than a text
            return known(text)
    return RuntimeError(f"{module}.{kind}: {text}")


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_encode_exception)
_DECODER = msgspec.msgpack.Decoder(dict[str, Any], ext_hook=_decode_exception)


class Waiting(Struct, frozen=True):
    """A job to be put on a queue: a function by name, its arguments, and whose turn it takes in which lane."""

    id: str
    function: str
    arguments: tuple[Any, ...]
    account: str = ""
    kind: str = ""
    lane: Lane = "interactive"
    due_ms: int = 0


def waiting(job_id: UUID, account_id: UUID, kind: str, lane: Lane, due: datetime | None = None) -> Waiting:
    """Return a job of the studio, to start from `due` (at once by default)."""
    said = str(job_id)
    return Waiting(said, FUNCTION, (said,), str(account_id), kind, lane, _ms(due))


def _ms(due: datetime | None) -> int:
    return 0 if due is None else int(due.timestamp() * 1000)


class Queue:
    """The queues of all pools, as those who fill and watch them see them."""

    def __init__(self, redis: Redis) -> None:
        """Use `redis` for everything."""
        self._redis = redis
        self._enqueue, self._forget = script(redis, "enqueue.lua"), script(redis, "forget.lua")
        self._lost = script(redis, "lost.lua")

    async def enqueue(
        self,
        pool: str,
        jobs: Sequence[tuple[UUID, UUID]],
        *,
        kind: str = "",
        lane: Lane = "interactive",
        due: datetime | None = None,
    ) -> None:
        """Put jobs, each with its account, on a pool's queue, to start from `due` (at once by default).

        One that waits or runs there already stays as it is.
        """
        await self.put(name(pool), [waiting(*job, kind, lane, due) for job in jobs])

    async def put(self, queue_name: str, jobs: Sequence[Waiting]) -> None:
        """Put any function's jobs on a queue of arq's, in one call for every thousand."""
        for some in _chunks(jobs):
            await self._enqueue([queue_name], [base(queue_name), _packed(some)])

    def add(self, pipe: Any, queue_name: str, jobs: Sequence[Waiting]) -> None:
        """Add to a pipeline what puts jobs on a queue."""
        script: Any = self._enqueue
        pipe.scripts.add(script)
        for some in _chunks(jobs):
            pipe.evalsha(script.sha, 1, queue_name, base(queue_name), _packed(some))

    async def forget(self, pool: str, job_ids: Sequence[UUID]) -> None:
        """Take jobs off a pool's queue, as far as they do not run."""
        await self._forget([name(pool)], [base(name(pool)), *(str(job_id) for job_id in job_ids)])

    async def lost(self, pool: str, job_ids: Sequence[UUID]) -> list[UUID]:
        """Return those of `job_ids` that the pool's queue does not know, waiting or running.

        One that runs is lost, too, when its worker took its lease again after Redis had forgotten whose it is: it is
        to be enqueued, which then only tells that.
        """
        lost: list[UUID] = []
        for some in _chunks(job_ids):
            told = await self._lost([name(pool)], [base(name(pool)), *(str(job_id) for job_id in some)])
            lost += [UUID(job_id.decode()) for job_id in told]
        return lost

    async def leased(self, job_ids: Sequence[UUID]) -> set[UUID]:
        """Return those of `job_ids` that a living worker holds a lease on."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.exists(f"{in_progress_key_prefix}{job_id}")
            found = await pipe.execute()
        return {job_id for job_id, lease in zip(job_ids, found, strict=True) if lease}

    async def cancel(self, job_id: UUID) -> None:
        """Tell all workers that a running job is not wanted any more."""
        await self._redis.publish(CANCELS, str(job_id))  # pyright: ignore[reportUnknownMemberType]


class Claimed(Struct, frozen=True):
    """A job under a lease: when it was due (ms), and how often it was tried before, or lost its worker.

    `aborted_ms` is when somebody aborted a job of this id (0: never), be it this one or an earlier one. The definition
    is arq's; None when it expired before its turn came.
    """

    id: str
    due_ms: int
    tries: int
    losses: int
    aborted_ms: int
    definition: bytes | None


class Turn(Struct, frozen=True):
    """What a claim found: the seconds until the next is worth it (at most a minute), and the claimed jobs.

    `slots` is what operators give each worker of this queue; None: its own number.
    """

    wait_s: float
    slots: int | None
    jobs: list[Claimed]


class Ended(Struct, frozen=True):
    """How a claimed job leaves its worker.

    "over": its `result` is kept for `ms` (0: for ever). "again" in `ms`: that was a try. "back" at once: that was none.
    """

    id: str
    how: Literal["over", "again", "back"]
    ms: int = 0
    result: bytes = b""
    keep_progress_s: int = 0
    took_ms: int = 0
    failed: bool = False
    #: Which try it was; the next one of "again" is one more.
    tried: int = 1


def renew_every_s(lease_s: float) -> float:
    """Return how often leases are renewed: often enough for a Redis that went back in time to settle within seconds."""
    return min(1.0, lease_s / 3)


def _settle_ms(lease_s: float) -> int:
    """Return how long it takes until every living worker has renewed once, and was heard."""
    return max(1, int(1300 * renew_every_s(lease_s)))


class Consumer:
    """One queue, as a worker sees it: everything it does is done under its own name."""

    def __init__(self, redis: Redis, queue_name: str, worker: str, lease_s: float) -> None:
        """Claim from `queue_name` as `worker`, each job for `lease_s` seconds at a time."""
        self._redis = redis
        self._queue = queue_name
        self._base = base(queue_name)
        self._worker = worker
        self._lease_ms = int(lease_s * 1000)
        self._settle_ms = _settle_ms(lease_s)
        self._claim, self._finish = script(redis, "claim.lua"), script(redis, "finish.lua")

    async def claim(
        self,
        most: int,
        *,
        account_cap: int = 0,
        batch_every: int = BATCH_EVERY,
        heed_aborts: bool = False,
        heard_ms: int = 0,
    ) -> Turn:
        """Claim at most `most` due jobs; `account_cap` holds where operators have set none.

        `heard_ms` is when the worker's last renewal was heard: a Redis that has forgotten it is given time to settle.
        """
        who = [self._base, _now_ms(), self._lease_ms, most, self._worker]
        how = [account_cap, batch_every, int(heed_aborts), heard_ms, self._settle_ms]
        wait_ms, slots, *flat = await self._claim([self._queue], who + how)
        jobs = [
            Claimed(job_id.decode(), int(due), tries, losses, aborted_ms, definition or None)
            for job_id, due, tries, losses, aborted_ms, definition in itertools.batched(flat, 6)
        ]
        return Turn(60.0 if wait_ms < 0 else min(60.0, wait_ms / 1000), _slots(slots), jobs)

    async def finish(self, ended: Sequence[Ended]) -> set[str]:
        """Give leases up. Returns the jobs whose lease was lost before: nothing was changed for those."""
        rows = [
            (job.id, job.how, job.ms, road.text(job.result), job.keep_progress_s, job.took_ms, job.failed, job.tried)
            for job in ended
        ]
        packed = msgspec.msgpack.encode((_now_ms(), self._worker, rows))
        return {job_id.decode() for job_id in await self._finish([self._queue], [self._base, packed])}

    async def woken(self, timeout_s: float) -> bool:
        """Wait until something may be there to claim; False when nothing was said for `timeout_s` seconds."""
        line: Any = self._redis
        return await line.blpop([f"{self._base}wake"], timeout=timeout_s) is not None

    async def pass_on(self) -> None:
        """Wake another worker instead of this one, which has no room."""
        await self._redis.lpush(f"{self._base}wake", 1)  # pyright: ignore[reportGeneralTypeIssues]

    async def leave(self) -> None:
        """Strike this worker off the list of the living."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.zrem(f"{self._base}alive", self._worker)
            pipe.hdel(f"{self._base}workers", self._worker)
            await pipe.execute()


class Living(Struct, frozen=True, kw_only=True):
    """What a worker tells operators of itself with every renewal; times in seconds since 1970."""

    host: str
    pid: int
    slots: int
    running: int
    born_s: float
    stopping: bool


class Renewer:
    """Extends leases, for a thread: its client is not asyncio's."""

    def __init__(self, redis: BlockingRedis, queue_name: str, worker: str, lease_s: float) -> None:
        """Renew the leases that `worker` holds on `queue_name` to `lease_s` seconds from now."""
        self._queue = queue_name
        self._fixed = (base(queue_name), int(lease_s * 1000), worker)
        self._settle_ms = _settle_ms(lease_s)
        script: Any = redis.register_script(source("renew.lua"))
        self._script: Callable[[list[str], list[Any]], list[Any]] = script
        #: When the last renewal was heard, in ms by the server's clock; 0 before the first.
        self.heard_ms = 0

    def __call__(self, job_ids: Sequence[str], told: bytes = b"") -> tuple[int | None, list[str]]:
        """Renew, and tell operators something of the worker.

        Returns the slots that they give it (None: its own number), and the jobs that another worker runs by now.
        """
        prefix, lease_ms, worker = self._fixed
        fixed = [prefix, _now_ms(), lease_ms, worker, told, self.heard_ms, self._settle_ms]
        slots, self.heard_ms, *lost = self._script([self._queue], [*fixed, *job_ids])
        return _slots(slots), [job_id.decode() for job_id in lost]


def _slots(said: int) -> int | None:
    return said if said >= 0 else None


def _packed(jobs: Sequence[Waiting]) -> bytes:
    rows = [(job.id, job.lane, job.kind, job.account, road.text(_definition(job)), job.due_ms) for job in jobs]
    return msgspec.msgpack.encode((_now_ms(), _KEEP_DEFINITION_MS, rows))


def _definition(job: Waiting) -> bytes:
    now_ms = int(time.time() * 1000)
    definition = serialize_job(job.function, job.arguments, {}, None, now_ms, serializer=serialize)
    assert definition is not None
    return definition


def _chunks[T](jobs: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(jobs), _MOST_AT_ONCE):
        yield jobs[start : start + _MOST_AT_ONCE]
