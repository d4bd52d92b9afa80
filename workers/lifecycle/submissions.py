"""What is asked, and what it is answered: the shapes of a submission on its way."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

from msgspec import Struct

from infra.models import Account, Document, Job
from infra.queue import Lane
from quotas import ledger
from workers.request import Request

#: How a job was there before: submitted under the same Idempotency-Key, alive under the same unique key, or made as
#: another go at the same failed job.
type Before = Literal["replayed", "unique", "replay"]


class Submission(Struct, frozen=True, kw_only=True):
    """What an account asks for. `replay_of` is the failed job of its own that this is another go at."""

    account: Account
    request: Request
    idempotency_key: str | None = None
    replay_of: UUID | None = None


class Admitted(Struct, frozen=True, kw_only=True):
    """A job as it was just kept; the same facts as its row (`infra.models.Job`), which nobody has to read for them."""

    id: UUID
    account_id: UUID
    kind: str
    spec: Document
    labels: Document
    created_at: datetime
    run_at: datetime
    lane: Lane
    start_by: datetime | None
    unique_key: str | None
    replay_of: UUID | None
    state: str = "queued"
    attempt: int = 0
    tries: int = 0
    replayed_as: UUID | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    result: Document | None = None
    error: Document | None = None
    charged: Document | None = None


class Submitted(Struct, frozen=True, kw_only=True):
    """An admitted job and how its meters stand; `known` says how it was there before, `crossings` what it crossed."""

    job: Job | Admitted
    quota: dict[str, ledger.Standing]
    known: Before | None = None
    crossings: Sequence[ledger.Crossing] = ()
