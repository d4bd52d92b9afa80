"""All that clients, workers, operators, the tender, time and the server can do to a queue, and how often they do it."""

from abc import abstractmethod
from typing import Literal

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from msgspec import Struct

from infra.overview import Control
from infra.queue import Ended
from tests.simulation.world import IDLE_MS, KINDS, LEASE_MS, Hand, How, World

WORKERS = 3


class Deed(Struct, frozen=True, kw_only=True):
    """One thing that is done."""

    @abstractmethod
    def do(self, world: World) -> None:
        """Do it."""


class Enqueue(Deed, frozen=True, kw_only=True):
    """A client submits jobs; or the API dies between the commit and the queue."""

    line: int
    many: int
    due_in_ms: int
    dies: bool

    def do(self, world: World) -> None:
        """Submit, then enqueue."""
        rows = [world.submit(self.line, self.due_in_ms) for _ in range(self.many)]
        if not self.dies:
            world.enqueue(rows, self.due_in_ms)


class OfJob(Deed, frozen=True, kw_only=True):
    """Something is done with one of the jobs that there were ever: the last ones have low numbers."""

    number: int

    def do(self, world: World) -> None:
        """Do it, if there is one."""
        job_ids = list(world.truth.rows)
        if job_ids:
            self.do_to(world, job_ids[-1 - self.number % len(job_ids)])

    @abstractmethod
    def do_to(self, world: World, job_id: str) -> None:
        """Do it with this one."""


class EnqueueAgain(OfJob, frozen=True, kw_only=True):
    """A job is put on the queue once more. Where it is there, nothing changes; one that is over is refused later."""

    due_in_ms: int

    def do_to(self, world: World, job_id: str) -> None:
        """Enqueue."""
        world.enqueue([world.truth.rows[job_id]], self.due_in_ms)


class Cancel(OfJob, frozen=True, kw_only=True):
    """An account cancels a job."""

    def do_to(self, world: World, job_id: str) -> None:
        """Cancel."""
        world.cancel(world.truth.rows[job_id])


class Replace(Deed, frozen=True, kw_only=True):
    """A client cancels all that waits of a line, and submits other jobs in their place."""

    line: int
    many: int

    def do(self, world: World) -> None:
        """Cancel, then submit."""
        for row in world.waiting(self.line):
            world.cancel(row)
        world.enqueue([world.submit(self.line) for _ in range(self.many)])


class Operate(Deed, frozen=True, kw_only=True):
    """An operator changes what the pool is told."""

    account_cap: int | None
    kind: str
    kind_cap: int | None
    slots: int | None
    paused: bool

    def do(self, world: World) -> None:
        """Say it."""
        kind_caps = {} if self.kind_cap is None else {self.kind: self.kind_cap}
        wanted = Control(paused=self.paused, slots=self.slots, account_cap=self.account_cap, kind_caps=kind_caps)
        world.control(wanted)


class OfWorker(Deed, frozen=True, kw_only=True):
    """A worker does something, if it is not frozen."""

    worker: int

    def do(self, world: World) -> None:
        """Do it."""
        hand = world.hands[self.worker]
        if not hand.frozen:
            self.do_as(hand, world)

    @abstractmethod
    def do_as(self, hand: Hand, world: World) -> None:
        """Do it as this one."""


class Claim(OfWorker, frozen=True, kw_only=True):
    """A worker looks for jobs; or looks, and the answer is lost on its way."""

    room: int
    unheard: bool = False

    def do_as(self, hand: Hand, world: World) -> None:
        """Claim."""
        if self.unheard:
            world.claim_unheard(hand, self.room)
        else:
            world.claim(hand, self.room)


class WorkOff(OfWorker, frozen=True, kw_only=True):
    """A worker with a single slot runs one job after another."""

    many: int

    def do_as(self, hand: Hand, world: World) -> None:
        """Claim and finish, until there is nothing or it was enough."""
        for _ in range(self.many):
            claimed = world.claim(hand, 1)
            if not claimed:
                return
            world.finish(hand, claimed, "over")


class Finish(OfWorker, frozen=True, kw_only=True):
    """A worker ends some of its jobs, all in one way; when it does not hear the answer, it says so twice."""

    which: int
    how: How
    ms: int
    twice: bool
    room: int

    def do_as(self, hand: Hand, world: World) -> None:
        """Finish, unless it holds none; then look for so many others."""
        picked = [job_id for n, job_id in enumerate(hand.held) if self.which >> n & 1]
        ended = world.finish(hand, picked or list(hand.held), self.how, self.ms)
        if self.twice:
            world.tell(hand, ended)
        if self.room:
            world.claim(hand, self.room)


class FinishLate(OfJob, frozen=True, kw_only=True):
    """A worker ends a job that is another's, or nobody's."""

    worker: int
    how: How

    def do_to(self, world: World, job_id: str) -> None:
        """Finish it in vain."""
        hand, place = world.hands[self.worker], world.road.places.get(job_id)
        if place is None or place.worker != hand.name:
            world.tell(hand, [Ended(job_id, self.how, 0, b"late")])


class Renew(OfWorker, frozen=True, kw_only=True):
    """A worker's heart beats."""

    def do_as(self, hand: Hand, world: World) -> None:
        """Renew."""
        world.renew(hand)


class Hear(OfWorker, frozen=True, kw_only=True):
    """A sleeping worker takes a token, if there is one, and looks."""

    room: int

    def do_as(self, hand: Hand, world: World) -> None:
        """Wake."""
        if world.hear(hand):
            world.claim(hand, self.room)


class Suffer(Deed, frozen=True, kw_only=True):
    """A worker is killed, and another one started; or stops as by SIGSTOP, or goes on as if nothing had happened."""

    worker: int
    dies: bool
    for_ms: int

    def do(self, world: World) -> None:
        """Do it to the worker, while the others live on."""
        if self.dies:
            world.replace(self.worker)
        else:
            world.freeze_or_thaw(self.worker)
        world.live_on(self.for_ms)


class Pass(Deed, frozen=True, kw_only=True):
    """Time passes: in silence, or while the workers renew their leases."""

    ms: int
    silent: bool

    def do(self, world: World) -> None:
        """Wait."""
        if self.silent:
            world.pass_time(self.ms)
        else:
            world.live_on(self.ms)


class Tend(Deed, frozen=True, kw_only=True):
    """The tender does a round."""

    def do(self, world: World) -> None:
        """Mend."""
        world.tend()


class BeRedis(Deed, frozen=True, kw_only=True):
    """Redis writes a snapshot; comes back with it; or comes back empty."""

    how: Literal["keep", "rewind", "empty"]

    def do(self, world: World) -> None:
        """Remember, or forget."""
        if self.how == "empty":
            world.lose_everything()
        elif self.how == "keep" or world.kept is None:
            world.keep()
        else:
            world.rewind(world.kept)


_kinds, _caps = st.sampled_from(KINDS), st.sampled_from([None, 0, 1, 2])
_hows: SearchStrategy[How] = st.sampled_from(["over", "over", "again", "back"])
_redis: SearchStrategy[Literal["keep", "rewind", "empty"]] = st.sampled_from(["keep", "keep", "rewind", "empty"])
_workers, _numbers = st.integers(0, WORKERS - 1), st.integers(0, 63)
_waits_ms = st.sampled_from([0, 0, 500, 9000])
_times_ms = st.sampled_from([1, 200, IDLE_MS, LEASE_MS // 3, LEASE_MS - 1, LEASE_MS])
_rarely = st.sampled_from([False] * 7 + [True])


def _enqueue(most: int) -> SearchStrategy[Deed]:
    return st.builds(Enqueue, line=_numbers, many=st.integers(1, most), due_in_ms=_waits_ms, dies=_rarely)


def _claim(most: int) -> SearchStrategy[Deed]:
    return st.builds(Claim, worker=_workers, room=st.integers(1, most), unheard=_rarely)


def _finish() -> SearchStrategy[Deed]:
    return st.builds(
        Finish, worker=_workers, which=_numbers, how=_hows, ms=_waits_ms, twice=_rarely, room=st.integers(0, 3)
    )


OPERATE = st.builds(
    Operate,
    account_cap=_caps,
    kind=_kinds,
    kind_cap=_caps,
    slots=_caps,
    paused=st.sampled_from([False] * 4 + [True]),
)
#: A deed; what stands here twice happens twice as often.
DEEDS: SearchStrategy[Deed] = st.one_of(
    _enqueue(3),
    _enqueue(9),
    _claim(2),
    _claim(3),
    _claim(12),
    _finish(),
    _finish(),
    st.builds(WorkOff, worker=_workers, many=st.integers(2, 12)),
    st.builds(WorkOff, worker=_workers, many=st.integers(8, 16)),
    st.builds(Pass, ms=_times_ms, silent=st.booleans()),
    st.builds(Pass, ms=_times_ms, silent=st.booleans()),
    st.builds(EnqueueAgain, number=_numbers, due_in_ms=_waits_ms),
    st.builds(Cancel, number=_numbers),
    st.builds(Replace, line=_numbers, many=st.integers(1, 4)),
    OPERATE,
    st.builds(FinishLate, worker=_workers, number=_numbers, how=_hows),
    st.builds(Renew, worker=_workers),
    st.builds(Hear, worker=_workers, room=st.integers(1, 2)),
    st.builds(Hear, worker=_workers, room=st.integers(1, 4)),
    st.builds(Suffer, worker=_workers, dies=st.booleans(), for_ms=st.sampled_from([0, LEASE_MS])),
    st.builds(Tend),
    st.builds(BeRedis, how=_redis),
    st.builds(BeRedis, how=_redis),
)
