"""`python -m workers webhooks`: spreads messages, claims deliveries and sends them, until it is told to stop.

Any number may run. Nothing is kept here that is not in the database: what a process has under way when it dies is due
again after its lease.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import structlog

from infra import backoff, fetch
from infra import redis as road
from infra.coalesce import Coalescer
from infra.database import DatabaseUnavailable
from infra.fetch import Fetcher
from infra.ground import Ground
from infra.seal import Seal
from workers.webhooks import claiming, outcomes, sending, spreading
from workers.webhooks.claiming import Claimed
from workers.webhooks.sending import Clock, Tried
from workers.webhooks.signing import Key

log = structlog.stdlib.get_logger()

#: There while a process delivers webhooks.
ALIVE = "pulse:webhooks"
_SILENCE_S = 30
_LIVE_EVERY_S = 5.0
# How long it sleeps where nothing is to be done.
IDLE_S = 0.5
_MOST_AT_ONCE = 200
_LONGEST_WAIT_S = 5.0


async def deliver(ground: Ground, stopped: asyncio.Event, *, clock: Clock = time.time) -> None:
    """Deliver webhooks until `stopped`; what is under way then has the grace to end, and is given back after it."""
    async with Fetcher(fetch.webhooks(ground.settings)) as fetcher:
        await Deliverer(ground, fetcher, stopped, clock).run()


class Deliverer:
    """What one process has under way."""

    def __init__(self, ground: Ground, fetcher: Fetcher, stopped: asyncio.Event, clock: Clock) -> None:
        """Begin with nothing; `clock` dates the tries."""
        self._ground = ground
        self._fetcher = fetcher
        self._stopped = stopped
        self._clock = clock
        self._seal = Seal(ground.settings.secret)
        self._slots = ground.settings.webhook_slots
        self._under_way: dict[asyncio.Task[None], Claimed] = {}
        self._stir = asyncio.Event()
        self._outcomes = Coalescer(self._write, most=_MOST_AT_ONCE, passing=(DatabaseUnavailable,))

    async def run(self) -> None:
        """Deliver until stopped, then leave in order."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._again(self._spread, asyncio.Event()))
            loops.create_task(self._again(self._claim, self._stir))
            loops.create_task(self._again(self._live_on, asyncio.Event(), _LIVE_EVERY_S))
        await self._leave()

    async def _again(self, deed: Callable[[], Awaitable[bool]], stir: asyncio.Event, every_s: float = 0) -> None:
        """Do something over and over until stopped: at once where it had something to do, else after a while.

        `stir` ends that while early. What goes wrong is told and tried again, later every time.
        """
        failures = 0
        while not self._stopped.is_set():
            stir.clear()
            wait_s = every_s or IDLE_S
            try:
                if await deed():
                    wait_s = 0.0
                failures = 0
            except (DatabaseUnavailable, *road.AWAY) as error:
                failures += 1
                log.warning("cannot deliver webhooks now", reason=str(error))
            except Exception:
                failures += 1
                log.exception("cannot deliver webhooks now")
            if failures:
                wait_s = IDLE_S + backoff.wait_s(failures, base_s=IDLE_S, most_s=_LONGEST_WAIT_S)
            if wait_s:
                await _either(self._stopped, stir, within_s=wait_s)

    async def _spread(self) -> bool:
        if await spreading.spread(self._ground) == 0:
            return False
        self._stir.set()
        return True

    async def _claim(self) -> bool:
        if len(self._under_way) >= self._slots:
            return False
        claims = await claiming.claim(self._ground, self._seal, list(self._under_way.values()), self._slots)
        for delivery in claims.deliveries:
            task = asyncio.create_task(self._deliver(delivery, claims.keys.get(delivery.target, ())))
            self._under_way[task] = delivery
            task.add_done_callback(self._over)
        return claims.stirred

    def _over(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        self._stir.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a webhook was not delivered", exc_info=error)

    async def _deliver(self, delivery: Claimed, keys: Sequence[Key]) -> None:
        within_s = self._ground.settings.webhook_timeout_s
        tried = await sending.send(self._fetcher, delivery, keys, within_s=within_s, clock=self._clock)
        failures = 0
        while True:
            try:
                ours = await self._outcomes.ask(tried)
                break
            except DatabaseUnavailable:
                failures += 1
                await asyncio.sleep(backoff.wait_s(failures, base_s=IDLE_S, most_s=_LONGEST_WAIT_S))
        log.info(
            "a webhook was delivered" if tried.taken else "a webhook was not taken",
            delivery=str(delivery.id),
            tries=delivery.tries,
            status=tried.status,
            code=tried.code,
            took_ms=tried.took_ms,
            **({} if ours else {"late": True}),
        )

    async def _write(self, tried: Sequence[Tried]) -> Sequence[bool]:
        return await outcomes.write(self._ground, tried)

    async def _live_on(self) -> bool:
        await self._ground.redis.set(ALIVE, 1, ex=_SILENCE_S)
        return False

    async def _leave(self) -> None:
        """Let what is under way end within the grace, and give the rest back."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=self._ground.settings.grace_s)
        left = dict(self._under_way)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if left:
            log.info("webhooks are given back", deliveries=len(left))
            with suppress(DatabaseUnavailable):  # then their leases run out
                await outcomes.give_back(self._ground, list(left.values()))


async def _either(*events: asyncio.Event, within_s: float) -> None:
    """Wait for one of the events, for so long at most."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
