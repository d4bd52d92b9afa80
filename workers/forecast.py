"""What a waiting job is told of its turn: its place in the queue, seen against how its pool stands."""

import asyncio

from infra import redis as road
from infra.ground import Ground
from infra.models import Job
from infra.overview import Overview
from workers import eta, pools
from workers.eta import Outlook
from workers.lifecycle import Admitted

# How a pool stands is looked at so often at most, however many ask.
_FRESH_S = 1.0
# How long an answer waits for a Redis that hangs.
_PATIENCE_S = 1.0


class Forecasts:
    """Forecasts of one process."""

    def __init__(self, ground: Ground) -> None:
        """Look at the queues of `ground`."""
        self._ground = ground
        self._seen: dict[str, tuple[float, Overview]] = {}

    async def of(self, job: Job | Admitted) -> Outlook | None:
        """Return a waiting job's outlook; None when it does not wait, is not due yet, or nobody can tell now."""
        if job.state != "queued":
            return None
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await self._look(pools.of(job.kind), job)
        except (KeyError, *road.AWAY):  # a kind that only another build knows, or a Redis that is away
            return None

    async def _look(self, pool: str, job: Job | Admitted) -> Outlook | None:
        place = await self._ground.overseer.place(pool, job.id)
        if place is None:
            return None
        return eta.outlook(place, await self._overview(pool), job.kind, self._ground.settings.account_cap)

    async def _overview(self, pool: str) -> Overview:
        now = asyncio.get_running_loop().time()
        seen_at, overview = self._seen.get(pool, (0.0, None))
        if overview is None or now - seen_at > _FRESH_S:
            overview = await self._ground.overseer.overview(pool, pools.POOLS[pool])
            self._seen[pool] = (now, overview)
        return overview
