"""Jobs over HTTP."""

from litestar import Router

from api.body import Kinds
from api.jobs.routes import cancel, page, retry, show, submit
from api.jobs.submitting import Front
from infra.ground import Ground
from infra.hub import Hub
from workers import kinds
from workers.views import Views


def front(ground: Ground, hub: Hub) -> Front:
    """Return what the routes find as `front` in the app's state."""
    return Front(ground=ground, hub=hub, views=Views(ground), bodies=Kinds(kinds.SPECS))


def router() -> Router:
    """Return the routes."""
    return Router(
        "/v1/jobs", route_handlers=[submit, show, page, cancel, retry], tags=["jobs"], security=[{"apiKey": []}]
    )
