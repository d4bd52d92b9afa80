"""One process's way to the lifecycle: what its jobs or requests ask at the same time goes in one statement each."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Literal
from uuid import UUID

import msgspec

from infra import backoff
from infra import redis as road
from infra.breaker import Breaker
from infra.coalesce import Coalescer
from infra.database import DatabaseUnavailable
from infra.errors import PulseError
from infra.ground import Ground
from infra.overview import Place
from quotas.ledger import QuotaExceeded
from workers import lifecycle
from workers.context import LostLease
from workers.files import attached
from workers.lifecycle import Attempt, Backlog, End, Ended, Kept, Ready, Return, Submission, Submitted, TooManyQueued

_MOST_AT_ONCE = 200
# How long after it was asked a submission is asked again.
_PATIENCE_S = 3.0
# How long those who submit wait for a queue that hangs, and for how long nobody waits for it after that: they are one
# flush behind the other.
_QUEUE_PATIENCE_S, _QUEUE_REST_S = 1.0, 1.0


class Desk:
    """Asks the lifecycle for many at once. Every call raises `DatabaseUnavailable`; it may be asked again then."""

    def __init__(self, ground: Ground) -> None:
        """Start with nothing to do."""
        self._ground = ground
        self._backlog = Backlog(ground.database, ground.settings.account_queued, time.monotonic)
        self._files = _coalescer(partial(attached.look_up, ground))
        self._admissions = _coalescer(self._admit_all)
        self._announcements = _coalescer(self._announce)
        self._queue = Breaker("the queue", patience_s=_QUEUE_PATIENCE_S, rest_s=_QUEUE_REST_S, passing=road.AWAY)
        self._claims = _coalescer(self._claim_all)
        self._keeps = _coalescer(partial(lifecycle.keep, ground))
        self._returns = _coalescer(partial(lifecycle.give_back, ground))
        self._ends = _coalescer(partial(lifecycle.finish, ground))

    async def submit(self, submission: Submission) -> Submitted:
        """Admit a job; raises the fact that refuses it.

        While it is unknown whether it was admitted it is asked again, for a few seconds: by the submission's id. One
        that the quota does not allow becomes what it may be instead, where it leaves that to the studio.
        """
        if wanted := submission.request.file_ids():
            files = await self._files.ask((submission.account.id, wanted))
            submission = msgspec.structs.replace(submission, files=files)
        ready = lifecycle.prepare(self._ground, submission)
        if ready.refusal is not None and not ready.is_named:
            raise ready.refusal
        answer, announced = await self._admissions.put((ready, asyncio.get_running_loop().time()))
        while isinstance(answer, QuotaExceeded):
            less = lifecycle.cheaper(self._ground, ready, answer)
            if less is None:
                break
            ready = less
            answer, announced = await self._admissions.put((ready, asyncio.get_running_loop().time()))
        if isinstance(answer, PulseError):
            raise answer
        if announced is not None and (place := await announced) is not None:
            return msgspec.structs.replace(answer, place=place)
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
        self, asked: Sequence[tuple[Ready, float]]
    ) -> list[tuple[Submitted | PulseError, "asyncio.Future[Place | None] | None"]]:
        """Admit, and announce what is new whether or not its caller waits: one that has left has a job all the same."""
        until = min(asked_at for _, asked_at in asked) + _PATIENCE_S
        readies = [ready for ready, _ in asked]
        answers = await self._admit(readies, until)
        # Places that were taken for what was there before are there for others now.
        again = [n for n, answer in enumerate(answers) if self._has_room_after_all(readies[n], answer)]
        try:
            told = await self._admit([readies[n] for n in again], until)
        except DatabaseUnavailable as error:
            told = [error] * len(again)  # the others are answered all the same
        for n, answer in zip(again, told, strict=True):
            answers[n] = answer
        return [
            (answer, self._announcements.put(answer) if isinstance(answer, Submitted) and not answer.known else None)
            for answer in answers
        ]

    async def _admit(self, readies: Sequence[Ready], until: float) -> list[Submitted | PulseError]:
        if not readies:
            return []
        placed = await _insist(lambda: self._backlog.within(readies), until)
        try:
            answers = await _insist(lambda: lifecycle.admit_ready(self._ground, placed), until)
        except BaseException:
            self._backlog.forget(placed)
            raise
        self._backlog.settle(placed, answers)
        return answers

    def _has_room_after_all(self, ready: Ready, answer: Submitted | PulseError) -> bool:
        return isinstance(answer, TooManyQueued) and self._backlog.has_room(ready)

    async def _announce(self, admitted: Sequence[Submitted]) -> list[Place | None]:
        """Announce; what cannot be announced now the tender brings to the queue."""
        told = await self._queue.ask(lambda: lifecycle.announce(self._ground, admitted))
        return [None] * len(admitted) if told is None else told

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


async def _insist[Answer](deed: Callable[[], Awaitable[Answer]], until: float) -> Answer:
    """Return what a deed returns that may be done twice, while the database is away until a moment of the loop's."""
    failures = 0
    while True:
        try:
            return await deed()
        except DatabaseUnavailable:
            failures += 1
            wait_s = backoff.wait_s(failures, base_s=0.05, most_s=0.5)
            if asyncio.get_running_loop().time() + wait_s > until:
                raise
            await asyncio.sleep(wait_s)


def _coalescer[Item, Answer](
    flush: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
) -> Coalescer[Item, Answer]:
    return Coalescer(flush, most=_MOST_AT_ONCE, passing=(DatabaseUnavailable,))
