"""How an answer leaves: encoded once, tagged by what it says, and left out where the caller has it already (RFC 9110).

Tags are weak: equal ones mean that nothing has changed that a caller could act on.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Request
from litestar.openapi import ResponseSpec
from litestar.types import ASGIApp

from api import ranges
from api.answer import Sent

#: What a caller may keep: for itself alone, and asking each time whether it still holds.
OWN = {"Cache-Control": "private, no-cache", "Vary": "Authorization, Accept-Language"}
#: What the API's document says of an answer that the caller has already.
KNOWN = ResponseSpec(None, generate_examples=False, description="`If-None-Match` names what there is: nothing is sent.")

encode = msgspec.json.Encoder().encode


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
