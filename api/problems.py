"""Every error as `application/problem+json` (RFC 9457): a stable code, and the text in the caller's language.

`Accept-Language` chooses between Arabic and English; a caller that names neither, usually a program, gets English.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import Method
from msgspec import Struct

from api.answers import Answer
from api.ranges import RangeNotSatisfiable
from infra.errors import PulseError
from infra.models import Document
from infra.redis import AWAY, RedisUnavailable

_METHODS: tuple[Method, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
log = structlog.stdlib.get_logger()
MEDIA_TYPE = "application/problem+json"
# A caller may come back soon: these pass by themselves. An error that knows better says so (`retry_after_s`).
_RETRY_AFTER_S = {429: "1", 503: "2"}


class NoSuchRoute(PulseError):
    """There is nothing at this address."""

    ar = "لا يوجد شيء في هذا العنوان."
    status = 404


class MethodNotAllowed(PulseError):
    """This address does not take that method."""

    ar = "هذا العنوان لا يقبل هذه الطريقة."
    status = 405


class BodyTooLarge(PulseError):
    """The request body is larger than {limit_bytes} bytes."""

    ar = "حجم الطلب أكبر من {limit_bytes} بايت."
    status = 413


class BadRequest(PulseError):
    """The request cannot be understood."""

    ar = "تعذّر فهم الطلب."
    status = 400


class InternalServerError(PulseError):
    """Something went wrong on our side. It has been noted."""

    ar = "حدث خطأ من جانبنا، وقد سُجّل."
    status = 500


def language(request: Request[Any, Any, Any]) -> str:
    """Return "ar" or "en", whichever `Accept-Language` wants more; "en" when it wants neither."""
    best, best_weight = "en", 0.0
    for choice in request.headers.get("accept-language", "").split(","):
        name, _, parameter = choice.partition(";")
        try:
            weight = float(parameter.strip().removeprefix("q=")) if parameter else 1.0
        except ValueError:
            continue
        primary = name.strip().lower().partition("-")[0]
        if primary in {"ar", "en"} and weight > best_weight:
            best, best_weight = primary, weight
    return best


class Reason(Struct, frozen=True, kw_only=True):
    """Why a job failed or a file was rejected: a stable code, and the text in the caller's language."""

    code: str
    detail: str


def reason(request: Request[Any, Any, Any], error: Document | None) -> Reason | None:
    """Return what a row keeps of an error, `{code, en, ar}`, as the caller is told it."""
    return Reason(code=error["code"], detail=error[language(request)]) if error is not None else None


def respond(request: Request[Any, Any, Any], error: PulseError) -> Response[bytes]:
    """Return the answer to an error: its facts are members of the problem."""
    chosen = language(request)
    members = {key: value for key, value in error.facts.items() if key not in error.hidden}
    problem = {
        "type": f"urn:pulse:problem:{error.code}",
        "title": error.code.replace("_", " ").capitalize(),
        "status": error.status,
        "code": error.code,
        "detail": error.text(chosen),
        **members,
    }
    headers = {"Content-Language": chosen, "Cache-Control": "no-store"}
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="pulse"'
    retry_after = error.facts.get("retry_after_s", _RETRY_AFTER_S.get(error.status))
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    return Answer(msgspec.json.encode(problem), status_code=error.status, media_type=MEDIA_TYPE, headers=headers)


def on_fact(request: Request[Any, Any, Any], error: PulseError) -> Response[bytes]:
    """Answer an error of ours."""
    return respond(request, error)


def on_refusal(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Answer an error of the framework, in our form."""
    match error.status_code:
        case 404:
            return respond(request, NoSuchRoute())
        case 405:
            response = respond(request, MethodNotAllowed())
            response.headers["Allow"] = ", ".join(_allowed(request))
            return response
        case 413:
            limit = request.route_handler.resolve_request_max_body_size()
            return respond(request, BodyTooLarge(limit_bytes=limit))
        case status if status < 500:
            return respond(request, BadRequest())
        case _:
            return on_bug(request, error)


def _allowed(request: Request[Any, Any, Any]) -> Iterator[Method]:
    """Yield the methods that the address of a request does take."""
    path = request.scope["path"].rstrip("/") or "/"
    for method in _METHODS:
        with suppress(HTTPException):
            request.app.asgi_router.handle_routing(path=path, method=method)
            yield method


def on_range(request: Request[Any, Any, Any], error: RangeNotSatisfiable) -> Response[bytes]:
    """Answer a range that lies beyond what there is."""
    response = respond(request, error)
    response.headers["Content-Range"] = f"bytes */{error.facts['size_bytes']}"
    return response


def on_no_file(request: Request[Any, Any, Any], _error: Exception) -> Response[bytes]:
    """Answer a request for a file whose name cannot be one."""
    return respond(request, NoSuchRoute())


def on_bug(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer a bug: the caller learns that there is one, the log what it is. A Redis that is away is no bug."""
    if isinstance(error, AWAY):
        return respond(request, RedisUnavailable())
    log.error("unhandled error", path=request.url.path, exc_info=error)
    return respond(request, InternalServerError())
