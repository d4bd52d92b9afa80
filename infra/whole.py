"""What a cancel may not cut short."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def whole[T](deed: Coroutine[Any, Any, T]) -> T:
    """Await `deed` to its end; a cancel that comes meanwhile goes on afterwards."""
    task = asyncio.create_task(deed)
    canceled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            canceled = error
    if canceled is not None:
        raise canceled
    return task.result()
