"""Results and errors as bytes that only grow: any part of them, a page at a time, from the rows that keep them."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import TextClause, text

from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Batch
from infra.settings import Settings

#: All that is told of a batch's lines, or of those of them that are no success.
type Which = Literal["results", "errors"]

# What is read at a time, where a single line is not longer.
_PAGE_BYTES = 512 * 1024


class ResultsGone(PulseError):
    """The results of this batch were kept for {days} days, and are gone."""

    ar = "حُفظت نتائج هذه الدفعة {days} يومًا ثم حُذفت."
    status = 410


class ResultsBrokenOff(Exception):
    """Less is there than was said to be: it was removed while it was read."""


def check_kept(batch: Batch, settings: Settings) -> None:
    """Raise `ResultsGone` where a batch is over for longer than its results are kept."""
    days = settings.batch_keep_days
    if batch.finished_at is not None and batch.finished_at + timedelta(days=days) < datetime.now(UTC):
        raise ResultsGone(days=days)


def length(batch: Batch, which: Which) -> int:
    """Return how long they are by now, in bytes."""
    return batch.results_bytes if which == "results" else batch.errors_bytes


async def read(ground: Ground, batch_id: UUID, which: Which, start: int, end: int) -> AsyncGenerator[bytes]:
    """Yield the bytes from `start` to `end`, all of which are there.

    Raises `DatabaseUnavailable`, after which it may be gone on from where it was, and `ResultsBrokenOff`.
    """
    while start < end:
        given = {"batch": batch_id, "start": start, "most": min(_PAGE_BYTES, end - start)}
        ((page_end, page),) = await ground.database.ask(_PAGES[which], given)
        if page is None:
            raise ResultsBrokenOff
        first = page_end - len(page)  # where the first line begins, of which a part may have been read before
        piece = page[start - first : end - first]
        start += len(piece)
        yield piece


def _page(column: str, only: str) -> TextClause:
    """Return what reads lines that end after `start`, of so many bytes at most, but one in any case."""
    return text(f"""
        SELECT max(r.{column}), convert_to(string_agg(r.told, '' ORDER BY r.{column}), 'UTF8')
        FROM batch_results r
        WHERE r.batch_id = CAST(:batch AS uuid) AND {only} AND r.{column} > CAST(:start AS bigint)
              AND r.{column} <= greatest(CAST(:start AS bigint) + CAST(:most AS bigint), (
                  SELECT f.{column} FROM batch_results f
                  WHERE f.batch_id = CAST(:batch AS uuid) AND {only.replace("r.", "f.")}
                        AND f.{column} > CAST(:start AS bigint)
                  ORDER BY f.{column} LIMIT 1))
    """)  # noqa: S608 (columns of our own)


_PAGES: dict[Which, TextClause] = {"results": _page("results_end", "true"), "errors": _page("errors_end", "r.is_error")}
