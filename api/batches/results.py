"""`/v1/batches/{id}/results` and `/errors`: JSONL that grows while the batch runs, whole, in ranges, or as it comes.

What is there never changes, so a range is good whenever it is asked for. While the batch runs the tag of the answer is
one that says so; with it, a range of what is there by the end is still a range of the same.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext, suppress
from typing import Any
from uuid import UUID

import structlog
from litestar import Request
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Struct

from api import answers, departure, events, ranges
from api.answers import Sent
from api.ranges import Tail
from api.viewers import Hold
from infra.database import DatabaseUnavailable
from infra.errors import PulseError
from infra.ground import Ground
from infra.hub import Hub
from infra.models import BATCH_LIVE, Account, Batch
from workers.batches import downloads, shelf
from workers.batches.downloads import ResultsBrokenOff, Which
from workers.batches.shelf import BatchNotFound
from workers.batches.watch import Watch

log = structlog.stdlib.get_logger()

_MEDIA_TYPE = "application/x-ndjson"
# A range that ends where the batch does, which nobody knows yet (RFC 8673): as large as every client can count.
_VERY_LARGE = 2**53 - 1
# One that takes nothing for so long is let go, and may come back for the rest.
_SILENCE_S = 60.0
# How soon a follower ends whose process does, and how long one may take then that is being sent something.
_LOOK_S, _GRACE_S = 0.25, 0.5


class InvalidFollow(PulseError):
    """{field} must be true or false."""

    ar = "يجب أن تكون قيمة {field} إما true أو false."
    status = 400


class Source(Struct, frozen=True, kw_only=True):
    """What of which batch is sent, and where from."""

    ground: Ground
    hub: Hub
    watch: Watch
    batch_id: UUID
    which: Which


def follows(text: str | None) -> bool:
    """Read whether what is still to come is wanted as well; raises `InvalidFollow`."""
    if text not in {None, "true", "false"}:
        raise InvalidFollow(field="follow")
    return text == "true"


async def show(request: Request[Any, Any, Any], account: Account, source: Source, *, follow: bool) -> ASGIApp:
    """Return what answers: the bytes that there are, those that were asked for, or those that will be, too."""
    async with source.ground.database.begin() as session:
        batch = await shelf.get(session, account.id, source.batch_id)
    downloads.check_kept(batch, source.ground.settings)
    size, live = downloads.length(batch, source.which), batch.state in BATCH_LIVE
    growing, final = _tags(batch, source.which)
    headers = {"ETag": growing if live else final, "Accept-Ranges": "bytes", **answers.OWN}
    if not live and answers.is_known(request, final):
        return Sent(304, headers, None)
    if request.method == "HEAD":
        return Sent(200, {**headers, "Content-Type": _MEDIA_TYPE, "Content-Length": str(size)}, None)
    # Either tag is of the same bytes, as far as they go.
    tag = growing if request.headers.get("if-range", "").strip() == growing else final
    if follow and live:
        return _follow(request, account, source, headers, ranges.wanted_of_growing(request.headers, tag, size))
    part = ranges.wanted(request.headers, tag, size)
    if part is None:
        return _Answer(source, 200, headers | {"Content-Length": str(size)}, _read(source, 0, size))
    end, whole = part.start + part.length, "*" if live else str(size)
    told = {"Content-Range": f"bytes {part.start}-{end - 1}/{whole}", "Content-Length": str(part.length)}
    return _Answer(source, 206, headers | told, _read(source, part.start, end))


def _read(source: Source, start: int, end: int) -> AsyncGenerator[bytes]:
    return downloads.read(source.ground, source.batch_id, source.which, start, end)


def _tags(batch: Batch, which: Which) -> tuple[str, str]:
    """Return the tag of what there is while the batch runs, and that of all that there is in the end."""
    name = f"{batch.id.hex}-{which}"
    return f'"{name}"', f'"{name}-{downloads.length(batch, which)}"'


def _follow(
    request: Request[Any, Any, Any], account: Account, source: Source, headers: Mapping[str, str], tail: Tail | None
) -> ASGIApp:
    status, told = 200, dict(headers)
    if tail is not None:
        last = _VERY_LARGE if tail.end is None else tail.end - 1
        status, told["Content-Range"] = 206, f"bytes {tail.start}-{last}/*"
    follower = _Follower(source, tail or Tail(start=0, end=None), events.hold_of(request))
    opening = request.app.state.streams.open(account.id)
    return _Answer(source, status, told, follower.pieces(), opening=opening, over=follower.until_over)


class _Answer:
    """Sends pieces as they come, and nothing more to a client that has left or takes nothing.

    `opening` may refuse while nothing is sent; what `over` returns ends when the answer is to end before its pieces.
    """

    def __init__(
        self,
        source: Source,
        status: int,
        headers: Mapping[str, str],
        pieces: AsyncGenerator[bytes],
        *,
        opening: AbstractAsyncContextManager[Any] | None = None,
        over: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._source = source
        self._pieces = pieces
        self._opening = opening or nullcontext()
        self._over = over
        lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        lines.append((b"content-type", _MEDIA_TYPE.encode()))
        self._start: Any = {"type": "http.response.start", "status": status, "headers": lines}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (ASGI's signature)
        async with self._opening:
            await send(self._start)
            sending, left = asyncio.create_task(self._send(send)), asyncio.create_task(departure.left(receive))
            over = asyncio.create_task(self._over()) if self._over is not None else None
            tasks = {sending, left} if over is None else {sending, left, over}
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if over is not None and over.done():
                    await asyncio.wait({sending}, timeout=_GRACE_S)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        try:
            async with aclosing(self._pieces):
                async for piece in self._pieces:
                    async with asyncio.timeout(_SILENCE_S):
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
        except (TimeoutError, DatabaseUnavailable, ResultsBrokenOff, BatchNotFound) as error:
            # The answer has begun: that it ends before its length is all that can still be told.
            log.warning("results broke off", batch=str(self._source.batch_id), reason=repr(error))
        except Exception:
            log.exception("results could not be sent", batch=str(self._source.batch_id))
        else:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Follower:
    """Gives what is there and what comes, until the batch is over; or its follower's key is, or this process."""

    def __init__(self, source: Source, tail: Tail, hold: Hold) -> None:
        self._source = source
        self._tail = tail
        self._hold = hold
        self._let_go = asyncio.Event()

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Yield the bytes; a database that is away is waited for."""
        source, at, limit = self._source, self._tail.start, self._tail.end
        yield b""  # the client sees at once that it is heard
        while not self._is_over:
            try:
                batch = await source.watch.next(source.batch_id)
                size = downloads.length(batch, source.which)
                end = size if limit is None else min(size, limit)
                async for piece in downloads.read(source.ground, source.batch_id, source.which, at, end):
                    yield piece
                    at += len(piece)
                    if self._is_over:
                        return
            except DatabaseUnavailable:
                continue
            if batch.state not in BATCH_LIVE or at == limit:
                return

    async def until_over(self) -> None:
        """Return when it is to end, whatever is still to come."""
        release = self._hold(self._let_go.set)
        try:
            while not self._is_over:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._let_go.wait(), _LOOK_S)
        finally:
            release()

    @property
    def _is_over(self) -> bool:
        return self._let_go.is_set() or self._source.hub.closed
