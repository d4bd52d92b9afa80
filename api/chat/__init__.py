"""Chat over HTTP beside its jobs."""

from litestar import Router

from api.chat.models import list_models

__all__ = ["router"]


def router() -> Router:
    """Return the routes."""
    return Router("/v1/chat", route_handlers=[list_models], tags=["chat"], security=[{"apiKey": []}])
