"""How a batch is read: its lines are kept chunk by chunk, what they may cost is held, and then it is accepted."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Final
from uuid import UUID

from infra import backoff
from infra import redis as road
from infra.database import DatabaseUnavailable
from infra.models import Account, Batch
from infra.settings import Settings
from quotas.ledger import QuotaExceeded
from workers import events
from workers.batch.spec import ReadBatch
from workers.batches import copying, holding, inputs, reading, telling, verdicts
from workers.batches.lines import Reader
from workers.batches.refusals import BatchRefused
from workers.context import LostLease, Made, Run
from workers.files import attached
from workers.request import Asking, Attached

_TELL_EVERY_S: Final = 0.5
_LONGEST_WAIT_S: Final = 2.0
_PATIENCE_S: Final = 2.0


def timeout_s(settings: Settings) -> float:
    """Return the longest that one try may run."""
    return settings.batch_timeout_s


async def make(request: ReadBatch, run: Run) -> Made:
    """Read the batch from where it was read to, and return the state that it is in from then on.

    One that was cancelled, or whose time is over, is left as it is: whoever feeds batches ends it.
    """
    batch_id = request.input.batch
    try:
        batch = await _held(partial(_look, run, request))
        await _validate(batch, run)
    except verdicts.NotValidating:
        await _held(partial(verdicts.leave, run.ground, batch_id))
    except verdicts.ReadElsewhere as error:
        raise LostLease from error
    except (BatchRefused, QuotaExceeded) as error:
        await _held(partial(verdicts.fail, run.ground, batch_id, error))
        await _tell(run, batch_id)
    return Made(result=await _held(partial(verdicts.outcome, run.ground, batch_id)), used={})


async def _tell(run: Run, batch_id: UUID) -> None:
    """Tell the account's stream how a batch ended that nobody feeds, if that can be done now."""
    with contextlib.suppress(DatabaseUnavailable, *road.AWAY):
        async with run.ground.database.begin() as session:
            batch = await session.get(Batch, batch_id)
        if batch is not None:
            async with asyncio.timeout(_PATIENCE_S):
                await telling.tell_account(run.ground, batch)


async def _look(run: Run, request: ReadBatch) -> Batch:
    async with run.ground.database.begin() as session:
        return await verdicts.locked(session, request.input.batch)


async def _validate(batch: Batch, run: Run) -> None:
    is_read = batch.fitted_line or 0 < batch.size_bytes <= batch.read_bytes
    if batch.source == "retry":
        await _copy(batch, run)
    elif not is_read:
        area, key = await _held(partial(inputs.place, run.ground, batch))
        async with inputs.opened(run.ground, area, key) as fd:
            await _read(batch, fd, run)
    taken = await _held(partial(holding.hold, run.ground, batch.id))
    for crossing in taken.crossings:
        await run.say(events.quota_warning(crossing.meter, crossing.percent))
    if not taken.is_all:
        await _fit(batch, run)


async def _read(batch: Batch, fd: int, run: Run) -> None:
    """Keep the lines of the input; while one chunk is written, the next one is decoded."""
    settings, progress = run.settings, _Progress(run, batch.size_bytes)
    asking = Asking(settings=settings, plan=await _held(partial(_plan, run, batch)))
    reader = Reader(run.specs, asking, economy=batch.economy)

    async def look_up(file_ids: Collection[UUID]) -> Mapping[UUID, Attached]:
        wanted = [(batch.account_id, list(file_ids))]
        (found,) = await _held(partial(attached.look_up, run.ground, wanted))
        return found

    most = {"line_bytes": settings.body_limit_bytes, "most_lines": settings.batch_lines}
    lines = reading.Input(fd, reader, batch, look_up=look_up, **most)
    coming = asyncio.create_task(lines.chunk())
    try:
        while (chunk := await coming) is not None:
            coming = asyncio.create_task(lines.chunk())
            await _held(partial(reading.keep, run.ground, batch.id, chunk))
            await progress.say(chunk.end)
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


async def _plan(run: Run, batch: Batch) -> str:
    async with run.ground.database.begin() as session:
        return (await session.get_one(Account, batch.account_id)).plan


async def _copy(batch: Batch, run: Run) -> None:
    start, is_over = batch.read_lines, False
    while not is_over:
        start, is_over = await _held(partial(copying.copy, run.ground, batch.id, start))


async def _fit(batch: Batch, run: Run) -> None:
    """Decide which lines fit into what could be held."""
    place: holding.Place | None = None
    while place is None or not place.is_last:
        place = await _held(partial(holding.fit, run.ground, batch.id, place))


class _Progress:
    """Says how far the reading is, now and then: it goes to the whole account's stream."""

    def __init__(self, run: Run, total: int) -> None:
        """Say it of `total` bytes."""
        self._run = run
        self._total = total
        self._next_at = 0.0

    async def say(self, done: int) -> None:
        """Say that so many bytes are kept, unless something was just said."""
        now = asyncio.get_running_loop().time()
        if now >= self._next_at:
            self._next_at = now + _TELL_EVERY_S
            await self._run.say(events.Progress(done=done, total=max(done, self._total), stage="reading"))


async def _held[T](deed: Callable[[], Awaitable[T]]) -> T:
    """Return what a deed returns that may be done twice, however long the database is away."""
    failures = 0
    while True:
        try:
            return await deed()
        except DatabaseUnavailable:
            failures += 1
            await asyncio.sleep(backoff.wait_s(failures, base_s=0.1, most_s=_LONGEST_WAIT_S))
