"""Request bodies: read whole within a limit, and decoded by `infra/decoding.py`; or as they come."""

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import msgspec
from litestar import Request

from api import heads, problems
from api.multipart import UploadStalled
from infra import decoding
from infra.errors import PulseError

_SILENCE_S = 60.0


class UnsupportedMediaType(PulseError):
    """The body must be JSON, with Content-Type: application/json."""

    ar = "يجب أن يكون الطلب بصيغة JSON مع الترويسة Content-Type: application/json."
    status = 415


class Kinds[T]:
    """Bodies of several shapes, told apart by their `kind`."""

    def __init__(self, specs: Mapping[str, type[T]], *, most_bytes: int) -> None:
        """Take the shapes of `specs`, by kind; no body may be larger than `most_bytes`."""
        self._most_bytes = most_bytes
        self._kinds = decoding.Kinds(specs)

    async def read(self, request: Request[Any, Any, Any]) -> T:
        """Decode the body of `request`; raises the fact that is wrong with it, naming the field."""
        _expect_json(request)
        return self._kinds.decode(await _whole(request, self._most_bytes))


async def read_with[T](request: Request[Any, Any, Any], read: Callable[[bytes], T], *, most_bytes: int) -> T:
    """Return what `read` makes of the body of `request`; raises what that does, and `BodyTooLarge`."""
    _expect_json(request)
    return read(await _whole(request, most_bytes))


async def read_as[T](request: Request[Any, Any, Any], shape: type[T], *, most_bytes: int) -> T:
    """Decode the body of `request` as a `shape`; raises as `Kinds.read` does, and `BodyTooLarge`.

    The limit is this one, for a route whose own was lifted because it takes files too.
    """
    _expect_json(request)
    body = await _whole(request, most_bytes)
    return decoding.decode(body, functools.partial(msgspec.json.decode, type=shape))


async def read_if_any[T](request: Request[Any, Any, Any], shape: type[T], *, most_bytes: int) -> T:
    """Decode the body of `request` as a `shape` of which nothing is required; where there is none, as it is by itself.

    Raises as `read_as` does.
    """
    _expect_json(request)
    body = await _whole(request, most_bytes) or b"{}"
    return decoding.decode(body, functools.partial(msgspec.json.decode, type=shape))


async def _whole(request: Request[Any, Any, Any], most_bytes: int) -> bytes:
    """Return the body; raises `BodyTooLarge` as soon as it is known to be: before any of it is read, if it says so."""
    told = heads.first(request, b"content-length")
    if told is not None and told.isdecimal() and int(told) > most_bytes:
        raise problems.BodyTooLarge(limit_bytes=most_bytes)
    body = bytearray()
    while True:
        message: Any = await request.receive()
        if message["type"] == "http.disconnect":
            raise problems.BadRequest  # nobody hears of it
        body += message["body"]
        if len(body) > most_bytes:
            raise problems.BodyTooLarge(limit_bytes=most_bytes)
        if not message.get("more_body", False):
            return bytes(body)


async def chunks(request: Request[Any, Any, Any], *, most_bytes: int, too_large: PulseError) -> AsyncGenerator[bytes]:
    """Yield the body as it comes; raises `too_large` as soon as it is known to be, and `UploadStalled`."""
    told = heads.first(request, b"content-length")
    if told is not None and told.isdecimal() and int(told) > most_bytes:
        raise too_large
    received = 0
    while True:
        try:
            async with asyncio.timeout(_SILENCE_S):
                message: Any = await request.receive()
        except TimeoutError:
            raise UploadStalled(seconds=_SILENCE_S) from None
        if message["type"] == "http.disconnect":
            raise problems.BadRequest  # nobody hears of it
        received += len(message["body"])
        if received > most_bytes:
            raise too_large
        yield message["body"]
        if not message.get("more_body", False):
            return


def _expect_json(request: Request[Any, Any, Any]) -> None:
    told = heads.first(request, b"content-type")
    # The usual spelling first: any other is taken apart.
    if told != "application/json" and request.content_type[0] not in {"application/json", ""}:
        raise UnsupportedMediaType
