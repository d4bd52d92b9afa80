"""What a room is given to make one job with: `Run` says its events in order and remembers what was used and made."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog
from msgspec import Raw, Struct

from infra import backoff
from infra import redis as road
from infra.database import DatabaseUnavailable
from infra.ground import Ground
from infra.models import Document
from infra.settings import Settings
from infra.streams import Fenced, Line
from providers.gateway import Gateway
from workers import events, jobs, transcript
from workers.craft.child import Spares
from workers.lifecycle import Attempt, Kept
from workers.request import Request

log = structlog.stdlib.get_logger()
_LONGEST_WAIT_S = 2.0
# How long a room may speak without a pause before others get their turn.
_TURN_S = 0.0005


class LostLease(Exception):
    """Another attempt runs this job: this one must stop without a word."""


class Made(Struct, frozen=True, kw_only=True):
    """What a room made: the job's `result`, and the units `used` per meter."""

    result: Document
    used: dict[str, int]


#: Writes something of an attempt to PostgreSQL; tells what the job is to do ("runs", "canceled", "lost").
type Keep = Callable[[Kept], Awaitable[str]]


class Run:
    """One try of one job."""

    def __init__(
        self,
        job: Attempt,
        ground: Ground,
        gateway: Gateway,
        keep: Keep,
        spares: Spares | None = None,
        specs: Mapping[str, type[Request]] | None = None,
    ) -> None:
        """Speak for `job` at its attempt; `keep` is how a checkpoint is written, `spares` are children that wait.

        `specs` is what may be asked of the studio, for a room that reads requests.
        """
        self.job = job
        self.ground = ground
        self.gateway = gateway
        self.spares = spares
        self.specs = specs or {}
        self.cancel_requested = False
        self.lost = False
        self._fenced = False
        self._so_far: Callable[[], Made] | None = None
        self._keep = keep
        self._streams = ground.streams
        self._unsaid: list[events.Said] = []
        self._said: list[Line] = []
        self._source = jobs.speaker(job.id, job.account_id, job.kind, job.batch_id)
        self._transcript = transcript.Writer(job.attempt)
        self._sent = 0
        self._turned_s = 0.0
        self._flusher: asyncio.Task[None] | None = None
        self._making: asyncio.Task[Made] | None = None

    @property
    def settings(self) -> Settings:
        """The process's settings."""
        return self.ground.settings

    @property
    def resume(self) -> Document:
        """What the last attempt left for this one with `checkpoint`; empty where it left nothing."""
        return self.job.resume

    async def checkpoint(self, resume: Document) -> None:
        """Keep what the next attempt needs to go on (a vendor's operation id): written when this returns.

        To be called before anything that costs money is waited for, and with an empty document when the next attempt
        should start over. A database that is away is waited for. Raises `LostLease` when another attempt has the job:
        then nothing is kept, and nothing may be paid for.
        """
        failures = 0
        kept = Kept(job_id=self.job.id, attempt=self.job.attempt, resume=resume)
        while True:
            try:
                told = await self._keep(kept)
            except DatabaseUnavailable:
                failures += 1
                await asyncio.sleep(backoff.wait_s(failures, base_s=0.1, most_s=_LONGEST_WAIT_S))
                continue
            if told == "lost":
                self.lose()
                raise LostLease
            if told == "canceled":
                self.cancel()
            return

    async def say(self, said: events.Said) -> None:
        """Say something to whoever follows the job. Waits for no append: deltas gather while one is in flight.

        Raises `LostLease` when another attempt has spoken.
        """
        if self.lost:
            raise LostLease
        last = self._unsaid[-1] if self._unsaid else None
        if isinstance(said, events.Delta) and isinstance(last, events.Delta):
            self._unsaid[-1] = events.Delta(text=last.text + said.text)
        else:
            self._unsaid.append(said)
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
            self._turned_s = time.monotonic()
        elif time.monotonic() - self._turned_s > _TURN_S:
            # What has more to say at once than can be said would not let go of the loop, and nothing would leave.
            await asyncio.sleep(0)
            self._turned_s = time.monotonic()

    def record(self, so_far: Made | Callable[[], Made]) -> None:
        """Note what would be kept and charged if the job were stopped now, or what works it out when that is asked."""
        self._so_far = so_far if callable(so_far) else lambda: so_far

    @property
    def so_far(self) -> Made | None:
        """What would be kept and charged if the job were stopped now."""
        return None if self._so_far is None else self._so_far()

    async def work(self, making: "asyncio.Task[Made]") -> Made:
        """Wait for the room's task, which `cancel` and a lost lease can stop."""
        self._making = making
        if self.cancel_requested or self.lost:  # told before there was a task to stop
            self._stop()
        return await making

    def cancel(self) -> None:
        """Stop the room, because the account does not want the job any more."""
        self.cancel_requested = True
        self._stop()

    def lose(self) -> None:
        """Stop the room, because another attempt has the job."""
        self.lost = True
        self._stop()

    def _stop(self) -> None:
        if self._making is not None and not self._making.cancelling():  # once: what it does then is cleaning up
            self._making.cancel()

    def transcript(self) -> Raw:
        """Return everything this attempt said, compacted for the job's row (JSON)."""
        self._encode()
        return self._transcript.encoded()

    async def end(self, terminal: events.Said, *, patience_s: float) -> None:
        """Say the last event; only a later attempt that has spoken keeps it from being said.

        A Redis that stays away longer than `patience_s` is left: PostgreSQL ends the stream.
        """
        self._unsaid.append(terminal)
        try:
            async with asyncio.timeout(patience_s):
                if self._flusher is not None:
                    await self._flusher
                await self._flush(over=True)
        except TimeoutError:
            log.warning("the last event stays unsaid", job=str(self.job.id))

    def _encode(self) -> list[Line]:
        for said in self._unsaid:
            line = events.line(said)
            self._said.append(line)
            self._transcript.add(said, line.data)
        self._unsaid = []
        return self._said

    async def _flush(self, *, over: bool = False) -> None:
        failures = 0
        while not self._fenced and (self._unsaid or self._sent < len(self._said)):
            said = self._encode()
            try:
                self._sent = await self._streams.append(self._source, self.job.attempt, said, self._sent, over=over)
                failures = 0
            except Fenced:
                self._fenced = True
                self.lose()
            except road.AWAY:
                failures += 1
                await asyncio.sleep(backoff.wait_s(failures, base_s=0.05, most_s=_LONGEST_WAIT_S))
