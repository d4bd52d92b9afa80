"""`/v1/jobs`: submit, look, list, cancel, retry."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from litestar import Request, Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, Parameter, QueryParameter
from msgspec import Struct

from api import body, paging, problems
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import LIVE, STATES, Account, Document, Job
from quotas.ledger import Standing
from workers import dead, jobs, kinds, lifecycle
from workers.desk import Desk
from workers.eta import Outlook
from workers.forecast import Forecasts
from workers.lifecycle import Admitted, Submission, Submitted

# How soon it is worth asking for a job again, in seconds.
_RETRY_AFTER_S = "1"


class InvalidIdempotencyKey(PulseError):
    """{field} must be 1 to 255 printable ASCII characters."""

    ar = "يجب أن يتكوّن {field} من محرف إلى 255 محرفًا قابلًا للطباعة من ASCII."
    status = 400


class Urls(Struct, frozen=True, kw_only=True):
    """Where to go on with a job."""

    self: str
    events: str
    cancel: str
    retry: str


class JobAnswer(Struct, frozen=True, kw_only=True):
    """A job. `charged` are units per meter, there once it is over; `cancel_requested` while it is being stopped.

    `tries` are the failures so far. `waiting` is there while the job waits for its turn (not in lists). `retry_of` is
    the failed job that this one is another go at, `retried_as` the other go at this one.
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


class SubmittedAnswer(Struct, frozen=True, kw_only=True):
    """An admitted job, and how the meters that it draws on stand now."""

    job: JobAnswer
    quota: dict[str, Standing]


class PageAnswer(Struct, frozen=True, kw_only=True):
    """Jobs, newest first; `next_cursor` asks for the ones after them, none when these were the last."""

    jobs: list[JobAnswer]
    next_cursor: str | None


def job_id(text: str) -> UUID:
    """Read a job's id from a path; one that is none is a job that does not exist."""
    try:
        return UUID(text)
    except ValueError:
        raise jobs.JobNotFound from None


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


def _idempotency_key(request: Request[Any, Any, Any]) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not (1 <= len(key) <= 255 and key.isascii() and key.isprintable()):
        raise InvalidIdempotencyKey(field="Idempotency-Key")
    return key


def _polite(job: Job) -> dict[str, str]:
    return {"Retry-After": _RETRY_AFTER_S} if job.state in LIVE else {}


async def _submitted(
    request: Request[Any, Any, Any], submitted: Submitted, forecasts: Forecasts
) -> Response[SubmittedAnswer]:
    job = answer(request, submitted.job, await forecasts.of(submitted.job))
    headers = {"Location": job.urls.self, "Retry-After": _RETRY_AFTER_S}
    if submitted.known == "replayed":
        headers["Idempotent-Replayed"] = "true"
    elif submitted.known is not None:
        headers["Existing-Job"] = "true"
    return Response(SubmittedAnswer(job=job, quota=submitted.quota), headers=headers)


@post("/", status_code=202, rate="submit", summary="Submit a job")
async def submit(
    request: Request[Any, Any, Any],
    account: NamedDependency[Account],
    desk: NamedDependency[Desk],
    forecasts: NamedDependency[Forecasts],
) -> Response[SubmittedAnswer]:
    """Admit a job and answer at once; follow it by its `urls`. The most that it can cost is held until it ends.

    `Existing-Job: true` says that a job under the same `unique_key` lives, which is the answer then.
    """
    key = _idempotency_key(request)
    asked = await body.read(request, kinds.SPECS)
    submitted = await desk.submit(Submission(account=account, request=asked, idempotency_key=key))
    return await _submitted(request, submitted, forecasts)


@get("/{id:str}", summary="Get a job")
async def show(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
    forecasts: NamedDependency[Forecasts],
) -> Response[JobAnswer]:
    """Return the job with its state, its turn while it waits and, once it is over, its result or error."""
    async with ground.database.begin() as session:
        job = await jobs.get(session, account.id, job_id(id))
    return Response(answer(request, job, await forecasts.of(job)), headers=_polite(job))


@get("/", summary="List jobs")
async def page(
    request: Request[Any, Any, Any],
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
    cursor: Annotated[str | None, Parameter(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[str, Parameter(description="Jobs a page, 1 to 100.")] = "20",
    only_state: Annotated[str | None, QueryParameter(name="state", description="Only jobs in this state.")] = None,
) -> PageAnswer:
    """Return the account's jobs, newest first."""
    most = paging.limit_of(limit)
    wanted, before = paging.state_of(only_state, STATES), paging.before(cursor)
    async with ground.database.begin() as session:
        found = await jobs.page(session, account.id, before=before, limit=most + 1, state=wanted)
    shown = found[:most]
    more = len(found) > len(shown)
    return PageAnswer(jobs=[answer(request, job) for job in shown], next_cursor=str(shown[-1].id) if more else None)


@post("/{id:str}/cancel", status_code=202, summary="Cancel a job")
async def cancel(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
) -> Response[JobAnswer]:
    """Stop a job. Queued: it ends now and costs nothing. Running: what was used is charged, what was made is kept."""
    job = await lifecycle.cancel(ground, account.id, job_id(id))
    return Response(answer(request, job), headers=_polite(job))


@post("/{id:str}/retry", status_code=202, rate="submit", summary="Retry a failed job")
async def retry(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
    desk: NamedDependency[Desk],
    forecasts: NamedDependency[Forecasts],
) -> Response[SubmittedAnswer]:
    """Give a failed job another go, as a new job. Asked again, the answer is the job that was made then."""
    return await _submitted(request, await dead.replay(ground, desk, account, job_id(id)), forecasts)


def router() -> Router:
    """Return the routes."""
    return Router(
        "/v1/jobs", route_handlers=[submit, show, page, cancel, retry], tags=["jobs"], security=[{"apiKey": []}]
    )
