"""Reads a batch's input into lines: chunk after chunk, each kept in one transaction from where the last one ended.

So a death anywhere goes on where it stopped, and whoever was taken for dead and comes back changes nothing.
"""

import asyncio
import os
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from infra.ground import Ground
from infra.models import Batch
from infra.storage import StorageUnavailable
from infra.whole import whole
from workers import lifecycle
from workers.batches import results, telling, verdicts
from workers.batches.cutting import Cut, Cutter
from workers.batches.lines import Line, Reader, Refusal, Waiting
from workers.batches.refusals import DuplicateCustomId, TooManyLines
from workers.request import Attached

_PIECE_BYTES: Final = 128 * 1024
# A chunk ends with the line with which it is so large: in memory it takes a few times its bytes.
_CHUNK_LINES: Final = 1000
_CHUNK_BYTES: Final = 2 * 1024 * 1024
# Others have their turn after so many lines, and after so many bytes of them.
_TURN_LINES: Final = 64
_TURN_BYTES: Final = 64 * 1024


#: Finds what is known of the account's files.
type LookUp = Callable[[Collection[UUID]], Awaitable[Mapping[UUID, Attached]]]


class Chunk(Struct, frozen=True, kw_only=True):
    """Some lines of the input: from byte `start` up to byte `end`, after which the line `number` + 1 begins."""

    start: int
    end: int
    number: int
    lines: list[Line]
    refused: list[Refusal]


class Input:
    """The lines of an open file, from where a batch was read to."""

    def __init__(
        self, fd: int, reader: Reader, batch: Batch, *, look_up: LookUp, line_bytes: int, most_lines: int
    ) -> None:
        """Read `fd`; a line may have `line_bytes`, and the batch `most_lines`. `look_up` finds files that are named."""
        self._fd = fd
        self._reader = reader
        self._look_up = look_up
        self._cutter = Cutter(batch.read_bytes, batch.read_lines, line_bytes)
        self._cuts = deque[Cut]()
        self._place = self._read = batch.read_bytes
        self._number = batch.read_lines
        self._most_lines, self._lines = most_lines, batch.lines
        self._is_over = False

    async def chunk(self) -> Chunk | None:
        """Return the next lines, None after the last; raises `TooManyLines`, and `StorageUnavailable`.

        While they are decoded, others have their turns.
        """
        start, lines, refused, waiting = self._place, list[Line](), list[Refusal](), list[Waiting]()
        turn_lines = turn_bytes = 0
        while len(lines) + len(refused) + len(waiting) < _CHUNK_LINES and self._place - start < _CHUNK_BYTES:
            cut = await self._cut()
            if cut is None:
                self._place, self._number = self._cutter.place, self._cutter.number  # of blank lines, at the end
                break
            turn_lines, turn_bytes = turn_lines + 1, turn_bytes + cut.end - self._place
            self._place, self._number = cut.end, cut.number
            match self._line(cut):
                case Line() as line:
                    lines.append(line)
                case Waiting() as named:
                    waiting.append(named)
                case Refusal() as refusal:
                    refused.append(refusal)
            if turn_lines >= _TURN_LINES or turn_bytes >= _TURN_BYTES:
                turn_lines = turn_bytes = 0
                await asyncio.sleep(0)
        if self._place == start:
            return None
        if waiting:
            await self._finish(waiting, lines, refused)
        return Chunk(start=start, end=self._place, number=self._number, lines=lines, refused=refused)

    async def _finish(self, waiting: list[Waiting], lines: list[Line], refused: list[Refusal]) -> None:
        """Add the lines that name files to the others, in their order."""
        files = await self._look_up({file_id for named in waiting for file_id in named.request.file_ids()})
        for named in waiting:
            match self._reader.finish(named, files):
                case Line() as line:
                    lines.append(line)
                case refusal:
                    refused.append(refusal)
        lines.sort(key=lambda line: line.line)

    def _line(self, cut: Cut) -> Line | Refusal | Waiting:
        self._lines += 1
        if self._lines > self._most_lines:
            raise TooManyLines(limit=self._most_lines)
        if cut.raw is None:
            return self._reader.too_long(cut.number)
        return self._reader.read(cut.number, cut.raw, is_open=cut.is_open)

    async def _cut(self) -> Cut | None:
        while not self._cuts and not self._is_over:
            piece = await self._piece()
            self._read += len(piece)
            self._is_over = not piece
            self._cuts.extend(self._cutter.feed(piece) if piece else self._cutter.finish())
        return self._cuts.popleft() if self._cuts else None

    async def _piece(self) -> bytes:
        try:
            # To its end also when it is cancelled: nobody may close the file meanwhile.
            return await whole(asyncio.to_thread(os.pread, self._fd, _PIECE_BYTES, self._read))
        except OSError as error:
            raise StorageUnavailable from error


_KEEP = text("""
    WITH keeping AS (
        INSERT INTO batch_lines (batch_id, line, custom_id, form, kind, spec, labels, timeout_s, units, model)
        SELECT CAST(:batch AS uuid), g.line, g.custom_id, g.form, g.kind, CAST(g.spec AS jsonb),
               CAST(g.labels AS jsonb), g.timeout_s, CAST(g.units AS jsonb), g.model
        FROM unnest(CAST(:lines AS integer[]), CAST(:custom_ids AS text[]), CAST(:forms AS text[]),
                    CAST(:kinds AS text[]), CAST(:specs AS text[]), CAST(:labels AS text[]),
                    CAST(:timeouts AS integer[]), CAST(:units AS text[]),
                    CAST(:models AS text[]))
             AS g(line, custom_id, form, kind, spec, labels, timeout_s, units, model)
        ON CONFLICT (batch_id, custom_id) DO NOTHING
        RETURNING line
    )
    SELECT count(*) FROM keeping
""")
_FIRSTS = text("""
    SELECT custom_id, line FROM batch_lines
    WHERE batch_id = :batch AND custom_id = ANY(CAST(:custom_ids AS text[]))
""")


async def keep(ground: Ground, batch_id: UUID, chunk: Chunk) -> None:
    """Keep a chunk's lines, tell what was refused of it, and move on to its end, all or nothing.

    Kept again, as after `DatabaseUnavailable`, it changes nothing. Raises `NotValidating` and `ReadElsewhere`.
    """
    async with ground.database.begin() as session:
        batch = await verdicts.locked(session, batch_id)
        if batch.read_bytes == chunk.end:
            return
        if batch.read_bytes != chunk.start:
            raise verdicts.ReadElsewhere
        twice = await _keep_lines(session, batch_id, chunk.lines)
        refused = sorted([*chunk.refused, *twice], key=lambda refusal: refusal.line)
        await results.append(session, batch, [told(refusal) for refusal in refused])
        batch.read_bytes, batch.read_lines = chunk.end, chunk.number
        batch.lines += len(chunk.lines) + len(chunk.refused)
        lost = {refusal.line for refusal in twice}
        batch.needs = _sum([batch.needs, *(line.units for line in chunk.lines if line.line not in lost)])


def told(refusal: Refusal) -> results.Told:
    """Return what is told of a line that is refused."""
    return telling.tell(
        refusal.line, refusal.custom_id, refusal.form, "rejected", error=refusal.error, is_kept=refusal.is_kept
    )


async def _keep_lines(session: AsyncSession, batch_id: UUID, lines: Sequence[Line]) -> list[Refusal]:
    """Keep lines; returns those that have the custom_id of one that stands before them."""
    if not lines:
        return []
    kept = await session.scalar(_KEEP, {"batch": batch_id, **_columns(lines)})
    if kept == len(lines):
        return []
    custom_ids = [line.custom_id for line in lines]
    rows = await session.execute(_FIRSTS, {"batch": batch_id, "custom_ids": custom_ids})
    firsts: dict[str, int] = {row.custom_id: row.line for row in rows}
    return [
        Refusal(
            line=line.line,
            custom_id=line.custom_id,
            form=line.form,
            error=lifecycle.failure(DuplicateCustomId(first=firsts[line.custom_id])),
        )
        for line in lines
        if firsts[line.custom_id] != line.line
    ]


def _columns(lines: Sequence[Line]) -> dict[str, list[object]]:
    return {
        "lines": [line.line for line in lines],
        "custom_ids": [line.custom_id for line in lines],
        "forms": [line.form for line in lines],
        "kinds": [line.kind for line in lines],
        "specs": [line.spec.decode() for line in lines],
        "labels": [None if line.labels is None else line.labels.decode() for line in lines],
        "timeouts": [line.timeout_s for line in lines],
        "units": [msgspec.json.encode(line.units).decode() for line in lines],
        "models": [line.model for line in lines],
    }


def _sum(units: Sequence[dict[str, int]]) -> dict[str, int]:
    total = Counter[str]()
    for each in units:
        total.update(each)
    return dict(total)
