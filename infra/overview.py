"""How a pool's queue stands, for operators and for those who wait; and what operators want of its workers."""

import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from infra import queue
from infra.queue import Lane, Living

# A worker tells that it lives three times a lease; one that was silent for so long is taken for dead.
_SILENCE_MS = 15_000


class Place(Struct, frozen=True, kw_only=True):
    """Where a job waits: how many go before it in its `lane`, and before it of its own account.

    `other_lane` counts those that wait in the other lane; `running` what runs, and `account_running` and `kind_running`
    what runs of its account and kind.
    """

    lane: Lane
    before: int
    before_of_account: int
    other_lane: int
    running: int
    account_running: int
    kind_running: int


class Control(Struct, frozen=True, kw_only=True):
    """What operators want of a pool; None: what its workers were started with. A cap of 0 is none."""

    paused: bool = False
    slots: int | None = None
    account_cap: int | None = None
    kind_caps: dict[str, int] = {}


class Overview(Struct, frozen=True, kw_only=True):
    """How a queue stands: jobs that wait (per lane), are not due yet and run; rates are jobs of the last minute.

    `oldest_s` is how long the longest waiting job has been due; `took_s` how long the last jobs took, per kind.
    """

    waiting: int
    lanes: dict[Lane, int]
    deferred: int
    running: int
    oldest_s: float | None
    done: float
    failed: float
    returned: float
    control: Control
    workers: list[Living]
    took_s: dict[str, list[float]]

    @property
    def slots(self) -> int:
        """How many jobs the living workers run at a time, all together."""
        return sum(worker.slots for worker in self.workers if not worker.stopping)


class Overseer:
    """Looks at queues without taking part in them, and tells workers what operators want."""

    def __init__(self, redis: Redis) -> None:
        """Use `redis` for everything."""
        self._redis = redis
        self._overview = queue.script(redis, "lanes.lua", "overview.lua")
        self._position = queue.script(redis, "lanes.lua", "position.lua")
        self._recount = queue.script(redis, "recount.lua")

    async def overview(self, pool: str, kinds: Sequence[str]) -> Overview:
        """Return how the queue of a pool that runs `kinds` stands."""
        now_ms = int(time.time() * 1000)
        name = queue.name(pool)
        waiting, deferred, running, oldest_ms, interactive, batch, stats, control, told, took = await self._overview(
            [name], [queue.base(name), now_ms, _SILENCE_MS, *kinds]
        )
        done, failed, returned = (float(number) for number in stats)
        return Overview(
            waiting=waiting,
            lanes={"interactive": interactive, "batch": batch},
            deferred=deferred,
            running=running,
            oldest_s=None if oldest_ms < 0 else max(0.0, (now_ms - oldest_ms) / 1000),
            done=done,
            failed=failed,
            returned=returned,
            control=_control(control),
            workers=[msgspec.msgpack.decode(worker, type=Living) for worker in told if worker],
            took_s={kind: [int(ms) / 1000 for ms in times] for kind, times in zip(kinds, took, strict=True)},
        )

    async def place(self, pool: str, job_id: UUID) -> Place | None:
        """Return where a job waits, or None when it does not: it runs, is not due yet, or is not there."""
        return (await self.places(pool, [job_id]))[0]

    async def places(self, pool: str, job_ids: Sequence[UUID]) -> list[Place | None]:
        """Return where jobs wait, at most a thousand in one call; None stands for those that do not."""
        name = queue.name(pool)
        return read(await self._position([name], [queue.base(name), *(str(job_id) for job_id in job_ids)]))

    def add_places(self, pipe: Any, pool: str, job_ids: Sequence[str]) -> None:
        """Add to a pipeline what `places` asks, as one command; `read` understands its answer."""
        script: Any = self._position
        pipe.scripts.add(script)
        name = queue.name(pool)
        pipe.evalsha(script.sha, 1, name, queue.base(name), *job_ids)

    async def recount(self, pool: str) -> None:
        """Count a pool's running jobs anew, for its caps: Redis may have come back with an older count."""
        name = queue.name(pool)
        await self._recount([name], [queue.base(name)])

    async def controlled(self, pool: str) -> Control:
        """Return what a pool's workers have been told."""
        redis: Any = self._redis
        told: dict[bytes, bytes] = await redis.hgetall(f"{queue.base(queue.name(pool))}control")
        return _control(list(itertools.chain.from_iterable(told.items())))

    async def control(self, pool: str, wanted: Control) -> None:
        """Tell a pool's workers what operators want; they follow within seconds, and a resumed pool at once."""
        base = queue.base(queue.name(pool))
        fields: Mapping[str, int] = {
            **({"paused": 1} if wanted.paused else {}),
            **({} if wanted.slots is None else {"slots": wanted.slots}),
            **({} if wanted.account_cap is None else {"account_cap": wanted.account_cap}),
            **{f"kind:{kind}": cap for kind, cap in wanted.kind_caps.items()},
        }
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(f"{base}control")
            if fields:
                pipe.hset(f"{base}control", mapping=dict(fields))  # pyright: ignore[reportUnknownMemberType]
            pipe.delete(f"{base}wake")
            pipe.lpush(f"{base}wake", 1)
            await pipe.execute()


def _control(flat: Sequence[bytes]) -> Control:
    said = {flat[i].decode(): int(flat[i + 1]) for i in range(0, len(flat), 2)}
    return Control(
        paused=said.get("paused") == 1,
        slots=said.get("slots"),
        account_cap=said.get("account_cap"),
        kind_caps={name.removeprefix("kind:"): cap for name, cap in said.items() if name.startswith("kind:")},
    )


# As position.lua tells them: before, of the account, in the other lane, running, of the account, of the kind, the lane.
type _Told = tuple[int, int, int, int, int, int, Lane]
_PLACES = msgspec.msgpack.Decoder(list[_Told | Literal[False]])


def read(told: bytes) -> list[Place | None]:
    """Return the places that a pipeline's answer tells; None stands for jobs that do not wait."""
    return [_place(each) if each else None for each in _PLACES.decode(told)]


def _place(told: _Told) -> Place:
    before, own, other, running, account_running, kind_running, lane = told
    return Place(
        lane=lane,
        before=before,
        before_of_account=own,
        other_lane=other,
        running=running,
        account_running=account_running,
        kind_running=kind_running,
    )
