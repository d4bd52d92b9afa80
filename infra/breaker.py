"""Gives up for a while on what does not answer, so that a server that hangs does not delay every request."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

log = structlog.stdlib.get_logger()
# A loop that is itself late may find the answer there only when its time is over: it is late once a part at most.
_PARTS = 5


class Breaker:
    """Asks with patience, and not at all for a moment after an answer that did not come."""

    def __init__(self, what: str, *, patience_s: float, rest_s: float, passing: tuple[type[Exception], ...]) -> None:
        """Wait `patience_s` seconds for an answer; let what fails with one of `passing` rest for `rest_s` seconds.

        `what` is asked is told to the operator then.
        """
        self._what = what
        self._part_s = patience_s / _PARTS
        self._rest_s = rest_s
        self._passing = passing
        self._rests_until = 0.0

    async def ask[Answer](self, question: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer | None:
        """Return the answer to `question`, or None when there is none to be had in time."""
        if asyncio.get_running_loop().time() < self._rests_until:
            return None
        asked = asyncio.create_task(question())
        try:
            for _ in range(_PARTS):
                if (await asyncio.wait({asked}, timeout=self._part_s))[0]:
                    return asked.result()
            self._rest("it takes too long")
        except self._passing as error:
            self._rest(repr(error))
        finally:
            asked.cancel()
        return None

    def _rest(self, reason: str) -> None:
        log.warning("no answer, so nobody is asked for a moment", what=self._what, reason=reason)
        self._rests_until = asyncio.get_running_loop().time() + self._rest_s
