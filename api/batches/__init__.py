"""Batches over HTTP."""

from litestar import Router

from api.batches.options import BatchRequest
from api.batches.routes import cancel, page, retry, show, submit, take_errors, take_results

__all__ = ["BatchRequest", "router"]


def router() -> Router:
    """Return the routes; the app's state has `watch`."""
    return Router(
        "/v1/batches",
        route_handlers=[submit, show, page, cancel, retry, take_results, take_errors],
        tags=["batches"],
        security=[{"apiKey": []}],
    )
