"""`POST /v1/chat/complete`: a chat job that is answered with its result, as far as that comes in time."""

from typing import Any, Final

from litestar import Request, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.types import ASGIApp

from api import given
from api.body import read_with
from api.direct import Answering
from api.jobs import submitting
from api.jobs.answers import SubmittedAnswer
from api.jobs.submitting import Front
from infra.errors import PulseError
from infra.models import Account
from workers.chat import flat
from workers.desk import Desk
from workers.forecast import Forecasts

COMPLETE: Final = "/v1/chat/complete"
_ROUTE: Final = f"POST {COMPLETE}"
_OVER = ResponseSpec(SubmittedAnswer, generate_examples=False, description="The job is over: its `result` or `error`.")
_SUBMITTED = ResponseSpec(SubmittedAnswer, generate_examples=False, description="The job was taken, and is not over.")


def direct(state: State) -> Answering:
    """Return what answers past the framework, with what the app has in its state."""

    async def answer(request: Request[Any, Any, Any]) -> ASGIApp:
        account = await given.account(request)
        return await _complete(request, account, state.front, state.desk, state.forecasts)

    return answer


@post("/complete", status_code=200, rate="submit", responses={200: _OVER, 202: _SUBMITTED}, summary="Complete a chat")
async def complete(
    request: Request[Any, Any, Any],
    account: NamedDependency[Account],
    front: NamedDependency[Front],
    desk: NamedDependency[Desk],
    forecasts: NamedDependency[Forecasts],
) -> ASGIApp:
    """Have a conversation continued, and answer when that is done (200), or with the job where it takes longer (202).

    The body has the members of a chat's `input` at its top, beside those that every job takes. The headers are those of
    `POST /v1/jobs`; `Prefer: wait=N` holds the call for N seconds at most, `Prefer: respond-async` not at all.
    """
    return await _complete(request, account, front, desk, forecasts)


async def _complete(
    request: Request[Any, Any, Any], account: Account, front: Front, desk: Desk, forecasts: Forecasts
) -> ASGIApp:
    settings = front.ground.settings
    asked = await read_with(request, flat.request, most_bytes=settings.body_limit_bytes)
    submission = submitting.submission_of(request, account, asked, route=_ROUTE)
    try:
        return await submitting.take(request, front, desk, forecasts, submission, usual_wait_s=settings.wait_s)
    except PulseError as error:
        raise flat.from_its_top(error) from None
