"""`/storage`: what S3 would do for a local store, taking the forms and following the links that it signed.

Nobody shows an API key here: the signature is what lets them in.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from litestar import Request, Router, post, route
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.enums import HttpMethod
from litestar.params import FromPath
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from api import departure, given, multipart, problems, ranges
from api.ranges import Part, RangeNotSatisfiable
from infra.errors import PulseError
from infra.storage import ObjectNotFound, StorageUnavailable, UploadReplayed
from infra.storage.disposition import attachment
from infra.storage.local import LocalStorage, Reading
from infra.storage.signing import Shown
from workers.files import LONGEST_UPLOAD_S, UploadExpired

log = structlog.stdlib.get_logger()

#: Tells whether the bytes of a key are still awaited: a form can be sent again after the file was decided.
type Awaited = Callable[[str], Awaitable[bool]]

# A download of which nobody takes another chunk for so long is given up; it can be gone on with by a range.
_SILENCE_S = 60.0


@post("/quarantine", status_code=204, exception_handlers={PulseError: multipart.refuse})
async def upload(
    request: Request[Any, Any, Any], store: NamedDependency[LocalStorage], awaited: NamedDependency[Awaited]
) -> None:
    """Take an upload that is to the byte what its form declares."""
    posted = await multipart.read(request)
    admission = store.admit(posted.fields)
    if not await awaited(admission.key):
        raise UploadReplayed
    try:
        async with asyncio.timeout(LONGEST_UPLOAD_S):
            await store.take(admission, posted.file)
    except TimeoutError as error:
        raise UploadExpired from error
    if not await awaited(admission.key):  # it was deleted while it came
        await store.delete("quarantine", admission.key)
        raise UploadReplayed


@route("/assets/{owner:str}/{name:str}", http_method=[HttpMethod.GET, HttpMethod.HEAD])
async def download(
    request: Request[Any, Any, Any],
    owner: FromPath[str],
    name: FromPath[str],
    store: NamedDependency[LocalStorage],
) -> ASGIResponse:
    """Send an asset, whole or a range of it, as its link says: under that name and type, and never to be displayed."""
    key = f"{owner}/{name}"
    shown = store.show(key, request.scope["query_string"])
    size_bytes = await store.size("assets", key)
    if size_bytes is None:
        raise ObjectNotFound
    etag = f'"{name}"'
    headers = _headers(shown, etag)
    if ranges.is_fresh(request.headers, etag):
        return ASGIResponse(status_code=304, headers=headers)
    if request.method == HttpMethod.HEAD:
        headers["Content-Length"] = str(size_bytes)
        return ASGIResponse(headers=headers, media_type=shown.media_type, is_head_response=True)
    part = ranges.wanted(request.headers, etag, size_bytes)
    if part is None:
        return _Download(store, key, Part(start=0, length=size_bytes), status_code=200, headers=headers)
    headers["Content-Range"] = f"bytes {part.start}-{part.start + part.length - 1}/{size_bytes}"
    return _Download(store, key, part, status_code=206, headers=headers)


def _headers(shown: Shown, etag: str) -> dict[str, str]:
    return {
        "Content-Type": shown.media_type,
        "Content-Disposition": attachment(shown.filename),
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": f"private, max-age={max(shown.expires - int(time.time()), 0)}, immutable",
        # Whatever a stranger uploaded, no browser may run it, or take it for what it is not.
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        # The link is all that is asked for and no cookie is, so that a page which could embed this could fetch it as
        # well; and the pages of the studio may be served from another site than its files.
        "Cross-Origin-Resource-Policy": "cross-origin",
    }


class _Download(ASGIResponse):
    """A part of an asset, read while it is sent; nothing more is read for a client that has left or takes nothing."""

    def __init__(self, store: LocalStorage, key: str, part: Part, *, status_code: int, headers: dict[str, str]) -> None:
        super().__init__(status_code=status_code, headers=headers, content_length=part.length)
        self._store = store
        self._key = key
        self._part = part

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (ASGI's signature)
        async with self._store.reading(self._key) as reading:
            await self.start_response(send)
            left = asyncio.create_task(departure.left(receive))
            try:
                await self._send(reading, left, send)
            except (TimeoutError, StorageUnavailable) as error:
                # The answer has begun: that it ends before its length is all that can still be told.
                log.warning("a download broke off", key=self._key, reason=repr(error))
            finally:
                left.cancel()

    async def _send(self, reading: Reading, left: "asyncio.Task[None]", send: Send) -> None:
        to_go = self._part.length
        async for chunk in reading.chunks(self._part.start, self._part.length):
            if left.done():
                return
            to_go -= len(chunk)
            async with asyncio.timeout(_SILENCE_S):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if to_go == 0:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _store(state: State) -> LocalStorage:
    return state.ground.storage


def _awaited(state: State) -> Awaited:
    return state.awaited


def router() -> Router:
    """Return the routes; the app's state has `awaited`."""
    return Router(
        "/storage",
        route_handlers=[upload, download],
        guards=[given.bearer],
        dependencies={
            "store": Provide(_store, sync_to_thread=False),
            "awaited": Provide(_awaited, sync_to_thread=False),
        },
        exception_handlers={RangeNotSatisfiable: problems.on_range},
        # A client follows the form or link that it was given, which leads to S3 where there is one.
        include_in_schema=False,
    )
