"""What Google's errors and counts mean, alike for both of its wires."""

import re
from typing import Any, Final

import httpx2
import msgspec
from msgspec import Struct

from providers import headers, text, types

_DELAY: Final = re.compile(r"(\d+(?:\.\d+)?)s")


class _Detail(Struct):
    """One of the details of an error (google.rpc.ErrorInfo, google.rpc.RetryInfo)."""

    reason: Any = None
    retry_delay: Any = msgspec.field(name="retryDelay", default=None)


class _Body(Struct):
    """An error as Google tells it."""

    message: str | None = None
    details: list[_Detail] | None = None


class _Envelope(Struct):
    """The body of an answer that is an error."""

    error: _Body | None = None


def told(status: object, body: object, message: str | None, response: object) -> types.ProviderError:
    """Return the fact behind an error that Google told, by its HTTP status, which is that in the middle of a stream."""
    details = _body(body).details or []
    wait_s = _wait_s(details, response)
    match status:
        case 400 if any(detail.reason in _KEYS for detail in details):
            return types.ProviderMisconfigured()
        case 401 | 402 | 403 | 404:
            return types.ProviderMisconfigured()
        case 408 | 504:
            return types.ProviderTimedOut(retry_after_s=wait_s)
        case 429:
            return types.ProviderRateLimited(retry_after_s=wait_s)
        case 409 | 499:
            return types.ProviderUnavailable(retry_after_s=wait_s)
        case int() if 400 <= status < 500:
            return types.ProviderRefused(reason=text.kept(str(message or status))[:500])
        case _:
            return types.ProviderUnavailable(retry_after_s=wait_s)


#: A wrong key is told as a wrong request.
_KEYS: Final = {"API_KEY_INVALID", "API_KEY_EXPIRED"}


def broken(error: BaseException) -> types.ProviderError:
    """Return the fact behind what the SDK raised of itself.

    Its transport is broken, or what came over it: no JSON, or none that its models and its code can read.
    """
    match error:
        case httpx2.TimeoutException():
            return types.ProviderTimedOut()
        case httpx2.ConnectError():
            return types.ProviderUnavailable()
        case _:
            return types.AnswerTruncated()


def counted(*, given: int, made: int, cached: int, thought: int) -> types.Counted | None:
    """Return counts that can be charged; None where they are none."""
    if not all(0 <= tokens < 2**31 for tokens in (given, made, cached, thought)) or not given:
        return None
    return types.Counted(
        input_tokens=given,
        output_tokens=made,
        cached_tokens=min(cached, given),
        reasoning_tokens=min(thought, made),
    )


def message(body: object) -> str:
    """Return what an error's body says in words."""
    return _body(body).message or ""


def _body(body: object) -> _Body:
    try:
        return msgspec.convert(body, _Envelope).error or _Body()
    except msgspec.ValidationError:
        return _Body()


def _wait_s(details: list[_Detail], response: object) -> float | None:
    """Return the wait that the error itself names, else that of its headers."""
    for detail in details:
        if isinstance(detail.retry_delay, str) and (found := _DELAY.fullmatch(detail.retry_delay)):
            return float(found[1])
    return headers.retry_after_s(response.headers) if isinstance(response, httpx2.Response) else None
