"""One timer for all the waits of a stream: `asyncio.timeout` sets one for each, which costs as much as a chunk."""

import asyncio
from collections.abc import Awaitable


class Alarm:
    """Ends a wait that lasts too long; one wait at a time, and `stop` after the last."""

    def __init__(self) -> None:
        """Wait for nothing yet."""
        self._clock = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Task[object] | None = None
        self._due = 0.0
        self._rang = False

    async def wait[Found](self, coming: Awaitable[Found], due: float) -> Found:
        """Return what comes; raises `TimeoutError` when that has not come by `due`, in the loop's time."""
        task = asyncio.current_task()
        assert task is not None, "whatever is awaited is awaited by a task"
        cancels = task.cancelling()
        self._due, self._waiting = due, task
        if self._timer is None or due < self._timer.when():
            self._set()
        try:
            return await coming
        except BaseException:
            if self._rang:
                self._rang = False
                if task.uncancel() <= cancels:  # else somebody else stops the task as well
                    raise TimeoutError from None
            raise
        finally:
            self._waiting = None
            if self._rang:  # it came all the same
                self._rang = False
                task.uncancel()

    def stop(self) -> None:
        """Forget the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self) -> None:
        self.stop()
        self._timer = self._clock.call_at(self._due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._waiting is None:
            return
        if self._clock.time() < self._due:  # it was set for an earlier wait
            self._set()
            return
        self._rang = True
        self._waiting.cancel()
