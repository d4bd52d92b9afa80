"""What the command reads of the API's answers; members that it does not show are left out."""

import uuid
from datetime import datetime

from msgspec import Struct

from scripts.pulse.words import Language


class Reason(Struct):
    """Why a job failed, or a file was rejected."""

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
    error: Reason | None
    charged: dict[str, int] | None
    waiting: Waiting | None = None
    timeout: int | None = None
    cancel_by: datetime | None = None
    webhook: str | None = None
    retry_of: uuid.UUID | None = None
    retried_as: uuid.UUID | None = None


class Standing(Struct):
    """How a meter stands, in units."""

    limit: int
    used: int


class Why(Struct):
    """Why a model answers."""

    code: str
    en: str
    ar: str


class Submitted(Struct):
    """An admitted job, and how the meters that it draws on stand; who is to answer, and why."""

    job: Job
    quota: dict[str, Standing]
    model: str = ""
    reason: Why | None = None

    def chosen(self, language: Language) -> str:
        """Return who answers and why, where that is news to whoever asked."""
        if self.reason is None or self.reason.code == "asked":
            return ""
        return f"{self.model}: {getattr(self.reason, language)}"


class Page(Struct):
    """Jobs, newest first."""

    jobs: list[Job]
    next_cursor: str | None


class File(Struct):
    """What the command shows of a file; `size_bytes` and `sha256` are those of what is served, once it is ready."""

    id: uuid.UUID
    name: str
    folder: str
    purpose: str
    state: str
    media_type: str
    size_bytes: int
    sha256: str | None
    error: Reason | None
    created_at: datetime
    decided_at: datetime | None = None
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None
    frames: int | None = None
    pages: int | None = None
    lines: int | None = None
    variants: list[str] = []
    job_id: uuid.UUID | None = None


class Form(Struct):
    """How to upload: POST the fields in their order, and then the bytes as `file`, to the address."""

    url: str
    fields: dict[str, str]


class Announced(Struct):
    """A file that may be uploaded, and how."""

    file: File
    upload: Form
    warnings: list[str] = []


class Files(Struct):
    """Files, newest first."""

    files: list[File]
    next_cursor: str | None


class Folder(Struct):
    """A folder, how many files are in it, and how much they are together."""

    folder: str
    files: int
    size_bytes: int


class Folders(Struct):
    """The folders that have files."""

    folders: list[Folder]
