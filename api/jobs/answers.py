"""What is told of jobs: the shapes, and how they are made of what is kept."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request
from msgspec import Struct

from api import answers, problems
from infra.models import LIVE, Document, Job
from quotas.ledger import Standing
from workers.eta import Outlook
from workers.lifecycle import Admitted

# How soon it is worth asking for a job again, in seconds.
RETRY_AFTER_S = "1"


class Urls(Struct, frozen=True, kw_only=True):
    """Where to go on with a job."""

    self: str
    events: str
    cancel: str
    retry: str


class JobAnswer(Struct, frozen=True, kw_only=True):
    """A job. `charged` are units per meter, there once it is over; `cancel_requested` while it is being stopped.

    `tries` are the failures so far. `timeout` is the longest that one try may run, in seconds, where less was asked
    than its kind allows; `cancel_by` is when it is cancelled if it is not over. `waiting` is there while the job waits
    for its turn (not in lists). `retry_of` is the failed job that this one is another go at, `retried_as` the other go
    at this one.
    """

    id: UUID
    kind: str
    state: str
    attempt: int
    tries: int
    priority: str
    created_at: datetime
    run_at: datetime
    start_deadline: datetime | None
    timeout: int | None
    cancel_by: datetime | None
    webhook: str | None
    batch_id: UUID | None
    unique_key: str | None
    waiting: Outlook | None
    retry_of: UUID | None
    retried_as: UUID | None
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested: bool
    input: Document
    metadata: Document
    result: Document | None
    error: problems.Reason | None
    charged: dict[str, int] | None
    urls: Urls


class Chosen(Struct, frozen=True, kw_only=True):
    """Why a model answers: a stable code, and words in both languages."""

    code: str
    en: str
    ar: str


class SubmittedAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An admitted job, and how the meters that it draws on stand now.

    `model` is the one that is to answer and `reason` says why, where the job asks one.
    """

    job: JobAnswer
    quota: Mapping[str, Standing]
    model: str | None = None
    reason: Chosen | None = None


class PageAnswer(Struct, frozen=True, kw_only=True):
    """Jobs, newest first; `next_cursor` asks for the ones after them, none when these were the last."""

    jobs: list[JobAnswer]
    next_cursor: str | None


def answer(request: Request[Any, Any, Any], job: Job | Admitted, waiting: Outlook | None = None) -> JobAnswer:
    """Return the job as its account sees it."""
    path = f"/v1/jobs/{job.id}"
    return JobAnswer(
        id=job.id,
        kind=job.kind,
        state=job.state,
        attempt=job.attempt,
        tries=job.tries,
        priority=job.lane,
        created_at=job.created_at,
        run_at=job.run_at,
        start_deadline=job.start_by,
        timeout=job.timeout_s,
        cancel_by=job.cancel_by,
        webhook=job.webhook,
        batch_id=job.batch_id,
        unique_key=job.unique_key,
        waiting=waiting,
        retry_of=job.replay_of,
        retried_as=job.replayed_as,
        started_at=job.started_at,
        finished_at=job.finished_at,
        cancel_requested=job.cancel_requested_at is not None,
        input=job.spec["input"],
        metadata=job.labels,
        result=job.result,
        error=problems.reason(request, job.error),
        charged=job.charged,
        urls=Urls(self=path, events=f"{path}/events", cancel=f"{path}/cancel", retry=f"{path}/retry"),
    )


class _Routing(Struct):
    reason: Chosen


class _Input(Struct):
    """What of a kept input tells who answers; kinds that ask no model have none of it."""

    model: str | None = None
    routing: _Routing | None = None


def choice(job: Job | Admitted) -> tuple[str | None, Chosen | None]:
    """Return the model that is to answer, and why."""
    kept: Any = job.spec["input"]
    found = msgspec.json.decode(kept, type=_Input) if isinstance(kept, msgspec.Raw) else msgspec.convert(kept, _Input)
    return found.model, found.routing and found.routing.reason


def tag_of(told: JobAnswer, body: bytes) -> str:
    """Return the tag of a job told as `body`: of all of it but the times of its turn, which every moment changes."""
    if told.waiting is None:
        return answers.tag_of(body)
    place = msgspec.structs.replace(told.waiting, starts_in_s=None, finishes_in_s=None)
    return answers.tag_of(answers.encode(msgspec.structs.replace(told, waiting=place)))


def polite(job: Job | Admitted) -> dict[str, str]:
    """Return the header that tells when to look again at a job that is not over."""
    return {"Retry-After": RETRY_AFTER_S} if job.state in LIVE else {}
