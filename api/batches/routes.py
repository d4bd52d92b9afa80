"""`/v1/batches`: hand over, look, list, cancel, retry, and take the results."""

from typing import Annotated, Any

from litestar import Request, get, post, route
from litestar.di import NamedDependency
from litestar.enums import HttpMethod
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, Parameter, QueryParameter
from litestar.types import ASGIApp

from api import answers, idempotency, multipart, paging, problems
from api.batches import looking, results, submitting
from api.batches.answers import BatchAnswer, BatchesAnswer, answer, polite
from api.batches.results import Source
from api.paths import batch_id
from api.ranges import RangeNotSatisfiable
from infra.ground import Ground
from infra.hub import Hub
from infra.models import BATCH_STATES, Account
from workers import intake
from workers.batches import retries, shelf
from workers.batches.rows import Made
from workers.batches.watch import Watch
from workers.desk import Desk

_BATCH = ResponseSpec(BatchAnswer, generate_examples=False, description="The batch.")
_BATCHES = ResponseSpec(BatchesAnswer, generate_examples=False, description="A page of batches.")
_LINES = ResponseSpec(
    bytes, generate_examples=False, media_type="application/x-ndjson", description="A line of JSON each."
)
_PART = ResponseSpec(
    bytes, generate_examples=False, media_type="application/x-ndjson", description="`Range`: a part of them."
)

_Follow = Annotated[
    str | None, Parameter(description="`true`: stay, and send lines as they come, until the batch is over.")
]


@post(
    "/",
    status_code=202,
    request_max_body_size=None,
    rate="submit",
    exception_handlers=multipart.REFUSALS,
    responses={202: _BATCH},
    summary="Hand over a batch",
)
async def submit(
    request: Request[Any, Any, Any],
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
    desk: NamedDependency[Desk],
) -> ASGIApp:
    """Take many jobs in one call, and answer when their lines are kept; they are read, held and run after that.

    As JSON: `input_file_id`, or `requests` of any number, in our own shape, OpenAI's or Anthropic's. Or the lines
    themselves (`application/jsonl`), with the options in the address; or a form, the options before the part `file`.
    `Idempotency-Key` makes it safe to ask again.
    """
    made = await submitting.submit(request, account, ground)
    return await _made(request, account, desk, made)


async def _made(request: Request[Any, Any, Any], account: Account, desk: Desk, made: Made) -> ASGIApp:
    batch = made.batch
    if not made.replayed:
        await intake.read(desk, account, batch)
    headers = {"Location": f"/v1/batches/{batch.id}", **polite(batch)} | (idempotency.REPLAYED if made.replayed else {})
    return answers.send(answer(request, batch), status_code=202, headers=headers)


@get("/{id:str}", responses={200: _BATCH, 304: answers.KNOWN}, summary="Get a batch")
async def show(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
    hub: NamedDependency[Hub],
    watch: NamedDependency[Watch],
    wait: Annotated[
        str | None,
        Parameter(
            description="Seconds to hold the call: until the batch is over or, with `If-None-Match`, is another."
        ),
    ] = None,
) -> ASGIApp:
    """Return the batch with its state and where its lines are."""
    return await looking.show(request, account, batch_id(id), ground, hub, watch, wait)


@get("/", responses={200: _BATCHES, 304: answers.KNOWN}, summary="List batches")
async def page(
    request: Request[Any, Any, Any],
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
    cursor: Annotated[str | None, Parameter(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[str, Parameter(description="Batches a page, 1 to 100.")] = "20",
    only_state: Annotated[str | None, QueryParameter(name="state", description="Only batches in this state.")] = None,
) -> ASGIApp:
    """Return the account's batches, newest first."""
    most = paging.limit_of(limit)
    wanted, before = paging.state_of(only_state, BATCH_STATES), paging.before(cursor)
    async with ground.database.begin() as session:
        found = await shelf.page(session, account.id, before=before, limit=most + 1, state=wanted)
    shown, next_cursor = paging.cut(found, most)
    told = BatchesAnswer(batches=[answer(request, batch) for batch in shown], next_cursor=next_cursor)
    return answers.send_new(request, answers.encode(told))


@post("/{id:str}/cancel", status_code=202, responses={202: _BATCH}, summary="Cancel a batch")
async def cancel(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
) -> ASGIApp:
    """Stop a batch: no line becomes a job any more, and its jobs are cancelled. What they had used is charged."""
    batch = await shelf.cancel(ground, account.id, batch_id(id))
    return answers.send(answer(request, batch), status_code=202, headers=polite(batch))


@post("/{id:str}/retry", status_code=202, rate="submit", responses={202: _BATCH}, summary="Retry the failed lines")
async def retry(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
    desk: NamedDependency[Desk],
) -> ASGIApp:
    """Give the lines that came to nothing another go, as a new batch.

    Asked again, the answer is that batch; one that ended before it was accepted was none, and another one is made.
    """
    key = idempotency.key_of(request)
    made = await retries.retry(ground, account, batch_id(id), key=key)
    return await _made(request, account, desk, made)


@route(
    "/{id:str}/results",
    http_method=[HttpMethod.GET, HttpMethod.HEAD],
    exception_handlers={RangeNotSatisfiable: problems.on_range},
    responses={200: _LINES, 206: _PART, 304: answers.KNOWN},
    summary="Take the results",
)
async def take_results(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
    hub: NamedDependency[Hub],
    watch: NamedDependency[Watch],
    follow: _Follow = None,
) -> ASGIApp:
    """Send what became of the lines until now, a line of JSON each, in the order in which they ended.

    What is there never changes, and grows at its end alone: `Range: bytes=N-` goes on where a download broke off.
    """
    source = Source(ground=ground, hub=hub, watch=watch, batch_id=batch_id(id), which="results")
    return await results.show(request, account, source, follow=results.follows(follow))


@route(
    "/{id:str}/errors",
    http_method=[HttpMethod.GET, HttpMethod.HEAD],
    exception_handlers={RangeNotSatisfiable: problems.on_range},
    responses={200: _LINES, 206: _PART, 304: answers.KNOWN},
    summary="Take the errors",
)
async def take_errors(
    request: Request[Any, Any, Any],
    id: FromPath[str],  # noqa: A002 (the name in the path)
    account: NamedDependency[Account],
    ground: NamedDependency[Ground],
    hub: NamedDependency[Hub],
    watch: NamedDependency[Watch],
    follow: _Follow = None,
) -> ASGIApp:
    """Send those of the results that are no success, as the results themselves are sent."""
    source = Source(ground=ground, hub=hub, watch=watch, batch_id=batch_id(id), which="errors")
    return await results.show(request, account, source, follow=results.follows(follow))
