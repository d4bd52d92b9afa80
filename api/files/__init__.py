"""Files over HTTP."""

from litestar import Router

from api.files.routes import Change, Move, change, complete, content, folders, link, move, page, remove, show
from api.files.uploads import create

__all__ = ["Change", "Move", "router"]


def router() -> Router:
    """Return the routes."""
    return Router(
        "/v1/files",
        route_handlers=[create, complete, show, page, folders, move, change, remove, content, link],
        tags=["files"],
        security=[{"apiKey": []}],
    )
