"""An event loop in which only what is waited for passes, and at once: a minute's wait costs nothing."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Selector(selectors.DefaultSelector):
    """Never waits; counts what it was asked to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.passed_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits, and for nothing"
        found = super().select(0)
        if not found:
            self.passed_s += max(0.0, timeout)
        return found


class HastyLoop(asyncio.SelectorEventLoop):
    """The loop."""

    def __init__(self) -> None:
        """Start at zero."""
        self._passing = _Selector()
        super().__init__(self._passing)

    def time(self) -> float:
        """Return the seconds that were waited so far."""
        return self._passing.passed_s


def hastily[T](deed: Coroutine[Any, Any, T]) -> T:
    """Return what `deed` returns, which touches no server; nothing that it started may be left."""
    with asyncio.Runner(loop_factory=HastyLoop) as runner:
        return runner.run(_alone(deed))


async def _alone[T](deed: Coroutine[Any, Any, T]) -> T:
    try:
        return await deed
    finally:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"these were left behind: {left}"
