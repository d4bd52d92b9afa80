"""What is asked, and what it is answered: the shapes of a submission on its way."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec
from msgspec import Struct, field

from infra import ids
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Account, Document, Job
from infra.overview import Place
from infra.queue import Lane
from quotas import ledger
from quotas.ledger import QuotaExceeded
from workers import pools
from workers.lifecycle import names
from workers.request import Asking, Attached, Request

#: How a job was there before: submitted under the same Idempotency-Key, alive under the same unique key, or made as
#: another go at the same failed job.
type Before = Literal["replayed", "unique", "replay"]

# What a request says beside its kind and input has columns of its own.
_COLUMNS = frozenset(Request.__struct_fields__)


class Submission(Struct, frozen=True, kw_only=True):
    """What an account asks for, under the id that its job will have: asked again with it, it is admitted once.

    `replay_of` is the failed job of its own that this is another go at, `batch_id` the batch that it belongs to. It is
    cancelled when it is not over `cancel_after_s` seconds after it was made, which is the moment that its id tells.
    `files` are what is known of those that the request names; an Idempotency-Key holds for its `route`.
    """

    account: Account
    request: Request
    id: UUID = field(default_factory=ids.new)
    idempotency_key: str | None = None
    replay_of: UUID | None = None
    batch_id: UUID | None = None
    cancel_after_s: float | None = None
    files: Mapping[UUID, Attached] = {}
    route: str = names.JOBS_ROUTE


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
    timeout_s: int | None
    cancel_by: datetime | None
    webhook: str | None
    batch_id: UUID | None
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
    """An admitted job and how its meters stand; `known` says how it was there before, `crossings` what it crossed.

    `place` is where it waits, as far as that is known already.
    """

    job: Job | Admitted
    quota: dict[str, ledger.Standing]
    known: Before | None = None
    crossings: Sequence[ledger.Crossing] = ()
    place: Place | None = None


class Ready(Struct, frozen=True, kw_only=True):
    """A submission with everything worked out that needs no database: the job, its rows' JSON, the most it can cost.

    One that has a `refusal` is not admitted; it may still be answered by what was asked before. `print` is the
    fingerprint of a request with an Idempotency-Key. `request` is what is asked with its choices made.
    """

    asked: Submission
    request: Request
    job: Admitted
    pool: str
    spec: str
    labels: str | None
    most: Mapping[str, int]
    print: bytes | None
    refusal: PulseError | None = None

    @property
    def is_named(self) -> bool:
        """Whether what was asked before may be the answer."""
        asked = self.asked
        return not (asked.idempotency_key is None and asked.replay_of is None and self.job.unique_key is None)


def prepare(ground: Ground, asked: Submission) -> Ready:
    """Work out what a submission would be; what is wrong with it is its `refusal`."""
    request, most, refusal = asked.request, dict[str, int](), None
    try:
        request.check(ground.settings)
        asking = _asking(ground, asked)
        request = request.resolved(asking)
        most = request.most(asking)
    except PulseError as error:
        refusal = error
    return _ready(asked, request, most, refusal)


def cheaper(ground: Ground, ready: Ready, refusal: QuotaExceeded) -> Ready | None:
    """Return a submission that the quota did not allow as what may be made instead; None: there is nothing cheaper."""
    asking = _asking(ground, ready.asked)
    request = ready.asked.request.cheaper(asking, ready.request, str(refusal.facts["meter"]))
    return None if request is None else _ready(ready.asked, request, request.most(asking))


def _asking(ground: Ground, asked: Submission) -> Asking:
    return Asking(settings=ground.settings, plan=asked.account.plan, files=asked.files)


def _ready(asked: Submission, request: Request, most: Mapping[str, int], refusal: PulseError | None = None) -> Ready:
    job = _job(asked, request)
    return Ready(
        asked=asked,
        request=request,
        job=job,
        pool=pools.of(job.kind),
        spec=msgspec.json.encode(job.spec).decode(),
        labels=msgspec.json.encode(job.labels).decode() if job.labels else None,
        most=most,
        print=None if asked.idempotency_key is None else _print(asked),
        refusal=refusal,
    )


def _print(asked: Submission) -> bytes:
    """Return a submission's fingerprint; another go at a job is asked for by that job alone."""
    if asked.replay_of is not None:
        return names.fingerprint(f"{names.JOBS_ROUTE}/{asked.replay_of}/retry", None)
    return names.fingerprint(asked.route, asked.request)


def _job(asked: Submission, request: Request) -> Admitted:
    spec: Document = msgspec.to_builtins(request)
    for name in _COLUMNS:
        del spec[name]
    now = ids.created(asked.id)
    return Admitted(
        id=asked.id,
        account_id=asked.account.id,
        kind=request.kind,
        spec=spec,
        labels=request.metadata,
        created_at=now,
        run_at=now if request.run_at is None else max(now, request.run_at),
        lane=request.priority,
        start_by=request.start_deadline,
        timeout_s=request.timeout,
        cancel_by=None if asked.cancel_after_s is None else now + timedelta(seconds=asked.cancel_after_s),
        webhook=request.webhook,
        batch_id=asked.batch_id,
        unique_key=request.unique_key,
        replay_of=asked.replay_of,
    )
