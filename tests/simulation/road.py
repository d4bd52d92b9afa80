"""What the queue ought to hold: each job's place, in plain Python, without a word of how Redis keeps it."""

import copy
from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from infra.overview import Control
from tests.simulation.truth import Row

#: Lane, kind and account: whose jobs stand in one line.
type Line = tuple[str, str, str]


class Place(Struct):
    """Where a job is: under a lease of `worker` until `until_ms`, or waiting from `due_ms` on.

    Waiting and `listed`, it stands in its line at `seq`; `fresh` when it has come there in the ordinary way, `front`
    when it was given back to the head. Of a `bare` one Redis has forgotten all but that it runs.
    """

    line: Line
    due_ms: int
    worker: str = ""
    until_ms: int = 0
    tries: int = 0
    losses: int = 0
    listed: bool = False
    seq: int = 0
    fresh: bool = True
    front: bool = False
    bare: bool = False

    @property
    def waits(self) -> bool:
        """Whether it stands in its line."""
        return self.listed and not self.worker


class Road:
    """The queue, as its documentation has it."""

    def __init__(self) -> None:
        """Begin empty."""
        self.places: dict[str, Place] = {}
        self.control = Control()
        #: When each worker was last heard.
        self.alive: dict[str, int] = {}
        #: Until when nothing is handed out.
        self.settles_ms = 0
        #: Lines in which a job may stand twice, because a worker took its lease again while it stood there.
        self.doubled: set[Line] = set()
        self._seq = 0

    def copy(self) -> "Road":
        """Return it as it stands."""
        return copy.deepcopy(self)

    def enqueue(self, rows: Sequence[Row], now_ms: int, due_ms: int) -> None:
        """Put jobs on the queue, each once; of one that runs, Redis is told again what it has forgotten."""
        for row in rows:
            place = self.places.get(str(row.id))
            if place is None:
                place = self.places[str(row.id)] = Place((row.lane, row.kind, str(row.account)), due_ms)
                if due_ms <= now_ms:
                    self._list(place)
            place.bare = False

    def doubt(self, worker: str, heard_ms: int, now_ms: int, lease_ms: int, settle_ms: int) -> None:
        """Begin to settle when a worker was heard that knows of more than the server does, or after a long silence."""
        newest = max(self.alive.values(), default=now_ms)
        old = self.alive.get(worker, 0) < heard_ms or now_ms - newest >= lease_ms / 2
        if old and self.settles_ms <= now_ms:
            self.settles_ms = now_ms + settle_ms

    def forget(self, job_id: str) -> None:
        """Take a job off, unless it runs."""
        place = self.places.get(job_id)
        if place is not None and not place.worker:
            del self.places[job_id]

    def come_due(self, now_ms: int) -> None:
        """Do what every claim does first: bring back what lost its worker, and list what is due."""
        for job_id, place in sorted(self.places.items(), key=lambda item: (item[1].until_ms, item[0])):
            if place.worker and place.until_ms <= now_ms:
                place.losses += 1
                self._give_back(job_id, place, now_ms)
        due = [(p.due_ms, job_id) for job_id, p in self.places.items() if not p.worker and not p.listed]
        for due_ms, job_id in sorted(due):
            if due_ms <= now_ms:
                self._list(self.places[job_id])

    def renew(self, job_ids: Sequence[str], rows: dict[str, Row], worker: str, now_ms: int, lease_ms: int) -> list[str]:
        """Extend leases, and take those that nobody has or nobody renewed; return the jobs that another worker has."""
        lost: list[str] = []
        for job_id in job_ids:
            row = rows[job_id]
            place = self.places.get(job_id)
            if place is None:
                place = self.places[job_id] = Place((row.lane, row.kind, str(row.account)), 0, fresh=False, bare=True)
            if place.worker not in {"", worker} and place.until_ms > now_ms:
                lost.append(job_id)
                continue
            if not place.worker and place.listed:
                self.doubled.add(place.line)
            place.worker, place.until_ms = worker, now_ms + lease_ms
            place.listed, place.fresh, place.front = False, False, False
        return lost

    def take(self, job_id: str, worker: str, until_ms: int) -> None:
        """Lease a waiting job."""
        place = self.places[job_id]
        place.worker, place.until_ms, place.listed = worker, until_ms, False

    def finish(self, job_id: str, how: str, now_ms: int, ms: int) -> None:
        """End a lease."""
        place = self.places[job_id]
        if how == "over" or place.bare:
            del self.places[job_id]
        elif how == "back":
            self._give_back(job_id, place, now_ms)
        else:
            place.worker, place.due_ms, place.tries = "", now_ms + ms, place.tries + 1
            place.listed, place.fresh, place.front = False, False, False

    def _give_back(self, job_id: str, place: Place, now_ms: int) -> None:
        """Put a job at the head of its line; one of which Redis knows nothing is left to the tender."""
        if place.bare:
            del self.places[job_id]
            return
        place.worker, place.due_ms, place.fresh, place.front = "", now_ms, False, True
        self._list(place)

    def _list(self, place: Place) -> None:
        self._seq += 1
        place.listed, place.seq = True, self._seq

    def running(self) -> Counter[str]:
        """Return how many jobs run, per account and kind."""
        counts: Counter[str] = Counter()
        for place in self.places.values():
            if place.worker and not place.bare:
                counts.update(place.line[1:])
        return counts

    def runnable(self, account_cap: int) -> set[str]:
        """Return the waiting jobs that no cap holds back."""
        if self.control.paused:
            return set()
        counts = self.running()
        cap = account_cap if self.control.account_cap is None else self.control.account_cap

        def may_run(place: Place) -> bool:
            _, kind, account = place.line
            kind_cap = self.control.kind_caps.get(kind, 0)
            return (cap <= 0 or counts[account] < cap) and (kind_cap <= 0 or counts[kind] < kind_cap)

        return {job_id for job_id, place in self.places.items() if place.waits and may_run(place)}
