"""Submitting a job: answered at once, held until the job is over, or with all that it says as the answer."""

from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

import msgspec
from litestar import Request
from litestar.types import ASGIApp
from msgspec import Struct

from api import answers, durations, events, heads, idempotency, prefer
from api.body import Kinds
from api.jobs import waiting
from api.jobs.answers import SubmittedAnswer, answer, choice, polite
from infra.database import DatabaseUnavailable
from infra.errors import PulseError
from infra.frames import Form
from infra.ground import Ground
from infra.hub import Hub
from infra.models import LIVE, Account
from infra.streams import START
from workers.desk import Desk
from workers.forecast import Forecasts
from workers.lifecycle import Submission, Submitted, names
from workers.request import Request as Asked
from workers.views import Views

_SHORTEST_S, _LONGEST_S = 5, 7 * 86_400
_EXISTING = {"Existing-Job": "true"}


class InvalidCancelAfter(PulseError):
    """{field} must be a length of time from 5 seconds to 7 days: 90s, 5m, 1h30m, 2d, or plain seconds."""

    ar = "يجب أن تكون قيمة {field} مدة من 5 ثوانٍ إلى 7 أيام، مثل ‎90s‎ أو ‎5m‎ أو ‎1h30m‎ أو ‎2d‎، أو عدد ثوانٍ."
    status = 400


class Front(Struct, frozen=True, kw_only=True):
    """What one process takes jobs and shows them with, beside its desk."""

    ground: Ground
    hub: Hub
    views: Views
    bodies: Kinds[Asked]


async def submit(
    request: Request[Any, Any, Any], account: Account, front: Front, desk: Desk, forecasts: Forecasts
) -> ASGIApp:
    """Take the job that `request` asks for, and answer as its headers want it."""
    return await take(
        request, front, desk, forecasts, submission_of(request, account, await front.bodies.read(request))
    )


def submission_of(
    request: Request[Any, Any, Any], account: Account, asked: Asked, *, route: str = names.JOBS_ROUTE
) -> Submission:
    """Return the submission of what was asked in the body, as the headers want it; raises what is wrong with those."""
    return Submission(
        account=account,
        idempotency_key=idempotency.key_of(request),
        cancel_after_s=_cancel_after_s(request),
        request=asked,
        route=route,
    )


async def take(
    request: Request[Any, Any, Any],
    front: Front,
    desk: Desk,
    forecasts: Forecasts,
    submission: Submission,
    *,
    usual_wait_s: int | None = None,
) -> ASGIApp:
    """Take a job and answer: with its stream, when it is over, or at once.

    Where the caller does not say how long the call may be held, it is for `usual_wait_s`; None: not at all.
    """
    account = submission.account
    accepted, preferred = heads.first(request, b"accept"), heads.first(request, b"prefer")
    if accepted is not None and (form := events.form_of(request)) is not None:
        async with AsyncExitStack() as opening:  # whoever may not have another stream has no job either
            await opening.enter_async_context(request.app.state.streams.open(account.id))
            submitted = await desk.submit(submission)
            return await _stream(request, front, submitted, forecasts, form, opening)
    submitted = await desk.submit(submission)
    wait_s = usual_wait_s
    if preferred is not None:
        lines = request.headers.getall("prefer")
        wait_s = prefer.wait_s(lines, front.ground.settings.wait_s, usual_s=usual_wait_s)
    if wait_s is not None:
        return await _wait(request, front, submitted, forecasts, wait_s)
    return await tell(request, submitted, forecasts)


def _cancel_after_s(request: Request[Any, Any, Any]) -> int | None:
    text = heads.first(request, b"cancel-after")
    if text is None:
        return None
    seconds = durations.seconds(text)
    if seconds is None or not _SHORTEST_S <= seconds <= _LONGEST_S:
        raise InvalidCancelAfter(field="Cancel-After")
    return seconds


async def tell(
    request: Request[Any, Any, Any],
    submitted: Submitted,
    forecasts: Forecasts,
    *,
    status_code: int = 202,
    headers: Mapping[str, str] | None = None,
) -> ASGIApp:
    """Return the answer to a submission: the job, what is left, and where to go on."""
    told = await _told(request, submitted, forecasts)
    headers = {**_place(submitted), **polite(submitted.job), **(headers or {})}
    return answers.send(told, status_code=status_code, headers=headers)


async def _told(request: Request[Any, Any, Any], submitted: Submitted, forecasts: Forecasts) -> SubmittedAnswer:
    job = answer(request, submitted.job, await forecasts.of(submitted.job, submitted.place))
    model, reason = choice(submitted.job)
    return SubmittedAnswer(job=job, quota=submitted.quota, model=model, reason=reason)


def _place(submitted: Submitted) -> dict[str, str]:
    headers = {"Location": f"/v1/jobs/{submitted.job.id}"}
    if submitted.known is None:
        return headers
    return headers | (idempotency.REPLAYED if submitted.known == "replayed" else _EXISTING)


async def _wait(
    request: Request[Any, Any, Any], front: Front, submitted: Submitted, forecasts: Forecasts, wait_s: int
) -> ASGIApp:
    """Hold the call until the job is over: 200 then, else 202 with the job as it stands."""
    job = submitted.job
    if wait_s > 0:
        look = partial(_is_over, front, submitted)
        if await waiting.hold(request, front.hub, job.id, wait_s, look, bool) is None:
            return answers.to_nobody()
    with suppress(DatabaseUnavailable):  # it was taken, and that is what has to be told
        submitted = await _seen(front, submitted)
    status_code = 202 if submitted.job.state in LIVE else 200
    applied = {"Preference-Applied": f"wait={wait_s}"}
    return await tell(request, submitted, forecasts, status_code=status_code, headers=applied)


async def _is_over(front: Front, submitted: Submitted) -> bool:
    with suppress(DatabaseUnavailable):
        return await front.views.is_over(submitted.job.id)
    return False


async def _seen(front: Front, submitted: Submitted) -> Submitted:
    account_id = submitted.job.account_id
    job = await front.views.job(account_id, submitted.job.id)
    quota = await front.views.quota(account_id, list(submitted.quota))
    return msgspec.structs.replace(submitted, job=job, quota=quota, place=None)


async def _stream(
    request: Request[Any, Any, Any],
    front: Front,
    submitted: Submitted,
    forecasts: Forecasts,
    form: Form,
    opening: AsyncExitStack,
) -> ASGIApp:
    """Return what the plain answer would say, as the first event, and then all that the job says.

    Only then the answer takes `opening` over: the stream of one that does not come about is open no more.
    """
    told = answers.encode(await _told(request, submitted, forecasts))
    first = b"event: submitted\ndata: %s\n\n" % told if form == "sse" else b'{"type":"submitted",%s\n' % told[1:]
    hold, headers = events.hold_of(request), _place(submitted)
    opened = opening.pop_all()
    answered = events.stream(front.hub, hold, opened, submitted.job.id, START, form, first=first, headers=headers)
    return answered.to_asgi_response()
