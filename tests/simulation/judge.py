"""Judges claims by the laws of order: what one claim shows, and what only many in a row do."""

from collections import Counter, defaultdict
from itertools import permutations

from msgspec import Struct

from infra.queue import Claimed, Turn
from tests.simulation.laws import Law
from tests.simulation.road import Line, Road

# A kind waits for so many rounds of its lane's kinds at most.
_ROUNDS = 3


class Asked(Struct, frozen=True, kw_only=True):
    """What a worker asked for, and when."""

    worker: str
    room: int
    now_ms: int
    lease_ms: int
    account_cap: int
    batch_every: int


class _Share(Struct):
    """Turns while a lane had jobs that might have run: all, and the batch lane's."""

    turns: int = 0
    batch: int = 0


class Judge:
    """Follows a queue's claims."""

    def __init__(self, road: Road, kinds: int) -> None:
        """Judge claims from `road`, whose lanes have at most so many kinds."""
        self._kinds = kinds
        self.begin(road)

    def begin(self, road: Road) -> None:
        """Begin anew, with what the queue ought to hold now."""
        self.road = road
        self._ahead: dict[tuple[str, str, str, str], int] = {}
        self._passed: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._shares = {"interactive": _Share(), "batch": _Share()}

    def canceled(self, line: Line) -> None:
        """Note that a job of a line was taken off: with its last one, the account leaves, and comes anew later."""
        if not any(place.line == line and place.waits for place in self.road.places.values()):
            self._ahead = {pair: n for pair, n in self._ahead.items() if pair[:3] != line}

    def claimed(self, asked: Asked, turn: Turn) -> None:
        """Judge a claim, and do to the road what it did."""
        road = self.road
        road.come_due(asked.now_ms)
        Law.CAPS.holds(len(turn.jobs) <= asked.room, len(turn.jobs), asked.room)
        Law.PAUSED.holds(turn.slots == road.control.slots, turn.slots)
        Law.PAUSED.holds(not (road.control.paused and turn.jobs))
        served: Counter[Line] = Counter()
        for job in turn.jobs:
            self._one(asked, job)
            served[road.places[job.id].line] += 1
        self._caps(asked, served)
        left = road.runnable(asked.account_cap)
        if len(turn.jobs) < asked.room:
            Law.ALIVE.holds(not left, left)
        self._wait(asked, turn)
        if not road.control.paused:
            hungry = {road.places[job_id].line for job_id in left}
            self._accounts(served, hungry)
            self._kinds_of_lanes(served, hungry)
            self._lanes(served, hungry, asked.batch_every)

    def _one(self, asked: Asked, job: Claimed) -> None:
        place = self.road.places.get(job.id)
        Law.GONE.holds(place is not None, job.id)
        assert place is not None
        Law.ONE_OWNER.holds(not place.worker, job.id, place)
        Law.DEFERRED.holds(place.due_ms <= asked.now_ms, job.id, place, asked.now_ms)
        Law.WHOLE.holds(job.definition is not None and job.id.encode() in job.definition, job.id)
        Law.TOLD.holds((job.tries, job.losses) == (place.tries, place.losses), job, place)
        if place.fresh:
            for other_id, other in self.road.places.items():
                if other.line == place.line and other.waits and other is not place:
                    Law.DEAD_FIRST.holds(not other.front, job.id, "before", other_id)
                    Law.ORDER.holds(not other.fresh or place.seq < other.seq, job.id, "before", other_id)
        self.road.take(job.id, asked.worker, asked.now_ms + asked.lease_ms)

    def _caps(self, asked: Asked, served: Counter[Line]) -> None:
        control, running = self.road.control, self.road.running()
        cap = asked.account_cap if control.account_cap is None else control.account_cap
        for _, kind, account in served:
            kind_cap = control.kind_caps.get(kind, 0)
            Law.CAPS.holds(cap <= 0 or running[account] <= cap, account, running, cap)
            Law.CAPS.holds(kind_cap <= 0 or running[kind] <= kind_cap, kind, running, kind_cap)

    def _wait(self, asked: Asked, turn: Turn) -> None:
        ends = [place.until_ms if place.worker else place.due_ms for place in self.road.places.values()]
        later = [at for at in ends if at > asked.now_ms]
        if later and len(turn.jobs) < asked.room:  # whoever has no room left looks when he has
            Law.WAIT.holds(turn.wait_s * 1000 <= min(later) - asked.now_ms + 0.5, turn.wait_s, min(later))

    def _accounts(self, served: Counter[Line], hungry: set[Line]) -> None:
        """One that still waits, and might have run, has had as many turns as any other of its kind, but for one."""
        known = {(*pair[:2], account) for pair in self._ahead for account in pair[2:]}
        lines = set(served) | hungry | known
        for line, other in permutations(lines, 2):
            if line[:2] != other[:2]:
                continue
            pair = (*line, other[2])
            if line not in hungry or line in self.road.doubled:
                self._ahead.pop(pair, None)
                continue
            ahead = max(0, self._ahead.get(pair, 0) + served[other] - served[line])
            Law.FAIR.holds(ahead <= 1, other, "is ahead of", line, "by", ahead)
            self._ahead[pair] = ahead

    def _kinds_of_lanes(self, served: Counter[Line], hungry: set[Line]) -> None:
        """One that still waits was not passed over for long."""
        for lane, kind in {line[:2] for line in hungry} | set(self._passed):
            got = sum(n for line, n in served.items() if line[:2] == (lane, kind))
            others = sum(n for line, n in served.items() if line[0] == lane) - got
            is_hungry = any(line[:2] == (lane, kind) for line in hungry)
            self._passed[lane, kind] = self._passed[lane, kind] + others if is_hungry and not got else 0
            Law.KINDS.holds(self._passed[lane, kind] <= _ROUNDS * self._kinds, lane, kind, self._passed)

    def _lanes(self, served: Counter[Line], hungry: set[Line], batch_every: int) -> None:
        batch = sum(n for line, n in served.items() if line[0] == "batch")
        for lane, share in self._shares.items():
            if any(line[0] == lane for line in hungry):
                share.turns += served.total()
                share.batch += batch
            else:
                share.turns = share.batch = 0
        share = self._shares["batch"]
        Law.LANES.holds(share.batch >= share.turns // batch_every - 1, "batch starves", share)
        share = self._shares["interactive"]
        Law.LANES.holds(share.batch <= share.turns // batch_every + 1, "batch goes first", share)
