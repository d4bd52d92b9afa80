"""Keeps a worker's leases alive, from a thread and a connection of its own: a room may hold the event loop for long."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable

import structlog
from redis import Redis
from redis.exceptions import RedisError

from infra import queue

log = structlog.stdlib.get_logger()


class Leases:
    """The jobs that a worker holds, each renewed at least three times before its lease could run out."""

    def __init__(
        self,
        redis: Redis,
        queue_name: str,
        worker: str,
        lease_s: float,
        *,
        describe: Callable[[], bytes],
        on_answer: Callable[[int | None, list[str]], None],
    ) -> None:
        """Tell operators what `describe` says with every renewal, and `on_answer`, in the loop, what they answer:

        the slots that they give this worker, and the jobs that another worker has taken.
        """
        self._renew = queue.Renewer(redis, queue_name, worker, lease_s)
        self._redis = redis
        self._every_s = queue.renew_every_s(lease_s)
        self._describe = describe
        self._on_answer = on_answer
        self._held: set[str] = set()
        self._lock = threading.Lock()
        self._renewing = False
        self._renewed = asyncio.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="leases", daemon=True)

    @property
    def heard_ms(self) -> int:
        """When the last renewal was heard (`Consumer.claim` wants to know it)."""
        return self._renew.heard_ms

    def start(self) -> None:
        """Begin, at once: the first renewal makes the worker known."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for it."""
        self._stop.set()
        self._thread.join()
        self._redis.close()

    def hold(self, job_ids: Iterable[str]) -> None:
        """Renew these from now on."""
        with self._lock:
            self._held.update(job_ids)

    async def release(self, job_ids: Iterable[str]) -> None:
        """Renew these no more. A renewal under way is waited for: after the job's end, it would bring it back."""
        while not self._released(job_ids):
            await self._renewed.wait()

    def _released(self, job_ids: Iterable[str]) -> bool:
        with self._lock:
            if self._renewing:
                return False
            self._held.difference_update(job_ids)
            return True

    def _keep(self) -> None:
        while True:
            with self._lock:
                held = list(self._held)
                self._renewing = True
                self._renewed.clear()
            try:
                answer = self._renew(held, self._describe())
            except (RedisError, OSError) as error:
                # Redis away: nobody else can claim either, and the leases are renewed when it is back. By a new
                # connection: this one may lead to a server that is no primary any more.
                log.warning("leases not renewed", reason=str(error))
                self._redis.connection_pool.disconnect()
                answer = None
            except Exception:
                log.exception("leases not renewed")  # whatever it is, a heart that stops gives all jobs away
                answer = None
            with self._lock:
                self._renewing = False
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                self._loop.call_soon_threadsafe(self._tell, answer)
            # While Redis is away it is looked for more often: nobody may claim before all have renewed.
            if self._stop.wait(self._every_s if answer is not None else self._every_s / 4):
                return

    def _tell(self, answer: tuple[int | None, list[str]] | None) -> None:
        with self._lock:
            if not self._renewing:  # it may be the one before that we hear of, late
                self._renewed.set()
        if answer is not None:
            self._on_answer(*answer)
