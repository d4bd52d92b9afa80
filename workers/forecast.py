"""What a waiting job is told of its turn: its place in the queue, seen against how its pool stands."""

import asyncio
from collections.abc import Sequence
from functools import partial
from uuid import UUID

from infra import redis as road
from infra.breaker import Breaker
from infra.coalesce import Coalescer
from infra.ground import Ground
from infra.models import Job
from infra.overview import Place
from workers import pools
from workers.eta import Outlook, Pace
from workers.lifecycle import Admitted

# How a pool stands is looked at so often at most, however many ask.
_FRESH_S = 1.0
# How long an answer waits for a Redis that hangs, and for how long none does after that.
_PATIENCE_S, _REST_S = 1.0, 1.0
_MOST_AT_ONCE = 200


class Forecasts:
    """Forecasts of one process: what many ask at the same time of a pool is one call."""

    def __init__(self, ground: Ground) -> None:
        """Look at the queues of `ground`."""
        self._ground = ground
        self._seen: dict[str, tuple[float, Pace]] = {}
        self._breaker = Breaker("forecasts", patience_s=_PATIENCE_S, rest_s=_REST_S, passing=road.AWAY)
        self._places = {
            pool: Coalescer[UUID, tuple[Place | None, Pace]](
                partial(self._look, pool), most=_MOST_AT_ONCE, passing=(TimeoutError, *road.AWAY)
            )
            for pool in pools.POOLS
        }

    async def of(self, job: Job | Admitted, place: Place | None = None) -> Outlook | None:
        """Return a waiting job's outlook; None when it does not wait, is not due yet, or nobody can tell now.

        `place` is where it waits, for who knows that already.
        """
        if job.state != "queued":
            return None
        try:
            pool = pools.of(job.kind)
            if place is None or (pace := self._fresh(pool)) is None:
                place, pace = await self._places[pool].put(job.id)
        except (KeyError, *road.AWAY):  # a kind that only another build knows, or a Redis that is away
            return None
        return None if place is None else pace.outlook(place, job.kind, self._ground.settings.account_cap)

    async def _look(self, pool: str, job_ids: Sequence[UUID]) -> list[tuple[Place | None, Pace]]:
        told = await self._breaker.ask(partial(self._look_up, pool, job_ids))
        if told is None:
            raise TimeoutError
        return told

    async def _look_up(self, pool: str, job_ids: Sequence[UUID]) -> list[tuple[Place | None, Pace]]:
        pace = await self._pace(pool)
        return [(place, pace) for place in await self._ground.overseer.places(pool, job_ids)]

    def _fresh(self, pool: str) -> Pace | None:
        seen = self._seen.get(pool)
        return seen[1] if seen is not None and asyncio.get_running_loop().time() - seen[0] <= _FRESH_S else None

    async def _pace(self, pool: str) -> Pace:
        pace = self._fresh(pool)
        if pace is None:
            now = asyncio.get_running_loop().time()
            pace = Pace(await self._ground.overseer.overview(pool, pools.POOLS[pool]))
            self._seen[pool] = (now, pace)
        return pace
