"""Many jobs handed over in one call: batches, their lines, those of them that are jobs now, and what became of each."""

from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, ForeignKey, Index, Integer, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from infra.models.base import Count, Document, Id, Moment, Now, Table, Units

BATCH_STATES = ("validating", "running", "canceling", "completed", "failed", "canceled", "expired")
BATCH_LIVE = ("validating", "running", "canceling")
BATCH_MODES = ("each", "all")
BATCH_SOURCES = ("upload", "file", "retry")
LINE_FORMS = ("own", "openai", "anthropic")
PARCEL_STATES = ("packed", "sending", "sent", "landing", "returning", "over")


class Batch(Table):
    """A file of requests, each of which becomes a job. Written by `workers/batches/` alone.

    While it is validated its lines are read into `batch_lines`; then one hold on the account's meters is taken for all
    of them, and from then on they become jobs, a window at a time, each drawing its units from that hold.
    """

    __tablename__ = "batches"
    __table_args__ = (
        CheckConstraint(f"state IN {BATCH_STATES}", name="state"),
        CheckConstraint(f"mode IN {BATCH_MODES}", name="mode"),
        CheckConstraint(f"source IN {BATCH_SOURCES}", name="source"),
        CheckConstraint(f"(finished_at IS NULL) = (state IN {BATCH_LIVE})", name="finished"),
        Index("ix_batches_account_id_id", "account_id", text("id DESC")),
        # What the tender walks: only the few that are not over.
        Index("ix_batches_unfinished", "id", postgresql_where=text("finished_at IS NULL")),
        Index("ix_batches_finished_at", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
        # Which other goes a batch was given.
        Index("ix_batches_source_id", "source_id", postgresql_where=text("source = 'retry'")),
    )

    id: Mapped[Id]
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"))
    state: Mapped[str] = mapped_column(server_default="validating")
    #: `each`: every line for itself, as far as it goes; `all`: none of them unless all are right and fit the quota.
    mode: Mapped[str]
    #: Where the lines come from: the batch's own upload in quarantine, a ready file, or the failed lines of a batch.
    source: Mapped[str]
    #: The file or the batch that they come from.
    source_id: Mapped[UUID | None]
    #: Of the input.
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    #: The caller's own labels, given back as they came.
    labels: Mapped[Document] = mapped_column(server_default=text("'{}'"))
    #: Whom to tell: a URL of the caller's.
    webhook: Mapped[str | None]
    #: Its lines may go to their vendors' own batches, for half of the units, where the vendor has any.
    economy: Mapped[bool] = mapped_column(server_default=text("false"))
    #: The job that reads it.
    job_id: Mapped[UUID | None]
    created_at: Mapped[Now]
    #: What has not ended by then is given up.
    expires_at: Mapped[Moment]
    #: How far the input was read; moved in the transaction that keeps what was read, and only from where it stood.
    read_bytes: Mapped[Units]
    #: The number of the last line that was read.
    read_lines: Mapped[Count]
    #: Units per meter that the lines read until now may cost.
    needs: Mapped[Document] = mapped_column(server_default=text("'{}'"))
    #: `each`: until which line it was decided which lines fit into the hold.
    fitted_line: Mapped[Count]
    #: Until which line they are jobs, or over without having been one; but for those that are for vendors' batches.
    drawn_line: Mapped[Count]
    #: Until which line those are in parcels, or over without having been.
    parceled_line: Mapped[Count]
    #: Lines that are requests (or were meant to be), and of those: refused, made jobs (or over without having been one,
    #: where it was cancelled or its window closed), and how they ended.
    lines: Mapped[Count]
    rejected: Mapped[Count]
    drawn: Mapped[Count]
    succeeded: Mapped[Count]
    failed: Mapped[Count]
    canceled: Mapped[Count]
    expired: Mapped[Count]
    #: How long the results are by now, and those of them that are no success, in bytes.
    results_bytes: Mapped[Units]
    errors_bytes: Mapped[Units]
    #: Units charged per meter until now.
    charged: Mapped[Document] = mapped_column(server_default=text("'{}'"))
    #: `{code, en, ar, ...}` of a failed batch.
    error: Mapped[Document | None]
    accepted_at: Mapped[Moment | None]
    cancel_requested_at: Mapped[Moment | None]
    finished_at: Mapped[Moment | None]


class BatchLine(Table):
    """A line that can become a job: what is asked, and the most that it can cost."""

    __tablename__ = "batch_lines"
    __table_args__ = (
        # Not led by the batch: a plan for a batch that the statistics do not know yet takes the primary key.
        UniqueConstraint("custom_id", "batch_id"),
        CheckConstraint(f"form IN {LINE_FORMS}", name="form"),
        {"postgresql_partition_by": "RANGE (batch_id)"},
    )

    batch_id: Mapped[UUID] = mapped_column(primary_key=True)
    #: Its number in the input, from 1.
    line: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    custom_id: Mapped[str]
    #: In which shape it was asked, and is answered.
    form: Mapped[str]
    kind: Mapped[str]
    spec: Mapped[Document]
    labels: Mapped[Document | None]
    timeout_s: Mapped[int | None] = mapped_column(Integer)
    #: Units per meter.
    units: Mapped[Document]
    #: The model whose vendor's own batches it may go to; empty where it is for our pools.
    model: Mapped[str | None]
    #: It did not fit the quota: it is no job, but may be retried.
    refused: Mapped[bool] = mapped_column(server_default=text("false"))


class BatchParcel(Table):
    """Lines of a batch that go to a vendor's own batch together: those for `model` after one line, up to another.

    They are no jobs yet, and drawn is nothing of what they hold, until the vendor has made them (`landing`) or it turns
    out that it will not (`returning`: then they are drawn for our pools as any line is).
    """

    __tablename__ = "batch_parcels"
    __table_args__ = (
        CheckConstraint(f"state IN {PARCEL_STATES}", name="state"),
        CheckConstraint("(finished_at IS NULL) = (state <> 'over')", name="finished"),
        CheckConstraint("state NOT IN ('sent', 'landing') OR upstream_id IS NOT NULL", name="upstream"),
        Index("ix_batch_parcels_next_at", "next_at", postgresql_where=text("finished_at IS NULL")),
        Index("ix_batch_parcels_batch_id", "batch_id", postgresql_where=text("finished_at IS NULL")),
    )

    id: Mapped[Id]
    batch_id: Mapped[UUID] = mapped_column(ForeignKey("batches.id"))
    model: Mapped[str]
    after_line: Mapped[int] = mapped_column(Integer)
    until_line: Mapped[int] = mapped_column(Integer)
    lines: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(server_default="packed")
    #: Fencing token: counted up by whoever takes it in hand; only its holder may write.
    turn: Mapped[int] = mapped_column(Integer, server_default="0")
    #: Until when it is in somebody's hands, who is taken for dead after that.
    held_until: Mapped[Moment | None]
    #: When it is to be looked after again.
    next_at: Mapped[Now]
    #: Which of the vendor's keys it went to, and what its batch is called there.
    deployment: Mapped[str | None]
    upstream_id: Mapped[str | None]
    #: The vendor said itself that this batch is the parcel; where not, it was found by its time and its size.
    is_sure: Mapped[bool] = mapped_column(server_default=text("true"))
    #: Batches that were found so and turned out to be somebody else's.
    strangers: Mapped[list[str]] = mapped_column(ARRAY(Text()), server_default=text("'{}'"))
    #: When it was about to be sent: written before it is.
    sent_at: Mapped[Moment | None]
    #: When the vendor was asked to stop.
    canceled_at: Mapped[Moment | None]
    #: Failures in a row.
    tries: Mapped[int] = mapped_column(Integer, server_default="0")
    #: Code of the last failure.
    reason: Mapped[str | None]
    created_at: Mapped[Now]
    finished_at: Mapped[Moment | None]


class BatchFlight(Table):
    """A line that is a job now and whose end has not been gathered yet: a window of each batch, never all of it."""

    __tablename__ = "batch_flights"

    batch_id: Mapped[UUID] = mapped_column(primary_key=True)
    line: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    job_id: Mapped[UUID]


class BatchResult(Table):
    """What became of one line, as it is told: one line of the results, which only ever grow at their end."""

    __tablename__ = "batch_results"
    __table_args__ = (
        UniqueConstraint("line", "batch_id"),
        Index("ix_batch_results_errors", "batch_id", "errors_end", unique=True, postgresql_where=text("is_error")),
        {"postgresql_partition_by": "RANGE (batch_id)"},
    )

    batch_id: Mapped[UUID] = mapped_column(primary_key=True)
    #: The results' length with this one, in bytes.
    results_end: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    #: The errors' length with this one.
    errors_end: Mapped[int] = mapped_column(BigInteger)
    line: Mapped[int] = mapped_column(Integer)
    #: It is no success.
    is_error: Mapped[bool]
    #: Whether its request is kept (`batch_lines`), so that it can be asked again.
    is_kept: Mapped[bool]
    #: JSON on one line, with the line feed.
    told: Mapped[str]
