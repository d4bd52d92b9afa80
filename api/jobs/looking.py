"""Looking at a job: as it is now, if it is another, or as soon as it is."""

from typing import Any
from uuid import UUID

from litestar import Request
from litestar.types import ASGIApp
from msgspec import Struct

from api import answers
from api.jobs import waiting
from api.jobs.answers import answer, polite, tag_of
from api.jobs.submitting import Front
from infra.models import LIVE, Account
from workers.forecast import Forecasts
from workers.lifecycle import Admitted


class _Look(Struct, frozen=True):
    """What was seen, and how it is told."""

    job: Admitted
    body: bytes
    tag: str


async def show(
    request: Request[Any, Any, Any],
    account: Account,
    job_id: UUID,
    front: Front,
    forecasts: Forecasts,
    wait: str | None,
) -> ASGIApp:
    """Return the job, or 304 where the caller has it as it stands; after `wait` seconds at most."""
    wait_s = waiting.wait_s(wait, front.ground.settings.wait_s)
    has_tag = "if-none-match" in request.headers

    async def look() -> _Look:
        job = await front.views.job(account.id, job_id)
        told = answer(request, job, await forecasts.of(job))
        body = answers.encode(told)
        return _Look(job, body, tag_of(told, body))

    def is_enough(seen: _Look) -> bool:
        return seen.job.state not in LIVE or (has_tag and not answers.is_known(request, seen.tag))

    seen: _Look | None = await look()
    if wait_s and not is_enough(seen):
        seen = await waiting.hold(request, front.hub, job_id, wait_s, look, is_enough)
        if seen is None:
            return answers.to_nobody()
    return answers.send_new(request, seen.body, tag=seen.tag, headers=polite(seen.job))
