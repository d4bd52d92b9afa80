"""Keeps a worker's leases alive, from a thread and a connection of its own: a room may hold the event loop for long."""

import threading
from collections.abc import Callable, Collection

import structlog
from redis import Redis
from redis.exceptions import RedisError

from infra import queue

log = structlog.stdlib.get_logger()


class Keeper:
    """Renews every lease three times before it could run out."""

    def __init__(
        self,
        redis: Redis,
        queue_name: str,
        worker: str,
        lease_s: float,
        *,
        held: Callable[[], Collection[str]],
        lost: Callable[[list[str]], None],
    ) -> None:
        """Renew what `held` names, and tell `lost` (from the thread) what another worker has taken."""
        self._renew = queue.Renewer(redis, queue_name, worker, lease_s)
        self._redis = redis
        self._every_s = lease_s / 3
        self._held = held
        self._lost = lost
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="leases", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for it."""
        self._stop.set()
        self._thread.join()
        self._redis.close()

    def _keep(self) -> None:
        while not self._stop.wait(self._every_s):
            held = list(self._held())
            if not held:
                continue
            try:
                lost = self._renew(held)
            except (RedisError, OSError) as error:
                # Redis away: nobody else can claim either, and the leases are renewed when it is back.
                log.warning("leases not renewed", reason=str(error))
                continue
            if lost:
                self._lost(lost)
