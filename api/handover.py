"""From a route to a viewer: the framework checks, answers refusals and lets go; only then does the viewer run.

What a route and its dependencies need is several KiB, which a stream would hold for as long as it is open.
"""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

from litestar import Litestar, Response
from litestar.response.base import ASGIResponse
from litestar.types import LifeSpanReceive, LifeSpanScope, LifeSpanSend, Receive, Scope, Send

from api import edge
from api.viewers import Hold, Viewer
from infra.streams import Subject

_HANDED = "pulse.stream"


class Opened:
    """A stream that its account may have; what it needs to be sent."""

    __slots__ = ("_first", "_headers", "_hold", "_opening", "_status", "_subject", "_viewer")

    def __init__(
        self,
        viewer: Viewer,
        subject: Subject,
        hold: Hold,
        opening: AbstractAsyncContextManager[Any],
        *,
        first: bytes,
        status: int,
        headers: Iterable[tuple[bytes, bytes]],
    ) -> None:
        """Begin with `status`, `headers` and `first`; `opening` is left when the viewer has ended."""
        self._viewer = viewer
        self._subject = subject
        self._hold = hold
        self._opening = opening
        self._first = first
        self._status = status
        self._headers = headers

    async def open(self) -> None:
        """Ask whether the account may have another stream; what this raises is answered as any other refusal."""
        await self._opening.__aenter__()

    async def close(self) -> None:
        """Let go of a stream that is not served."""
        await self._opening.__aexit__(None, None, None)

    async def serve(self, told: Iterable[tuple[bytes, bytes]], receive: Receive, send: Send) -> None:
        """Send the stream until it ends, with the headers that were `told` on the way to it."""
        first = self._first
        try:
            headers = [*self._headers, *told]
            start: Any = {"type": "http.response.start", "status": self._status, "headers": headers}
            await send(start)
            await self._viewer.run(self._subject, first, self._hold, receive, send)
        finally:
            await self.close()


class _Handing(ASGIResponse):
    """Puts a stream where it is found once the framework is through."""

    def __init__(self, opened: Opened) -> None:
        super().__init__()
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (ASGI's signature)
        await self._opened.open()
        cast("dict[str, Any]", scope)[_HANDED] = self._opened


class Streaming(Response[Any]):
    """What a route returns to have its request answered by a stream: a response, and an ASGI app as well."""

    def __init__(self, opened: Opened) -> None:
        """Answer with `opened`."""
        super().__init__(b"")
        self._opened = opened

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIResponse:
        """Return what the framework calls to answer."""
        return _Handing(self._opened)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, where the framework is given this as an app."""
        await _Handing(self._opened)(scope, receive, send)


class Studio(Litestar):
    """The framework's app, which runs the streams itself after their routes have returned."""

    async def __call__(
        self,
        scope: Scope | LifeSpanScope,
        receive: Receive | LifeSpanReceive,
        send: Send | LifeSpanSend,
    ) -> None:
        """Serve one request, or the process's lifespan."""
        try:
            await super().__call__(scope, receive, send)
        except BaseException:
            if (opened := cast("dict[str, Any]", scope).pop(_HANDED, None)) is not None:
                await opened.close()
            raise
        opened = cast("dict[str, Any]", scope).pop(_HANDED, None)
        if opened is not None:
            told = edge.told(scope)
            cast("dict[str, Any]", scope).clear()  # the request, its state and its headers hang on it
            await opened.serve(told, receive, send)
