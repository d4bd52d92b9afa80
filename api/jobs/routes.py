"""`/v1/jobs`: submit, look, list, cancel, retry."""

from typing import Annotated, Any

from litestar import Request, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, Parameter, QueryParameter
from litestar.types import ASGIApp

from api import answers, idempotency, paging
from api.jobs import looking, submitting
from api.jobs.answers import JobAnswer, PageAnswer, SubmittedAnswer, answer, polite
from api.jobs.submitting import Front
from api.paths import job_id
from infra.ground import Ground
from infra.models import STATES, Account
from workers import dead, jobs, lifecycle
from workers.desk import Desk
from workers.forecast import Forecasts

_SUBMITTED = ResponseSpec(SubmittedAnswer, generate_examples=False, description="The job was taken.")
_OVER = ResponseSpec(SubmittedAnswer, generate_examples=False, description="`Prefer: wait=N`: the job is over.")
_JOB = ResponseSpec(JobAnswer, generate_examples=False, description="The job.")
_PAGE = ResponseSpec(PageAnswer, generate_examples=False, description="A page of jobs.")


@post("/", status_code=202, rate="submit", responses={200: _OVER, 202: _SUBMITTED}, summary="Submit a job")
async def submit(
    request: Request[Any, Any, Any],
    account: NamedDependency[Account],
    front: NamedDependency[Front],
    desk: NamedDependency[Desk],
    forecasts: NamedDependency[Forecasts],
) -> ASGIApp:
    """Admit a job and answer at once; follow it by its `urls`. The most that it can cost is held until it ends.

    `Prefer: wait=N` holds the call until the job is over (200), N seconds at most (202). `Accept: text/event-stream` or
    `application/x-ndjson` answers with what the job says. `Cancel-After: 5m` has it cancelled if it is not over by
    then. `Idempotency-Key` makes it safe to ask again. `Existing-Job: true` says that a job under the same `unique_key`
    lives, which is the answer then.
    """
    return await submitting.submit(request, account, front, desk, forecasts)


@get("/{id:str}", responses={200: _JOB, 304: answers.KNOWN}, summary="Get a job")
async def show(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    front: NamedDependency[Front],
    forecasts: NamedDependency[Forecasts],
    wait: Annotated[
        str | None,
        Parameter(description="Seconds to hold the call: until the job is over or, with `If-None-Match`, is another."),
    ] = None,
) -> ASGIApp:
    """Return the job with its state, its turn while it waits and, once it is over, its result or error.

    `ETag` and `If-None-Match` make looking again cheap: 304 says that nothing has changed.
    """
    return await looking.show(request, account, job_id(id), front, forecasts, wait)


@get("/", responses={200: _PAGE, 304: answers.KNOWN}, summary="List jobs")
async def page(
    request: Request[Any, Any, Any],
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
    cursor: Annotated[str | None, Parameter(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[str, Parameter(description="Jobs a page, 1 to 100.")] = "20",
    only_state: Annotated[str | None, QueryParameter(name="state", description="Only jobs in this state.")] = None,
    in_batch: Annotated[str | None, QueryParameter(name="batch", description="Only jobs of this batch.")] = None,
) -> ASGIApp:
    """Return the account's jobs, newest first."""
    most = paging.limit_of(limit)
    wanted, before, batch_id = paging.state_of(only_state, STATES), paging.before(cursor), paging.batch_of(in_batch)
    async with ground.database.begin() as session:
        found = await jobs.page(session, account.id, before=before, limit=most + 1, state=wanted, batch_id=batch_id)
    shown, next_cursor = paging.cut(found, most)
    told = PageAnswer(jobs=[answer(request, job) for job in shown], next_cursor=next_cursor)
    return answers.send_new(request, answers.encode(told))


@post("/{id:str}/cancel", status_code=202, responses={202: _JOB}, summary="Cancel a job")
async def cancel(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
) -> ASGIApp:
    """Stop a job. Queued: it ends now and costs nothing. Running: what was used is charged, what was made is kept."""
    job = await lifecycle.cancel(ground, account.id, job_id(id))
    return answers.send(answer(request, job), status_code=202, headers=polite(job))


@post("/{id:str}/retry", status_code=202, rate="submit", responses={202: _SUBMITTED}, summary="Retry a failed job")
async def retry(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
    desk: NamedDependency[Desk],
    forecasts: NamedDependency[Forecasts],
) -> ASGIApp:
    """Give a failed job another go, as a new job. Asked again, the answer is the job that was made then."""
    key = idempotency.key_of(request)
    submitted = await dead.replay(ground, desk, account, job_id(id), key=key)
    return await submitting.tell(request, submitted, forecasts)
