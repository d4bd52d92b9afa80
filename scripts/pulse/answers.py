"""What the command reads of the API's answers; members that it does not show are left out."""

import uuid
from datetime import datetime

from msgspec import Struct


class JobError(Struct):
    """Why a job failed."""

    code: str
    detail: str


class Span(Struct):
    """Seconds from now."""

    p50: float
    p90: float


class Waiting(Struct):
    """A waiting job's place in its lane, and when it should start and finish."""

    position: int
    starts_in_s: Span | None = None
    finishes_in_s: Span | None = None


class Job(Struct):
    """What the command shows of a job."""

    id: uuid.UUID
    kind: str
    state: str
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested: bool
    result: dict[str, object] | None
    error: JobError | None
    charged: dict[str, int] | None
    waiting: Waiting | None = None
    retry_of: uuid.UUID | None = None
    retried_as: uuid.UUID | None = None


class Standing(Struct):
    """How a meter stands, in units."""

    limit: int
    used: int


class Submitted(Struct):
    """An admitted job, and how the meters that it draws on stand."""

    job: Job
    quota: dict[str, Standing]


class Page(Struct):
    """Jobs, newest first."""

    jobs: list[Job]
    next_cursor: str | None
