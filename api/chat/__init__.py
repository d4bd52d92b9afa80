"""Chat over HTTP beside its jobs: completed in one call, and the models there are."""

from litestar import Router

from api.chat.complete import COMPLETE, complete, direct
from api.chat.models import list_models

__all__ = ["COMPLETE", "complete", "direct", "router"]


def router() -> Router:
    """Return the routes."""
    return Router("/v1/chat", route_handlers=[complete, list_models], tags=["chat"], security=[{"apiKey": []}])
