"""The deeds of the simulation: each does one thing to the real queue and to its models, and compares the two."""

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Literal
from unittest.mock import patch
from uuid import UUID

from msgspec import Struct

from infra import overview, queue
from infra.overview import Control, Overseer
from infra.queue import Consumer, Ended, Lane, Queue, Renewer, Turn
from tests.simulation.judge import Asked, Judge
from tests.simulation.laws import Law
from tests.simulation.road import Road
from tests.simulation.truth import Row, Truth
from tests.simulation.valkey import POOL, QUEUE, Snapshot, Valkey

LEASE_MS = 30_000
#: An idle worker looks by itself this often, whatever it was told (`workers/pool.py`).
IDLE_MS = 1000
#: How long a server that came back old hands out nothing (`infra/queue.py`).
SETTLE_MS = 1300
KINDS = ("chat", "scan")
# How long the tender leaves a job alone that is on its way (`workers/tend.py`).
_ON_ITS_WAY_MS = 3000
_BEGIN_MS = 1_700_000_000_000
_ROUNDS_TO_MEND = 6

type How = Literal["over", "again", "back"]


class Hand:
    """A worker process: the attempts that it holds, 0 where PostgreSQL refused one, or nothing could be called.

    `mood`: "awake" when it is about to look, "asleep" until a token or `wakes_ms`, "full" when it has no room.
    """

    def __init__(self, valkey: Valkey, name: str) -> None:
        """Start it."""
        self.name = name
        self.consumer = Consumer(valkey.client, QUEUE, name, LEASE_MS / 1000)
        self.renewer = Renewer(valkey.twin, QUEUE, name, LEASE_MS / 1000)
        self.held: dict[str, int] = {}
        self.frozen = False
        self.mood: Literal["awake", "asleep", "full"] = "awake"
        self.wakes_ms = 0


class Kept(Struct, frozen=True):
    """A snapshot of the server, and what it ought to hold."""

    snapshot: Snapshot
    road: Road


class World:
    """Everything that there is, and the time."""

    def __init__(self, valkey: Valkey, workers: int) -> None:
        """Begin with an empty server and idle workers."""
        self.valkey = valkey
        valkey.now_ms = _BEGIN_MS
        valkey.lose_everything()
        self._patches = ExitStack()
        self._patches.enter_context(patch.object(queue, "_now_ms", lambda: valkey.now_ms))
        self._patches.enter_context(patch.object(overview, "time", valkey))
        self._queue, self._overseer = Queue(valkey.client), Overseer(valkey.client)
        self.truth, self.road = Truth(), Road()
        self._judge = Judge(self.road, len(KINDS))
        self._born = 0
        self.hands = [self._start() for _ in range(workers)]
        self.kept: Kept | None = None
        self._missing: dict[str, int] = {}
        #: Whose jobs there are, and of which lanes and kinds.
        self.lines: list[tuple[Lane, str, UUID]] = []
        #: What the workers were started with.
        self.account_cap, self.batch_every = 0, 8

    def close(self) -> None:
        """Give the modules their clock back."""
        self._patches.close()

    def _start(self) -> Hand:
        self._born += 1
        return Hand(self.valkey, f"worker-{self._born}")

    def now_ms(self) -> int:
        """Return what time it is."""
        return self.valkey.now_ms

    # What clients and operators do

    def submit(self, line: int, due_in_ms: int = 0) -> Row:
        """Admit a job of one of the lines."""
        lane, kind, account = self.lines[line % len(self.lines)]
        return self.truth.submit(account, kind, lane, self.now_ms() + due_in_ms)

    def waiting(self, line: int) -> list[Row]:
        """Return the jobs of a line that wait to be run."""
        of_line = self.lines[line % len(self.lines)]
        return [it for it in self.truth.live() if it.state == "queued" and (it.lane, it.kind, it.account) == of_line]

    def enqueue(self, rows: Sequence[Row], due_in_ms: int = 0) -> None:
        """Put jobs of one kind and lane on the queue."""
        due = datetime.fromtimestamp((self.now_ms() + due_in_ms) / 1000, UTC) if due_in_ms else None
        due_ms = int(due.timestamp() * 1000) if due else self.now_ms()
        kind, lane = rows[0].kind, rows[0].lane
        jobs = [(row.id, row.account) for row in rows]
        self.valkey.run(self._queue.enqueue(POOL, jobs, kind=kind, lane=lane, due=due))
        self.road.enqueue(rows, self.now_ms(), due_ms)
        self.compare(Law.KNOWN, Law.ENQUEUED_ONCE)

    def cancel(self, row: Row) -> None:
        """Stop a job: one that waits ends at once."""
        if self.truth.cancel(str(row.id)):
            self.valkey.run(self._queue.forget(POOL, [row.id]))
            self.road.forget(str(row.id))
            self._judge.canceled((row.lane, row.kind, str(row.account)))

    def control(self, wanted: Control) -> None:
        """Tell the workers what operators want."""
        self.valkey.run(self._overseer.control(POOL, wanted))
        self.road.control = wanted

    # What workers do

    def claim(self, hand: Hand, room: int) -> list[str]:
        """Claim, and begin an attempt at each job."""
        turn = self._ask(hand, room)
        for job in turn.jobs:
            hand.held[job.id] = self.truth.claim(job.id) if job.definition else 0
        hand.mood = "full" if len(turn.jobs) == room else "asleep"
        hand.wakes_ms = self.now_ms() + min(IDLE_MS, int(turn.wait_s * 1000))
        return [job.id for job in turn.jobs]

    def claim_unheard(self, hand: Hand, room: int) -> None:
        """Claim, and never hear the answer: it will be tried again."""
        self._ask(hand, room)
        hand.mood = "awake"

    def _ask(self, hand: Hand, room: int) -> Turn:
        heard_ms = hand.renewer.heard_ms
        asking = hand.consumer.claim(
            room, account_cap=self.account_cap, batch_every=self.batch_every, heard_ms=heard_ms
        )
        turn = self.valkey.run(asking)
        self.road.doubt(hand.name, heard_ms, self.now_ms(), LEASE_MS, SETTLE_MS)
        left_ms = self.road.settles_ms - self.now_ms()
        if left_ms > 0:
            Law.SETTLED.holds(not turn.jobs and turn.wait_s * 1000 <= left_ms, turn, left_ms)
            return turn
        asked = Asked(
            worker=hand.name,
            room=room,
            now_ms=self.now_ms(),
            lease_ms=LEASE_MS,
            account_cap=self.account_cap,
            batch_every=self.batch_every,
        )
        self._judge.claimed(asked, turn)
        return turn

    def finish(self, hand: Hand, job_ids: Sequence[str], how: How, ms: int = 0) -> list[Ended]:
        """End attempts: in the truth first, then on the queue."""
        ended = [self._end(job_id, hand.held.pop(job_id), how, ms) for job_id in job_ids]
        self.tell(hand, ended)
        hand.mood = "awake" if ended else hand.mood
        return ended

    def _end(self, job_id: str, attempt: int, how: How, ms: int) -> Ended:
        over = Ended(job_id, "over", LEASE_MS, b"%d" % attempt, took_ms=1)
        if how == "over":
            self.truth.finish(job_id, attempt)
            return over
        wait_ms = ms if how == "again" else 0
        has_it = self.truth.put_off(job_id, attempt, self.now_ms() + wait_ms)
        return Ended(job_id, how, wait_ms) if has_it else over

    def tell(self, hand: Hand, ended: Sequence[Ended]) -> None:
        """Tell the queue of ends, if there are any. Those of jobs that the worker has lost change nothing."""
        if not ended:
            return
        places = self.road.places
        lost = {job.id for job in ended if job.id not in places or places[job.id].worker != hand.name}
        before = self.valkey.values() if len(lost) == len(ended) else None
        said = self.valkey.run(hand.consumer.finish(ended))
        Law.NO_ZOMBIE.holds(said == lost, said, lost)
        if before is not None:
            Law.NO_ZOMBIE.holds(before == self.valkey.values(), "changed something")
        for job in ended:
            if job.id not in lost:
                self.road.finish(job.id, job.how, self.now_ms(), job.ms)

    def renew(self, hand: Hand) -> None:
        """Renew all leases, and give up the jobs that another worker has."""
        held, places = list(hand.held), self.road.places
        taken = [job_id for job_id in held if job_id not in places or not places[job_id].worker]
        self.road.doubt(hand.name, hand.renewer.heard_ms, self.now_ms(), LEASE_MS, SETTLE_MS)
        self.road.alive[hand.name] = self.now_ms()
        slots, lost = hand.renewer(held)
        expected = self.road.renew(held, self.truth.rows, hand.name, self.now_ms(), LEASE_MS)
        Law.PAUSED.holds(slots == self.road.control.slots, slots)
        Law.NO_ZOMBIE.holds(set(expected) <= set(lost), lost, expected)
        Law.TAKEN_AGAIN.holds(set(lost) <= set(expected), lost, expected)
        for job_id in lost:
            del hand.held[job_id]
        if taken:
            self.compare(Law.TAKEN_AGAIN, Law.TAKEN_AGAIN)

    def replace(self, number: int) -> None:
        """Kill a worker, and start another one in its place."""
        self._startle(self.hands[number])
        self.hands[number] = self._start()

    def freeze_or_thaw(self, number: int) -> None:
        """Stop a worker, or let it go on as if nothing had happened."""
        hand = self.hands[number]
        self._startle(hand)
        hand.frozen, hand.mood = not hand.frozen, "awake"

    def _startle(self, gone: Hand) -> None:
        """A word that woke one who is gone is lost: the others look by themselves within a second."""
        if gone.mood == "awake":
            self._wake_all()

    def _wake_all(self) -> None:
        for hand in self.hands:
            hand.mood = "awake"

    # What time, the tender and the server do

    def pass_time(self, ms: int) -> None:
        """Let time pass in silence."""
        self.valkey.pass_time(ms)
        for hand in self.hands:
            if hand.mood == "asleep" and hand.wakes_ms <= self.now_ms():
                hand.mood = "awake"

    def live_on(self, ms: int) -> None:
        """Let time pass while every worker that is not frozen renews its leases when it should."""
        while ms > 0:
            step = min(ms, LEASE_MS // 3)
            self.pass_time(step)
            ms -= step
            for hand in self.hands:
                if not hand.frozen:
                    self.renew(hand)

    def tend(self) -> None:
        """Do as a round of `workers/tend.py`."""
        live = [row for row in self.truth.live() if self._is_settled(row)]
        leased = self.valkey.run(self._queue.leased([row.id for row in live if row.unwanted]))
        for row in live:
            if row.unwanted and row.id not in leased:
                self.truth.abandon(row)
        wanted = {row.id: row for row in live if not row.unwanted}
        seen: dict[str, int] = {}
        for job_id in self.valkey.run(self._queue.lost(POOL, list(wanted))):
            row = wanted[job_id]
            if row.state == "running":
                seen[str(job_id)] = since_ms = self._missing.get(str(job_id), self.now_ms())
                if self.now_ms() - since_ms < LEASE_MS:
                    continue
            self.enqueue([row])
        self._missing = seen
        self._count()

    def _is_settled(self, row: Row) -> bool:
        return row.state == "running" or row.unwanted or row.run_at_ms < self.now_ms() - _ON_ITS_WAY_MS

    def lose_everything(self) -> None:
        """Be a server that came back empty."""
        self.valkey.lose_everything()
        self._stand(Road())

    def keep(self) -> None:
        """Write a snapshot."""
        self.kept = Kept(self.valkey.snapshot(), self.road.copy())

    def rewind(self, kept: Kept) -> None:
        """Be a server that came back with an old snapshot."""
        self.valkey.rewind(kept.snapshot)
        self._stand(kept.road.copy())

    def _stand(self, road: Road) -> None:
        self.road = road
        self._judge.begin(road)
        self._wake_all()

    # What holds

    def look(self) -> None:
        """Look at the whole."""
        self.compare(Law.KNOWN, Law.SHOWN)
        self._listen()

    def compare(self, known: Law, shown: Law) -> None:
        """Look whether the queue knows and shows what is there."""
        rows, places = self.truth.rows, self.road.places
        lost = self.valkey.run(self._queue.lost(POOL, [row.id for row in rows.values()]))
        expected = [row.id for job_id, row in rows.items() if job_id not in places or places[job_id].bare]
        known.holds(lost == expected, "lost", [str(job_id) for job_id in lost], "not", [str(it) for it in expected])
        seen = self.valkey.run(self._overseer.overview(POOL, []))
        running = sum(place.worker != "" for place in places.values())
        shown.holds((seen.running, seen.waiting + seen.deferred) == (running, len(places) - running), seen, places)

    def _count(self) -> None:
        """Look whether counting anew changes anything."""
        before = self.valkey.counters()
        self.valkey.run(self._overseer.recount(POOL))
        Law.COUNTS.holds(before == self.valkey.counters(), before, self.valkey.counters())

    def _listen(self) -> None:
        """Look whether a job waits for sleepers whom nothing wakes."""
        if self.now_ms() < self.road.settles_ms + IDLE_MS:
            return  # whoever looked meanwhile looks again by itself
        moods = {hand.mood for hand in self.hands if not hand.frozen}
        if "asleep" in moods and "awake" not in moods and self.road.runnable(self.account_cap):
            Law.WOKEN.holds(self.valkey.tokens())

    def hear(self, hand: Hand) -> bool:
        """Let a sleeping worker take a token; return whether it is awake."""
        if hand.mood == "asleep" and self.valkey.tokens():
            Law.WOKEN.holds(self.valkey.run(hand.consumer.woken(1)))
            hand.mood = "awake"
        return hand.mood == "awake"

    def settle(self) -> None:
        """Let everything come to its end: nothing is lost, and nothing is left."""
        self._count()
        self.control(Control())
        for hand in self.hands:
            self.renew(hand)
            self.finish(hand, list(hand.held), "over")
        for _ in range(_ROUNDS_TO_MEND):
            self.renew(self.hands[0])
            self.pass_time(SETTLE_MS)
            while claimed := self.claim(self.hands[0], 50):
                self.finish(self.hands[0], claimed, "over")
            if not self.truth.live() and not self.road.places:
                break
            self.pass_time(LEASE_MS)
            self.tend()
        Law.NOTHING_LOST.holds(not self.truth.live(), self.truth.live(), self.road.places)
        Law.CLEAN.holds(not self.road.places and not self.valkey.unbounded(), self.valkey.unbounded())
