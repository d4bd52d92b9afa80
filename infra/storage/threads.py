"""Runs what blocks, of a store: in a bounded number of threads, and never half."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from infra.storage import StorageUnavailable
from infra.whole import whole


class Threads:
    """The threads of one store; they start when they are needed."""

    def __init__(self, count: int) -> None:
        """Use at most `count`; what comes meanwhile waits for its turn."""
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="storage")

    async def do[T](self, function: Callable[..., T], *arguments: Any) -> T:
        """Return what `function` returns. A cancel waits for its end, so that nobody cleans up under its hands.

        Raises `StorageUnavailable` for every `OSError`: no room, no permission, a disk that fails.
        """
        try:
            return await whole(self._run(partial(function, *arguments)))
        except OSError as error:
            raise StorageUnavailable from error

    async def _run[T](self, deed: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, deed)

    def close(self) -> None:
        """Take no more."""
        self._pool.shutdown(wait=False)
