"""The real books and the true ones, side by side: every deed is done to both."""

import asyncio
import copy
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import text

from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Account
from quotas import accounts
from tests.money.look import look
from tests.money.truth import Job, Truth
from tests.money.work import Work
from workers import lifecycle
from workers.jobs import JobNotFound
from workers.lifecycle import End, Ended, Kept, Return, Submission, Submitted

METERS = ("documents", "images", "storage_bytes")
#: What a deed has to say of the truth, once it is done.
type Verdict = Callable[[Truth], None]


class World:
    """Accounts on a ground that is this world's own, and the truth of them."""

    def __init__(self, ground: Ground) -> None:
        """Begin with nothing; `begin` makes the accounts."""
        self._ground = ground
        self.accounts: list[Account] = []
        self.truth = Truth()
        #: What was asked, to be asked again.
        self.submissions: list[Submission] = []
        self._periods = 0

    async def begin(self, count: int, storage_bytes: int) -> None:
        """Make accounts whose level meter is as small as the others."""
        self.truth, self.submissions = Truth(), []
        async with self._ground.database.begin() as session:
            for table in ("ledger_entries", "holds", "unique_jobs", "idempotency_keys", "jobs", "balances", "accounts"):
                await session.execute(text(f"DELETE FROM {table}"))
            self.accounts = [await accounts.create(session, f"a{n}@example.com") for n in range(count)]
        for account in self.accounts:
            await self.grant(account, "storage_bytes", storage_bytes)

    async def look(self) -> None:
        """Fail unless both are the same."""
        async with self._ground.database.begin() as session:
            await look(session, self.truth)

    def jobs(self, *states: str) -> list[Job]:
        """Return the jobs in these states, or all, oldest first."""
        return [job for job in self.truth.jobs.values() if not states or job.state in states]

    async def admit(self, asked: Sequence[Submission]) -> Verdict:
        """Submit jobs in one flush."""
        self.submissions += [each for each in asked if each not in self.submissions]
        return _admitted(asked, await lifecycle.admit(self._ground, asked))

    async def finish(self, ends: Sequence[End]) -> Verdict:
        """End jobs in one flush."""
        answers = await lifecycle.finish(self._ground, ends)

        def judge(truth: Truth) -> None:
            for end, answer in zip(ends, answers, strict=True):
                _finish(truth, end, answer)

        return judge

    async def claim(self, job_ids: Sequence[UUID]) -> Verdict:
        """Claim jobs in one flush."""
        answers = await lifecycle.claim(self._ground, job_ids)

        def judge(truth: Truth) -> None:
            for job_id, attempt in zip(job_ids, answers, strict=True):
                job = truth.jobs[job_id]
                assert truth.claim(job) == (attempt is not None)
                assert attempt is None or (attempt.id, attempt.attempt, attempt.tries) == (
                    job_id,
                    job.attempt,
                    job.tries,
                )

        return judge

    async def keep(self, kept: Kept) -> Verdict:
        """Keep what an attempt has used."""
        (told,) = await lifecycle.keep(self._ground, [kept])

        def judge(truth: Truth) -> None:
            job = truth.jobs[kept.job_id]
            if job.state != "running" or job.attempt != kept.attempt:
                assert told == "lost"
                return
            assert told == ("canceled" if job.cancelled else "runs")
            job.kept = kept.used if kept.used is not None else job.kept

        return judge

    async def give_back(self, back: Return) -> Verdict:
        """Give a job back."""
        (told,) = await lifecycle.give_back(self._ground, [back])

        def judge(truth: Truth) -> None:
            job = truth.jobs[back.job_id]
            has_it = job.state in {"queued", "running"} and job.attempt == back.attempt
            assert told == has_it
            if has_it and job.state == "running":
                job.state = "queued"
                job.tries += back.failed
                kept = None if back.failed else job.kept
                job.kept = kept if back.used is None else back.used

        return judge

    async def cancel(self, account: Account, job_id: UUID) -> Verdict:
        """Cancel a job, as an account that may be another one's."""
        owner = self.truth.jobs[job_id].account_id
        try:
            told = await lifecycle.cancel(self._ground, account.id, job_id)
        except JobNotFound:
            assert account.id != owner
            return lambda _truth: None
        assert account.id == owner

        def judge(truth: Truth) -> None:
            job = truth.jobs[job_id]
            truth.cancel(job)
            assert told.state == job.state

        return judge

    async def close(self, job_id: UUID) -> Verdict:
        """End a job that nobody runs."""
        await lifecycle.close(self._ground, job_id)
        return lambda truth: truth.close(truth.jobs[job_id])

    async def expire(self, job_ids: Sequence[UUID]) -> Verdict:
        """Let the time pass until which jobs were to be started, and end those that were not."""
        await self._write("UPDATE jobs SET start_by = now() - interval '1 s' WHERE id = ANY(:ids)", ids=list(job_ids))
        for job_id in job_ids:
            self.truth.jobs[job_id].timely = False
        await lifecycle.expire(self._ground)
        return Truth.expire

    async def together(self, one: Coroutine[Any, Any, Verdict], other: Coroutine[Any, Any, Verdict]) -> None:
        """Do two deeds at the same time: what comes of it is what comes of one after the other, whichever is first."""
        first, second = await asyncio.gather(one, other)
        before = copy.deepcopy(self.truth)
        try:
            first(self.truth)
            second(self.truth)
            await self.look()
        except AssertionError:
            self.truth = before
            second(self.truth)
            first(self.truth)

    async def turn(self, account: Account) -> None:
        """Begin a new period, as the first of the next month would."""
        self._periods += 1  # no two periods end up at the same moment
        await self._write(
            "UPDATE balances SET period_start = period_start - :n * interval '1 year',"
            " period_end = period_end - :n * interval '1 year' WHERE account_id = :account AND period_end > now()",
            n=self._periods,
            account=account.id,
        )
        self.truth.turn(account.id)

    async def grant(self, account: Account, meter: str, units: int) -> None:
        """Grant more or less than until now, though not less than what is taken."""
        balance = self.truth.balance(account.id, meter)
        units = max(units, balance.held + balance.used)
        changed = await self._write(
            "WITH changing AS (UPDATE balances SET granted = :units WHERE account_id = :account AND meter = :meter"
            " AND (period_end IS NULL OR period_end > now()) RETURNING id, granted, old.granted AS before)"
            " INSERT INTO ledger_entries (id, account_id, balance_id, meter, kind, granted)"
            " SELECT uuidv7(), :account, id, :meter, 'grant', granted - before FROM changing",
            account=account.id,
            meter=meter,
            units=units,
        )
        if changed:
            balance.granted = units

    async def _write(self, statement: str, **values: Any) -> bool:
        async with self._ground.database.begin() as session:
            return (await session.execute(text(f"{statement} RETURNING 1"), values)).first() is not None


def _admitted(asked: Sequence[Submission], answers: Sequence[Submitted | PulseError]) -> Verdict:
    def judge(truth: Truth) -> None:
        assert len(answers) == len(asked)
        for each, answer in zip(asked, answers, strict=True):
            assert isinstance(each.request, Work)
            truth.judge(each, each.request.input, answer)

    return judge


def _finish(truth: Truth, end: End, answer: Ended | None) -> None:
    job = truth.jobs[end.job_id]
    if (job.state, job.attempt) == (end.was, end.attempt):
        truth.end(job, end.state, end.used, next_attempt=end.next_attempt)
    elif not end.asked_before or (job.state, job.attempt) != (end.state, end.attempt + end.next_attempt):
        assert answer is None, f"{end} does not hold for {job}"
        return
    assert answer is not None, f"{end} holds for {job}"
    told: Mapping[str, int] | None = job.charged
    assert (answer.state, answer.attempt, answer.charged) == (end.state, job.attempt, told)
