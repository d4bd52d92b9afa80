"""Direct: the routes that are asked most are served past the framework's own way to a handler, which costs as much.

The framework still knows them: its document describes them, and any other method or spelling of a path goes there.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from litestar import Litestar, Request
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, Receive, Scope, Send

from api import problems
from infra.errors import PulseError

type Answering = Callable[[Request[Any, Any, Any]], Awaitable[ASGIApp]]


class Direct:
    """Stands before the framework, and answers the requests of some routes itself."""

    def __init__(self, app: Litestar, answers: Mapping[tuple[str, str], Answering]) -> None:
        """Have `answers` called by method and path, which are routes of `app` as well."""
        self._behind = app.asgi_handler
        self._app = app
        self._routes = {asked: (_handler_of(app, *asked), answer) for asked, answer in answers.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        route = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is None:
            await self._behind(scope, receive, send)
            return
        cast("dict[str, Any]", scope)["route_handler"], respond = route
        request: Request[Any, Any, Any] = Request(scope, receive, send)
        try:
            answer = await respond(request)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is answered)
            answer = self._problem(request, error)
        try:
            await answer(scope, receive, send)
        except PulseError as error:  # a stream that may not be opened; nothing was sent
            await self._problem(request, error)(scope, receive, send)

    def _problem(self, request: Request[Any, Any, Any], error: Exception) -> ASGIApp:
        match error:
            case PulseError():
                response = problems.on_fact(request, error)
            case HTTPException():
                response = problems.on_refusal(request, error)
            case _:
                response = problems.on_bug(request, error)
        return response.to_asgi_response(None, request)  # pyright: ignore[reportUnknownMemberType]


def _handler_of(app: Litestar, method: str, path: str) -> Any:
    """Return the framework's handler of a route: what was said of it there holds here."""
    route: Any = next(route for route in app.routes if route.path == path)
    return route.route_handler_map[method][0]
