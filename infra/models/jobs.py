"""What was asked and what became of it: jobs, and the idempotency keys under which they were submitted."""

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from infra.models.base import Document, Id, Moment, Now, Table

STATES = ("queued", "running", "succeeded", "failed", "canceled", "expired")
LIVE = ("queued", "running")
LANES = ("interactive", "batch")


class Job(Table):
    """One request to make something. Written by `workers/lifecycle/` alone."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(f"state IN {STATES}", name="state"),
        CheckConstraint(f"lane IN {LANES}", name="lane"),
        CheckConstraint(f"(finished_at IS NULL) = (state IN {LIVE})", name="finished"),
        Index("ix_jobs_account_id_id", "account_id", text("id DESC")),
        # No index speaks of a column that a claim changes, so that a claim stays on its page (HOT).
        # What the tender walks: only the few jobs that are not over.
        Index("ix_jobs_unfinished", "id", postgresql_where=text("finished_at IS NULL")),
        # What is counted before a new job of an account is taken.
        Index("ix_jobs_account_id_unfinished", "account_id", postgresql_where=text("finished_at IS NULL")),
        Index("ix_jobs_start_by", "start_by", postgresql_where=text("start_by IS NOT NULL AND finished_at IS NULL")),
        Index("ix_jobs_cancel_by", "cancel_by", postgresql_where=text("cancel_by IS NOT NULL AND finished_at IS NULL")),
        # The jobs of a batch, in lists.
        Index("ix_jobs_batch_id_id", "batch_id", text("id DESC"), postgresql_where=text("batch_id IS NOT NULL")),
        # Dead letters: what failed and was not given another go.
        Index("ix_jobs_dead", "id", postgresql_where=text("error IS NOT NULL AND replayed_as IS NULL")),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    id: Mapped[Id]
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"))
    kind: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="queued")
    #: The request as it was decoded, with `auto` choices resolved.
    spec: Mapped[Document]
    #: The caller's own labels, given back as they came.
    labels: Mapped[Document] = mapped_column(server_default=text("'{}'"))
    #: Fencing token: counted up by every claim; only its holder may write.
    attempt: Mapped[int] = mapped_column(Integer, server_default="0")
    #: Failures so far; a shutdown or a lost lease is none.
    tries: Mapped[int] = mapped_column(Integer, server_default="0")
    #: Attempts whose worker was never heard of again; too many of them, and the job is what kills the workers.
    losses: Mapped[int] = mapped_column(Integer, server_default="0")
    created_at: Mapped[Now]
    #: Not to be claimed before this moment (asked for, or a retry's backoff).
    run_at: Mapped[Now]
    #: Which lane of its pool's queue it waits in.
    lane: Mapped[str] = mapped_column(server_default="interactive")
    #: Expires, uncharged, when it has not been started for the first time by this moment.
    start_by: Mapped[Moment | None]
    #: The longest that one try may run, in seconds, where the caller wants less than its kind allows.
    timeout_s: Mapped[int | None] = mapped_column(Integer)
    #: Cancelled, whatever it does, when it is not over by this moment.
    cancel_by: Mapped[Moment | None]
    #: Whom to tell: a URL of the caller's.
    webhook: Mapped[str | None]
    #: The batch that it was handed over with.
    batch_id: Mapped[UUID | None]
    #: The caller's name for what may be live only once (`UniqueJob`).
    unique_key: Mapped[str | None]
    #: The failed job that this one is another go at, and the job that another go was made as.
    replay_of: Mapped[UUID | None]
    replayed_as: Mapped[UUID | None]
    started_at: Mapped[Moment | None]
    finished_at: Mapped[Moment | None]
    cancel_requested_at: Mapped[Moment | None]
    #: What a room needs to resume, and what was used so far.
    checkpoint: Mapped[Document | None]
    result: Mapped[Document | None]
    #: `{code, en, ar, ...}` of a failed job.
    error: Mapped[Document | None]
    #: Units charged per meter, set once with the terminal state.
    charged: Mapped[Document | None]
    #: What the last attempt said, compacted (`workers/transcript.py`).
    transcript: Mapped[Document | None]


class IdempotencyKey(Table):
    """A caller's own name for a call that makes something, so that calling twice makes it once."""

    __tablename__ = "idempotency_keys"

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    #: SHA-256 of the route and the decoded request: the same key with another request is refused.
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)
    #: What the call made: a job, or a file.
    subject_id: Mapped[UUID]
    created_at: Mapped[Now]
    expires_at: Mapped[Moment] = mapped_column(index=True)


class UniqueJob(Table):
    """The live job of an account under a caller's `unique_key`; gone when that job is over."""

    __tablename__ = "unique_jobs"

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[UUID]
