"""`Idempotency-Key`: how a call that makes or charges something says that it may be a repetition.

A route that takes it reads `key_of`, hands the key down to where the thing is made (`workers/idempotency.py`; jobs:
`workers/lifecycle/names.py`), and answers what was there already with the header `REPLAYED`.
"""

from typing import Any

from litestar import Request, Response

from api import heads
from infra.errors import PulseError

#: Said where the answer is the first one, once more.
REPLAYED = {"Idempotent-Replayed": "true"}
_HEADER = "Idempotency-Key"
# A call that is under way is over soon, mostly.
_IN_FLIGHT_S = "2"


class InvalidIdempotencyKey(PulseError):
    """{field} must be 1 to 255 printable ASCII characters."""

    ar = "يجب أن يتكوّن {field} من محرف إلى 255 محرفًا قابلًا للطباعة من ASCII."
    status = 400


def key_of(request: Request[Any, Any, Any]) -> str | None:
    """Return the key that the caller gave, if it gave one; raises `InvalidIdempotencyKey`."""
    key = heads.first(request, b"idempotency-key")
    if key is not None and not (1 <= len(key) <= 255 and key.isascii() and key.isprintable()):
        raise InvalidIdempotencyKey(field=_HEADER)
    return key


def come_back(response: Response[bytes]) -> Response[bytes]:
    """Say in the answer to `RequestInFlight` when to come back."""
    response.headers["Retry-After"] = _IN_FLIGHT_S
    return response
