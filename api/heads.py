"""One header of a request, without taking all of them apart as `request.headers` does."""

from typing import Any

from litestar import Request


def first(request: Request[Any, Any, Any], name: bytes) -> str | None:
    """Return the first line of the header `name` (in lower case), if there is one."""
    for each, value in request.scope["headers"]:
        if each == name:
            return value.decode("latin-1")
    return None
