"""What is told of batches: the shapes, and how they are made of what is kept."""

from datetime import datetime
from typing import Any
from uuid import UUID

from litestar import Request
from msgspec import Struct

from api import problems
from infra.models import BATCH_LIVE, Batch, Document
from workers.batches import telling

# How soon it is worth asking for a batch again, in seconds.
_RETRY_AFTER_S = "2"


class Counts(Struct, frozen=True, kw_only=True):
    """How many lines there are by now, and how many of them are where.

    `rejected` never became a job; `waiting` are to become one, `running` are one that is not over.
    """

    lines: int
    rejected: int
    waiting: int
    running: int
    succeeded: int
    failed: int
    canceled: int
    expired: int


class BatchUrls(Struct, frozen=True, kw_only=True):
    """Where to go on with a batch."""

    self: str
    events: str
    jobs: str
    results: str
    errors: str
    cancel: str
    retry: str


class BatchAnswer(Struct, frozen=True, kw_only=True):
    """A batch. `charged` are units per meter until now.

    While it is `validating`, `read_bytes` of its `size_bytes` were read. It is accepted when all of its lines are, and
    what they may cost is held. `job_id` is its reading. `results_bytes` and `errors_bytes` are how long those are by
    now. `retry_of` is the batch whose failed lines it is another go at; the lines of that are read, and no bytes.
    """

    id: UUID
    state: str
    mode: str
    economy: bool
    created_at: datetime
    accepted_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime
    cancel_requested: bool
    size_bytes: int
    read_bytes: int
    counts: Counts
    charged: dict[str, int]
    error: problems.Reason | None
    metadata: Document
    webhook: str | None
    retry_of: UUID | None
    input_file_id: UUID | None
    job_id: UUID | None
    results_bytes: int
    errors_bytes: int
    urls: BatchUrls


class BatchesAnswer(Struct, frozen=True, kw_only=True):
    """Batches, newest first; `next_cursor` asks for the ones after them, none when these were the last."""

    batches: list[BatchAnswer]
    next_cursor: str | None


def answer(request: Request[Any, Any, Any], batch: Batch) -> BatchAnswer:
    """Return the batch as its account sees it."""
    path = f"/v1/batches/{batch.id}"
    return BatchAnswer(
        id=batch.id,
        state=batch.state,
        mode=batch.mode,
        economy=batch.economy,
        created_at=batch.created_at,
        accepted_at=batch.accepted_at,
        finished_at=batch.finished_at,
        expires_at=batch.expires_at,
        cancel_requested=batch.cancel_requested_at is not None,
        size_bytes=batch.size_bytes,
        read_bytes=batch.read_bytes,
        counts=Counts(**telling.counts(batch)),
        charged=batch.charged,
        error=problems.reason(request, batch.error),
        metadata=batch.labels,
        webhook=batch.webhook,
        retry_of=batch.source_id if batch.source == "retry" else None,
        input_file_id=batch.source_id if batch.source == "file" else None,
        job_id=batch.job_id,
        results_bytes=batch.results_bytes,
        errors_bytes=batch.errors_bytes,
        urls=BatchUrls(
            self=path,
            events=f"/v1/events?batch={batch.id}",
            jobs=f"/v1/jobs?batch={batch.id}",
            results=f"{path}/results",
            errors=f"{path}/errors",
            cancel=f"{path}/cancel",
            retry=f"{path}/retry",
        ),
    )


def polite(batch: Batch) -> dict[str, str]:
    """Return the header that tells when to look again at a batch that is not over."""
    return {"Retry-After": _RETRY_AFTER_S} if batch.state in BATCH_LIVE else {}
