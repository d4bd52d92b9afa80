"""The outermost layer: refuses requests that no route should see, and adds to answers what limits have to tell."""

from collections.abc import Iterable
from typing import Any, cast

from litestar import Request
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from api import problems
from infra.errors import PulseError

_TOLD = "pulse.told"
_MOST_TARGET_BYTES = 8192
_MOST_PARAMETERS = 32
# A key, an idempotency key, what a browser adds: 2 KiB. The server itself takes no head of more than 64 KiB.
_MOST_HEADER_BYTES = 16_384

# What the server has read of a body before anybody asks for it.
_MOST_READ_ANYWAY_BYTES = 4096

type Headers = Iterable[tuple[bytes, bytes]]


class UriTooLong(PulseError):
    """The address of the request is longer than {limit_bytes} bytes."""

    ar = "عنوان الطلب أطول من {limit_bytes} بايت."
    status = 414


class HeadersTooLarge(PulseError):
    """The headers of the request are larger than {limit_bytes} bytes."""

    ar = "ترويسات الطلب أكبر من {limit_bytes} بايت."
    status = 431


class TooManyParameters(PulseError):
    """The address of the request may have {limit} parameters at most."""

    ar = "الحد الأقصى لعدد المعاملات في عنوان الطلب هو {limit}."
    status = 400


def tell(scope: Scope, headers: Headers) -> None:
    """Add headers to whatever will be answered, in the place of those that were told under the same names before."""
    cast("dict[str, Any]", scope)[_TOLD].update(headers)


def told(scope: Any) -> Headers:
    """Return what was told until now, for an answer that is sent past this layer."""
    return scope.get(_TOLD, {}).items()


class Edge:
    """Stands around the whole app."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand around `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told: dict[bytes, bytes] = {}
        cast("dict[str, Any]", scope)[_TOLD] = told

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                if told:
                    message["headers"] = [*message["headers"], *told.items()]
                if message["status"] >= 400 and _may_be_unread(scope):
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        refusal = _refusal(scope)
        if refusal is None:
            await self._app(scope, receive, telling)
        else:
            request: Request[Any, Any, Any] = Request(scope, receive, telling)
            response = problems.respond(request, refusal)
            await response.to_asgi_response(None, request)(scope, receive, telling)


def _may_be_unread(scope: HTTPScope) -> bool:
    """Tell whether a refusal may come before the end of the request.

    The server closes such a connection, and a client that is not told sends its next request into it.
    """
    for name, value in scope["headers"]:
        if name == b"content-length":
            return not value.isdigit() or int(value) > _MOST_READ_ANYWAY_BYTES
        if name == b"transfer-encoding":
            return True
    return False


def _refusal(scope: HTTPScope) -> PulseError | None:
    query = scope["query_string"]
    if len(scope["path"]) + len(query) > _MOST_TARGET_BYTES:
        return UriTooLong(limit_bytes=_MOST_TARGET_BYTES)
    if sum([len(name) + len(value) for name, value in scope["headers"]]) > _MOST_HEADER_BYTES:
        return HeadersTooLarge(limit_bytes=_MOST_HEADER_BYTES)
    if query.count(b"&") >= _MOST_PARAMETERS:
        return TooManyParameters(limit=_MOST_PARAMETERS)
    return None
