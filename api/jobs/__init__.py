"""Jobs over HTTP."""

from typing import Any

from litestar import Request, Router
from litestar.datastructures import State
from litestar.types import ASGIApp

from api import given
from api.body import Kinds
from api.direct import Answering
from api.jobs import submitting
from api.jobs.routes import cancel, page, retry, show, submit
from api.jobs.submitting import Front
from infra.ground import Ground
from infra.hub import Hub
from workers import kinds
from workers.views import Views

PATH = "/v1/jobs"


def front(ground: Ground, hub: Hub) -> Front:
    """Return what the routes find as `front` in the app's state."""
    bodies = Kinds(kinds.SPECS, most_bytes=ground.settings.body_limit_bytes)
    return Front(ground=ground, hub=hub, views=Views(ground), bodies=bodies)


def direct(state: State) -> Answering:
    """Return what answers a submission (`POST` on `PATH`) past the framework, with what the app has in its state."""

    async def answer(request: Request[Any, Any, Any]) -> ASGIApp:
        account = await given.account(request)
        return await submitting.submit(request, account, state.front, state.desk, state.forecasts)

    return answer


def router() -> Router:
    """Return the routes."""
    return Router(PATH, route_handlers=[submit, show, page, cancel, retry], tags=["jobs"], security=[{"apiKey": []}])
