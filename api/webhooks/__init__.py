"""Webhooks over HTTP: who is told of what, what signs it, and how it was delivered."""

from litestar import Router

from api.webhooks.deliveries import Recovery, log, recover, replay, show_delivery, try_out
from api.webhooks.deliveries import page as page_deliveries
from api.webhooks.endpoints import change, create, events, page, remove, show
from api.webhooks.secrets import Rotation, own_secret, rotate, rotate_own, secret

__all__ = ["Recovery", "Rotation", "router"]


def router() -> Router:
    """Return the routes."""
    return Router(
        "/v1/webhooks",
        route_handlers=[
            *(create, show, page, change, remove, events),
            *(secret, rotate, own_secret, rotate_own),
            *(try_out, log, recover, page_deliveries, show_delivery, replay),
        ],
        tags=["webhooks"],
        security=[{"apiKey": []}],
    )
