"""One process's way to the lifecycle: what its jobs or requests ask at the same time goes in one statement each."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Literal
from uuid import UUID

from infra.coalesce import Coalescer
from infra.database import DatabaseUnavailable
from infra.errors import PulseError
from infra.ground import Ground
from workers import lifecycle
from workers.context import LostLease
from workers.lifecycle import Attempt, End, Ended, Kept, Return, Submission, Submitted

_MOST_AT_ONCE = 200


class Desk:
    """Asks the lifecycle for many at once. Every call raises `DatabaseUnavailable`; it may be asked again then."""

    def __init__(self, ground: Ground) -> None:
        """Start with nothing to do."""
        self._ground = ground
        self._admissions = _coalescer(self._admit_all)
        self._announcements = _coalescer(partial(lifecycle.announce, ground))
        self._claims = _coalescer(self._claim_all)
        self._keeps = _coalescer(partial(lifecycle.keep, ground))
        self._returns = _coalescer(partial(lifecycle.give_back, ground))
        self._ends = _coalescer(partial(lifecycle.finish, ground))

    async def submit(self, submission: Submission) -> Submitted:
        """Admit a job; raises the fact that refuses it."""
        answer, announced = await self._admissions.ask(submission)
        if isinstance(answer, PulseError):
            raise answer
        if announced is not None:
            await announced
        return answer

    async def claim(self, job_id: UUID) -> Attempt | None:
        """Take a job for a new attempt; None when it is over. Raises `LostLease`."""
        attempt = await self._claims.ask((job_id, asyncio.get_running_loop().time()))
        if isinstance(attempt, LostLease):
            raise attempt
        return attempt

    async def keep(self, kept: Kept) -> Literal["runs", "canceled", "lost"]:
        """Keep what a running attempt has used and made; tells what its job is to do."""
        return await self._keeps.ask(kept)

    async def give_back(self, returned: Return) -> bool:
        """Give a running job back to the queue; False when the attempt has lost it."""
        return await self._returns.ask(returned)

    async def finish(self, end: End) -> Ended | None:
        """End a job; None when the attempt no longer has it."""
        return await self._ends.ask(end)

    async def _admit_all(
        self, submissions: Sequence[Submission]
    ) -> list[tuple[Submitted | PulseError, "asyncio.Future[None] | None"]]:
        """Admit, and announce what is new whether or not its caller waits: one that has left has a job all the same."""
        return [
            (answer, self._announcements.put(answer) if isinstance(answer, Submitted) and not answer.known else None)
            for answer in await lifecycle.admit(self._ground, submissions)
        ]

    async def _claim_all(self, claims: Sequence[tuple[UUID, float]]) -> list[Attempt | LostLease | None]:
        """Claim what was asked for within a lease: the lease of an older one may be somebody else's by now.

        A job that is asked for twice was lost and won again in between, so its second claim is another attempt.
        """
        since = asyncio.get_running_loop().time() - self._ground.settings.lease_s
        answers: list[Attempt | LostLease | None] = [LostLease() for _ in claims]
        waiting = {place: job_id for place, (job_id, asked_at) in enumerate(claims) if asked_at >= since}
        while waiting:
            once = {job_id: place for place, job_id in reversed(waiting.items())}
            for place, attempt in zip(once.values(), await lifecycle.claim(self._ground, list(once)), strict=True):
                answers[place] = attempt
                del waiting[place]
        return answers


def _coalescer[Item, Answer](
    flush: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
) -> Coalescer[Item, Answer]:
    return Coalescer(flush, most=_MOST_AT_ONCE, passing=(DatabaseUnavailable,))
