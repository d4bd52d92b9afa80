"""What must be so: balances, holds, jobs and names as plain Python keeps them, one deed after the other.

It decides nothing that it can be told: which id a new job got, or whether a deed came before another that was under way
at the same time. Everything else it knows beforehand, to the unit.
"""

from collections.abc import Mapping
from typing import Literal
from uuid import UUID

import msgspec
from msgspec import Struct

from infra.errors import PulseError
from infra.queue import MOST_LOSSES
from quotas import plans
from quotas.ledger import QuotaExceeded
from workers.lifecycle import IdempotencyKeyReused, Submission, Submitted
from workers.request import Request

LIVE = ("queued", "running")
type Name = tuple[UUID, str]


class Balance(Struct, kw_only=True):
    """One meter of one account in one period; `id` is empty as long as there is no row."""

    account_id: UUID
    meter: str
    granted: int
    id: UUID | None = None
    held: int = 0
    used: int = 0
    overage: int = 0
    warned: bool = False
    stopped: bool = False
    #: The thresholds that anybody was told of.
    told: list[int] = []

    @property
    def is_level(self) -> bool:
        """Whether it counts what is kept now."""
        return not plans.load().meters[self.meter].resets

    @property
    def remaining(self) -> int:
        """What can still be held."""
        return self.granted - self.used - self.held

    def take(self, units: int) -> list[int]:
        """Hold, and return the thresholds that this crosses."""
        self.held += units
        taken, crossed = self.held + self.used, list[int]()
        if not self.warned and taken * 100 >= self.granted * 80:
            self.warned = True
            crossed.append(80)
        if not self.stopped and taken >= self.granted:
            self.stopped = True
            crossed.append(100)
        self.told += crossed
        return crossed

    def end(self, units: int, wanted: int) -> int:
        """End a hold of `units` of which `wanted` were used; return what is charged."""
        taken = min(units, wanted)
        self.held -= units
        self.used += taken
        self.overage += wanted - taken
        if self.is_level:
            rest = self.held + self.used
            self.warned = self.warned and rest * 100 >= self.granted * 80
            self.stopped = self.stopped and rest >= self.granted
        return taken


class Hold(Struct):
    """Units that a job holds, or held."""

    balance: Balance
    units: int
    settled: int = 0
    state: Literal["held", "settled", "voided"] = "held"


class Job(Struct, kw_only=True):
    """A job and its holds, by meter."""

    id: UUID
    account_id: UUID
    holds: dict[str, Hold]
    unique: Name | None = None
    state: str = "queued"
    attempt: int = 0
    tries: int = 0
    losses: int = 0
    kept: dict[str, int] | None = None
    charged: dict[str, int] | None = None
    cancelled: bool = False
    timely: bool = True

    def end(self, state: str, used: Mapping[str, int], *, next_attempt: bool = False) -> None:
        """End it, and its holds."""
        self.state, self.kept = state, None
        self.attempt += next_attempt
        self.tries += state == "failed"
        self.charged = {}
        for meter, hold in self.holds.items():
            hold.settled = self.charged[meter] = hold.balance.end(hold.units, used.get(meter, 0))
            hold.state = "settled" if hold.settled else "voided"


def written(request: Request) -> bytes:
    """Return what tells requests apart."""
    return msgspec.json.encode(request, order="sorted")


def own(asked: Submission) -> UUID | None:
    """Return the id that the job of a submission will have, where the caller has chosen it."""
    return getattr(asked, "id", None)


class Truth:
    """Everything that must be so."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.current: dict[Name, Balance] = {}
        self.past: dict[UUID, Balance] = {}
        self.jobs: dict[UUID, Job] = {}
        self.keys: dict[Name, tuple[bytes, UUID]] = {}
        self.unique: dict[Name, UUID] = {}
        self.replays: dict[UUID, UUID] = {}

    def balance(self, account_id: UUID, meter: str) -> Balance:
        """Return the balance of this period; where there is none yet, the one that will be opened."""
        granted = plans.load().plans["free"].units[meter]
        fresh = Balance(account_id=account_id, meter=meter, granted=granted)
        return self.current.setdefault((account_id, meter), fresh)

    def turn(self, account_id: UUID) -> None:
        """Begin a new period."""
        for name, balance in list(self.current.items()):
            if name[0] == account_id and not balance.is_level:
                del self.current[name]
                if balance.id is not None:
                    self.past[balance.id] = balance

    def judge(self, asked: Submission, units: Mapping[str, int] | None, answer: Submitted | PulseError) -> None:
        """Fail unless `answer` is right for a job that takes `units` (None: that cannot be made), and remember it."""
        if (own_id := own(asked)) in self.jobs:
            assert isinstance(answer, Submitted), f"was admitted: {answer!r}"
            assert (answer.job.id, answer.known) == (own_id, None)
            # What its flush has crossed is told again: the answer that told it may have been lost.
            holds = self.jobs[answer.job.id].holds
            assert all(each.percent in holds[each.meter].balance.told for each in answer.crossings)
            return
        account_id = asked.account.id
        key = None if asked.idempotency_key is None else (account_id, asked.idempotency_key)
        unique = None if asked.request.unique_key is None else (account_id, asked.request.unique_key)
        there = self._there(asked, key, unique)
        if there is not None:
            job_id, how = there
            if how == "replayed" and self.keys[key or (account_id, "")][0] != written(asked.request):
                assert isinstance(answer, IdempotencyKeyReused), f"another request under a key: {answer!r}"
                return
            assert isinstance(answer, Submitted), f"{how} of {job_id}: {answer!r}"
            assert (answer.job.id, answer.known, list(answer.crossings)) == (job_id, how, [])
        elif units is None:
            assert isinstance(answer, PulseError), "what cannot be made is refused"
            assert not isinstance(answer, QuotaExceeded)
            return
        else:
            job_id = self._new(asked, units, answer, unique)
            if job_id is None:
                return
        if key is not None:
            self.keys.setdefault(key, (written(asked.request), job_id))

    def _there(self, asked: Submission, key: Name | None, unique: Name | None) -> tuple[UUID, str] | None:
        if key in self.keys:
            return self.keys[key][1], "replayed"
        if unique in self.unique:
            return self.unique[unique], "unique"
        if asked.replay_of is not None and asked.replay_of in self.replays:
            return self.replays[asked.replay_of], "replay"
        return None

    def _new(
        self, asked: Submission, units: Mapping[str, int], answer: Submitted | PulseError, unique: Name | None
    ) -> UUID | None:
        wanted = {meter: (self.balance(asked.account.id, meter), n) for meter, n in units.items() if n > 0}
        short = {meter: balance.remaining for meter, (balance, n) in wanted.items() if n > balance.remaining}
        if short:
            assert isinstance(answer, QuotaExceeded), f"{units} do not fit ({short} remain): {answer!r}"
            meter = str(answer.facts["meter"])
            told = (answer.facts["needed"], answer.facts["remaining"])
            assert meter in short, f"there is enough of {meter}, but not of {short}"
            assert told == (units[meter], short[meter])
            return None
        assert isinstance(answer, Submitted), f"{units} fit: {answer!r}"
        assert answer.known is None
        crossed = {(meter, it) for meter, (balance, n) in wanted.items() for it in balance.take(n)}
        told = [(crossing.meter, crossing.percent) for crossing in answer.crossings]
        assert (len(told), set(told)) == (len(crossed), crossed)
        for meter, standing in answer.quota.items():
            assert standing.limit == self.balance(asked.account.id, meter).granted
            assert 0 <= standing.remaining == standing.limit - standing.used - standing.held
        job_id = answer.job.id
        assert job_id not in self.jobs, "a new job has an id of its own"
        assert job_id == (own(asked) or job_id)
        holds = {meter: Hold(balance, n) for meter, (balance, n) in wanted.items()}
        self.jobs[job_id] = Job(id=job_id, account_id=asked.account.id, holds=holds, unique=unique)
        if unique is not None:
            self.unique[unique] = job_id
        if asked.replay_of is not None:
            self.replays[asked.replay_of] = job_id
        return job_id

    def end(self, job: Job, state: str, used: Mapping[str, int], *, next_attempt: bool = False) -> None:
        """End a job that lives."""
        job.end(state, used, next_attempt=next_attempt)
        if job.unique is not None:
            assert self.unique.pop(job.unique) == job.id

    def claim(self, job: Job) -> bool:
        """Return whether a worker gets it; one that nobody is to run any more ends."""
        if job.state not in LIVE:
            return False
        losses = job.losses + (job.state == "running")
        late = not job.timely and job.attempt == 0
        if job.cancelled or late or losses >= MOST_LOSSES:
            self.close(job)
            return False
        job.state, job.losses = "running", losses
        job.attempt += 1
        return True

    def close(self, job: Job) -> None:
        """End a job that nobody runs, where it lives."""
        if job.state not in LIVE:
            return
        if job.cancelled:
            self.end(job, "canceled", job.kept or {}, next_attempt=True)
        elif not job.timely and job.attempt == 0:
            self.end(job, "expired", {}, next_attempt=True)
        else:
            self.end(job, "failed", {}, next_attempt=True)

    def cancel(self, job: Job) -> None:
        """Tell a job to stop; a queued one has."""
        if job.state in LIVE:
            job.cancelled = True
        if job.state == "queued":
            self.end(job, "canceled", {})

    def expire(self) -> None:
        """End what was not started in time."""
        for job in self.jobs.values():
            if job.state == "queued" and not job.timely and job.attempt == 0:
                self.end(job, "expired", {})
