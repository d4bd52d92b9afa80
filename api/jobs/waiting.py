"""Calls that are held until a job is as they want it, and no longer than their client stays."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

from litestar import Request

from api import departure
from infra.errors import PulseError
from infra.hub import Hub

# Whatever the hub says or misses (Redis may be away), a job is looked at this often.
_LOOK_S = 2.0
# A job that talks without pause is looked at no more often than after this share of the time that was waited already:
# as often as it matters for a short one, and seldom for a long one.
_SHARE = 0.05
_SHORTEST_S, _LONGEST_S = 0.01, 0.25


class InvalidWait(PulseError):
    """{field} must be a whole number of seconds, 0 or more."""

    ar = "يجب أن تكون قيمة {field} عددًا صحيحًا من الثواني، صفرًا أو أكثر."
    status = 400


def wait_s(text: str | None, most_s: int) -> int:
    """Read how long a call may be held, in seconds, `most_s` at most; raises `InvalidWait`."""
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit()):
        raise InvalidWait(field="wait")
    return min(int(text), most_s) if len(text) <= 9 else most_s


async def hold[Seen](
    request: Request[Any, Any, Any],
    hub: Hub,
    job_id: UUID,
    seconds: float,
    look: Callable[[], Awaitable[Seen]],
    is_enough: Callable[[Seen], bool],
) -> Seen | None:
    """Look at a job whenever it may have changed, until that is enough, and return what was seen last.

    At the latest that is so after `seconds`, or when the process goes down. None: the client has left.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    with hub.watch(job_id) as poke:
        gone = asyncio.create_task(departure.left(request.receive))
        gone.add_done_callback(lambda _: poke.set())
        try:
            while True:
                poke.clear()
                looked = loop.time()
                seen = await look()
                left = began + seconds - loop.time()
                if is_enough(seen) or left <= 0 or hub.closed:
                    return seen
                with suppress(TimeoutError):
                    await asyncio.wait_for(poke.wait(), min(left, _LOOK_S))
                if gone.done():
                    return None
                pause = min(max((looked - began) * _SHARE, _SHORTEST_S), _LONGEST_S, left)
                if (early := looked + pause - loop.time()) > 0:
                    await asyncio.sleep(early)
        finally:
            gone.cancel()
            await asyncio.wait([gone])
