"""How an answer leaves: encoded once, tagged by what it says, and left out where the caller has it already (RFC 9110).

Tags are weak: equal ones mean that nothing has changed that a caller could act on.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.openapi import ResponseSpec
from litestar.types import ASGIApp, Receive, Scope, Send

from api import ranges

_JSON = "application/json"
_BODILESS = frozenset({204, 304})
#: What a caller may keep: for itself alone, and asking each time whether it still holds.
OWN = {"Cache-Control": "private, no-cache", "Vary": "Authorization, Accept-Language"}
#: What the API's document says of an answer that the caller has already.
KNOWN = ResponseSpec(None, generate_examples=False, description="`If-None-Match` names what there is: nothing is sent.")

encode = msgspec.json.Encoder().encode


class Answer[Content](Response[Content]):
    """A response whose content is JSON, as bytes or as what msgspec encodes, at a third of the cost of Litestar's."""

    def to_asgi_response(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, app: Any, request: Request[Any, Any, Any], **given: Any
    ) -> ASGIApp:
        """Return what sends it."""
        status = self.status_code or given.get("status_code") or 200
        media_type = str(self.media_type or given.get("media_type") or _JSON)
        plain = not (self.cookies or self.background or given.get("cookies") or given.get("is_head_response"))
        if not plain or status in _BODILESS or not media_type.endswith("json"):
            return super().to_asgi_response(app, request, **given)  # pyright: ignore[reportUnknownMemberType]
        headers = {**given.get("headers", {}), **self.headers}
        content: Any = self.content
        body = content if isinstance(content, bytes) else encode(content)
        return Sent(status, headers, body, media_type=media_type)


class Sent:
    """An answer that is ready to go."""

    __slots__ = ("_body", "_start")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes | None, *, media_type: str = _JSON) -> None:
        """Take the body; None where there may be none."""
        lines = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        if body is not None:
            lines += ((b"content-type", media_type.encode("latin-1")), (b"content-length", b"%d" % len(body)))
        self._start: Any = {"type": "http.response.start", "status": status, "headers": lines}
        self._body: Any = {"type": "http.response.body", "body": body or b"", "more_body": False}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (ASGI's signature)
        await send(self._start)
        await send(self._body)


def send(content: object, *, status_code: int = 200, headers: Mapping[str, str]) -> ASGIApp:
    """Return an answer that is `content` as JSON."""
    return Sent(status_code, headers, encode(content))


def to_nobody() -> ASGIApp:
    """Return the answer to a client that has left: nothing is looked up for it, and nothing arrives."""
    return Sent(499, {}, None)


def tag_of(body: bytes) -> str:
    """Return the tag of what is told as `body`."""
    return f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def is_known(request: Request[Any, Any, Any], tag: str) -> bool:
    """Tell whether the caller has what `tag` names: `If-None-Match` has it, in whichever of its lines."""
    lines = request.headers.getall("if-none-match", [])
    return bool(lines) and ranges.is_fresh({"if-none-match": ", ".join(lines)}, tag.removeprefix("W/"))


def send_new(
    request: Request[Any, Any, Any], body: bytes, *, tag: str | None = None, headers: Mapping[str, str] | None = None
) -> ASGIApp:
    """Return 200 with `body`, which is JSON, or 304 where the caller has it."""
    tag = tag or tag_of(body)
    told = {"ETag": tag, **OWN, **(headers or {})}
    return Sent(304, told, None) if is_known(request, tag) else Sent(200, told, body)
