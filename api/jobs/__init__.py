"""Jobs over HTTP."""

from litestar import Router
from litestar.di import Provide

from api.body import Kinds
from api.jobs.routes import cancel, page, retry, show, submit
from api.jobs.submitting import Front
from infra.ground import Ground
from infra.hub import Hub
from workers import kinds
from workers.views import Views


def router(ground: Ground, hub: Hub) -> Router:
    """Return the routes of a process that stands on `ground` and hears by `hub`."""
    front = Front(ground=ground, hub=hub, views=Views(ground), bodies=Kinds(kinds.SPECS))
    return Router(
        "/v1/jobs",
        route_handlers=[submit, show, page, cancel, retry],
        dependencies={"front": Provide(lambda: front, sync_to_thread=False)},
        tags=["jobs"],
        security=[{"apiKey": []}],
    )
