"""Any deeds in any order, on the real PostgreSQL; after each of them everything is as it must be."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal
from uuid import UUID

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from infra.models import Account
from tests.money.truth import Job, own
from tests.money.work import asked
from tests.money.world import METERS, Verdict, World
from workers.lifecycle import End, Kept, Return, Submission

#: Which of those that there are; counted from the newest.
_WHICH = st.integers(0, 7)
_UNITS = st.dictionaries(st.sampled_from(METERS), st.sampled_from([1, 2, 3, 5, 8, 0]), min_size=1, max_size=3)
_NAMES = st.sampled_from([None] * 6 + ["a", "b", "c", "d"])
_SELDOM = st.sampled_from([None] * 8 + list(range(4)))
#: How much more or less than its hold a job uses.
_MORE = st.dictionaries(st.sampled_from(METERS), st.integers(-3, 3), max_size=3)


class _Wanted(msgspec.Struct):
    """What is to be submitted; `again` asks what was asked before once more."""

    account: int
    units: dict[str, int]
    is_possible: bool
    key: str | None
    unique: str | None
    replay: int | None
    again: int | None


_SUBMISSIONS = st.lists(
    st.builds(
        _Wanted,
        account=_WHICH,
        units=_UNITS,
        is_possible=st.sampled_from([True] * 9 + [False]),
        key=_NAMES,
        unique=_NAMES,
        replay=_SELDOM,
        again=_SELDOM,
    ),
    min_size=1,
    max_size=6,
)


class Machine(RuleBasedStateMachine):
    """One run, in a world that all runs share one after the other.

    What is drawn does not depend on what is there: of two deeds at the same time either may come first, and hypothesis
    takes one that comes out in two ways for a broken one.
    """

    def __init__(self, runner: asyncio.Runner, world: World) -> None:
        """Act on `world`, whose connections live in the loop of `runner`."""
        super().__init__()
        self._runner = runner
        self._world = world

    @initialize(accounts=st.sampled_from([1, 1, 2, 3]), storage_bytes=st.integers(0, 30), first=_SUBMISSIONS)
    def start(self, accounts: int, storage_bytes: int, first: list[_Wanted]) -> None:
        """Make the accounts, and their first jobs."""
        self._runner.run(self._world.begin(accounts, storage_bytes))
        self._look()
        self._do(self._world.admit(self._asked(first)))

    @rule(wanted=_SUBMISSIONS)
    def submit(self, wanted: list[_Wanted]) -> None:
        """Submit jobs in one flush."""
        self._do(self._world.admit(self._asked(wanted)))

    @rule(wanted=_SUBMISSIONS, which=_WHICH)
    def submit_again(self, wanted: list[_Wanted], which: int) -> None:
        """Submit what was submitted before among other things, as somebody does whose answer was lost."""
        before = self._world.submissions[-1 - which :][:3]
        self._do(self._world.admit([*before, *self._asked(wanted, before)]))

    @rule(which=st.lists(_WHICH, min_size=1, max_size=5))
    def claim(self, which: list[int]) -> None:
        """Claim jobs that wait."""
        if jobs := self._some(which, "queued"):
            self._do(self._world.claim([job.id for job in jobs]))

    @rule(which=st.lists(_WHICH, min_size=1, max_size=5))
    def claim_any(self, which: list[int]) -> None:
        """Claim jobs, of which some may be over or run already."""
        self._do(self._world.claim([job.id for job in self._some(which)]))

    @rule(which=st.lists(_WHICH, min_size=1, max_size=4), more=_MORE, state=st.sampled_from(["succeeded", "failed"]))
    def finish(self, which: list[int], more: dict[str, int], state: Literal["succeeded", "failed"]) -> None:
        """End running jobs, for less than they hold, as much, or more."""
        if jobs := self._running(which):
            self._do(self._world.finish([_end(job, more, state) for job in jobs]))

    @rule(which=_WHICH, more=_MORE, behind=st.integers(0, 2), asked_before=st.booleans())
    def finish_late(self, which: int, more: dict[str, int], behind: int, asked_before: bool) -> None:
        """End a job in whatever state, as its attempt or as one before it: for the second time, or by a zombie."""
        for job in self._some([which]):
            end = msgspec.structs.replace(
                _end(job, more, "succeeded"), attempt=job.attempt - behind, asked_before=asked_before
            )
            self._do(self._world.finish([end]))

    @rule(which=_WHICH, more=_MORE, behind=st.sampled_from([0, 0, 1]))
    def keep(self, which: int, more: dict[str, int], behind: int) -> None:
        """Keep what a running job has used."""
        for job in self._running([which]):
            self._do(self._world.keep(Kept(job_id=job.id, attempt=job.attempt - behind, used=_used(job, more))))

    @rule(which=_WHICH, failed=st.booleans(), more=st.none() | _MORE, behind=st.sampled_from([0, 0, 1]))
    def give_back(self, which: int, failed: bool, more: dict[str, int] | None, behind: int) -> None:
        """Give a job back to the queue."""
        for job in self._some([which], "running", "queued"):
            used = None if more is None else _used(job, more)
            self._do(
                self._world.give_back(Return(job_id=job.id, attempt=job.attempt - behind, failed=failed, used=used))
            )

    @rule(which=_WHICH, who=_WHICH)
    def cancel(self, which: int, who: int) -> None:
        """Cancel a job in whatever state, mostly as its owner."""
        for job in self._some([which]):
            account = self._account(who) if who > 5 else self._owner(job)
            self._do(self._world.cancel(account, job.id))

    @rule(which=_WHICH)
    def close(self, which: int) -> None:
        """End a job that nobody runs."""
        for job in self._some([which]):
            self._do(self._world.close(job.id))

    @rule(which=st.lists(_WHICH, max_size=2))
    def expire(self, which: list[int]) -> None:
        """Let some jobs be too late."""
        self._do(self._world.expire([job.id for job in self._some(which, "queued")]))

    @rule(who=_WHICH)
    def turn(self, who: int) -> None:
        """Begin a new period."""
        self._runner.run(self._world.turn(self._account(who)))
        self._look()

    @rule(who=_WHICH, meter=st.sampled_from(METERS), units=st.integers(1, 40))
    def grant(self, who: int, meter: str, units: int) -> None:
        """Change what an account may take."""
        self._runner.run(self._world.grant(self._account(who), meter, units))
        self._look()

    @rule(one=_SUBMISSIONS, other=_SUBMISSIONS)
    def submit_at_once(self, one: list[_Wanted], other: list[_Wanted]) -> None:
        """Submit jobs by two processes at the same time."""
        first = self._asked(one)
        self._do_both(self._world.admit(first), self._world.admit(self._asked(other, first)))

    @rule(wanted=_SUBMISSIONS, which=st.lists(_WHICH, min_size=1, max_size=4), more=_MORE)
    def submit_while_jobs_end(self, wanted: list[_Wanted], which: list[int], more: dict[str, int]) -> None:
        """Submit jobs while others end."""
        ends = [_end(job, more, "succeeded") for job in self._running(which)]
        self._do_both(self._world.admit(self._asked(wanted)), self._world.finish(ends))

    @rule(which=_WHICH, more=_MORE, other=st.sampled_from(["finish", "cancel", "close"]))
    def end_twice_at_once(self, which: int, more: dict[str, int], other: str) -> None:
        """End a running job twice at the same time, each in its own way."""
        for job in self._running([which]):
            deeds: dict[str, Callable[[], Coroutine[Any, Any, Verdict]]] = {
                "finish": lambda job=job: self._world.finish([_end(job, {}, "failed")]),
                "cancel": lambda job=job: self._world.cancel(self._owner(job), job.id),
                "close": lambda job=job: self._world.close(job.id),
            }
            self._do_both(self._world.finish([_end(job, more, "succeeded")]), deeds[other]())

    def _do(self, deed: Coroutine[Any, Any, Verdict]) -> None:
        self._runner.run(deed)(self._world.truth)
        self._look()

    def _do_both(self, one: Coroutine[Any, Any, Verdict], other: Coroutine[Any, Any, Verdict]) -> None:
        self._runner.run(self._world.together(one, other))
        self._look()

    def _look(self) -> None:
        self._runner.run(self._world.look())

    def _account(self, which: int) -> Account:
        return self._world.accounts[which % len(self._world.accounts)]

    def _owner(self, job: Job) -> Account:
        return next(account for account in self._world.accounts if account.id == job.account_id)

    def _some(self, which: Sequence[int], *states: str) -> list[Job]:
        jobs = self._world.jobs(*states)[::-1]
        return list({jobs[n % len(jobs)].id: jobs[n % len(jobs)] for n in which}.values()) if jobs else []

    def _running(self, which: Sequence[int]) -> list[Job]:
        """Return some jobs that run; where none does, they are claimed first."""
        if not self._world.jobs("running") and (waiting := self._some(which, "queued")):
            self._do(self._world.claim([job.id for job in waiting]))
        return self._some(which, "running")

    def _asked(self, wanted: Sequence[_Wanted], besides: Sequence[Submission] = ()) -> list[Submission]:
        """Return what is wanted; nobody asks for the same id twice at the same time."""
        taken, found = {own(each) for each in besides} - {None}, list[Submission]()
        for each in map(self._submission, wanted):
            if own(each) not in taken:
                found.append(each)
                taken |= {own(each)} - {None}
        return found

    def _submission(self, wanted: _Wanted) -> Submission:
        before = self._world.submissions
        if wanted.again is not None and before:
            return before[-1 - wanted.again % len(before)]
        failed = self._some([wanted.replay], "failed") if wanted.replay is not None else []
        replay_of: UUID | None = failed[0].id if failed else None
        account = self._owner(failed[0]) if failed else self._account(wanted.account)
        if not wanted.is_possible:
            return asked(account, None)
        # Another go is asked for on a route of its own: whether its key meets this one's is no matter of the books.
        key = None if failed else wanted.key
        return asked(account, wanted.units, key=key, unique=wanted.unique, replay_of=replay_of)


def _used(job: Job, more: dict[str, int]) -> dict[str, int]:
    held = {meter: hold.units for meter, hold in job.holds.items()}
    return {meter: max(0, held.get(meter, 0) + more.get(meter, 0)) for meter in held.keys() | more.keys()}


def _end(job: Job, more: dict[str, int], state: Literal["succeeded", "failed"]) -> End:
    return End(job_id=job.id, attempt=job.attempt, state=state, used=_used(job, more))
