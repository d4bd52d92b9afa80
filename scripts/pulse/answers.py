"""What the command reads of the API's answers; members that it does not show are left out."""

import uuid
from datetime import datetime

from msgspec import Struct


class JobError(Struct):
    """Why a job failed."""

    code: str
    detail: str


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
