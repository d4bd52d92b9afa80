"""Which fact each failure of OpenAI's SDK is, for OpenAI itself and for the servers that speak as it does."""

import json
from collections.abc import Generator
from contextlib import contextmanager

import httpx2
import openai

from providers import headers, payload
from providers.text import kept
from providers.types import (
    AnswerTruncated,
    ProviderError,
    ProviderMisconfigured,
    ProviderRateLimited,
    ProviderRefused,
    ProviderTimedOut,
    ProviderUnavailable,
)

_REASON_CHARS = 500
#: A 429 for which no waiting helps: the account behind the key has nothing left.
_UNPAID = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "quota_exceeded"}
_BUSY = {"rate_limit_exceeded", "rate_limit_error", "too_many_requests", "429"}
#: How the codes begin that say that the request itself is at fault (`openai.types.responses.ResponseError`).
_REFUSED = ("invalid", "image_", "unsupported_", "empty_", "failed_to_download", "context_length", "content_filter")


@contextmanager
def facts(lost: type[ProviderError], key: str) -> Generator[None]:
    """Let every failure of the block be a fact; a connection that breaks is the fact `lost`. `key` is never quoted."""
    try:
        yield
    except openai.APIStatusError as error:
        raise _status(error, key) from None  # its text may quote the key
    except openai.APITimeoutError as error:
        raise ProviderTimedOut from error
    except openai.APIConnectionError as error:
        raise lost from error
    except openai.APIResponseValidationError as error:
        raise AnswerTruncated from error
    except openai.APIError as error:  # told inside the stream
        raise told(error.code or error.type, error.message, key) from None
    except httpx2.TimeoutException as error:
        raise ProviderTimedOut from error
    except (httpx2.RequestError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AnswerTruncated from error


def told(code: object, message: str, key: str) -> ProviderError:
    """Return the fact of an error that came inside an answer, by its code (or type); servers have their own ones."""
    name = str(code or "").lower()
    if name in _UNPAID:
        return ProviderMisconfigured()
    if name in _BUSY:
        return ProviderRateLimited()
    if name.startswith(_REFUSED) or "policy" in name or name in {"400", "badrequesterror", "invalid_request_error"}:
        return ProviderRefused(reason=_quoted(message, key))
    return ProviderUnavailable()


def _status(error: openai.APIStatusError, key: str) -> ProviderError:
    wish = headers.retry_after_s(error.response.headers)
    match error.status_code:
        case 429:
            unpaid = _UNPAID & {str(error.code), str(error.type)}
            return ProviderMisconfigured() if unpaid else ProviderRateLimited(retry_after_s=wish)
        case 401 | 402 | 403 | 404:
            return ProviderMisconfigured()
        case 408:
            return ProviderTimedOut(retry_after_s=wish)
        case 409 | 425:
            return ProviderUnavailable(retry_after_s=wish)
        case status if status >= 500:
            return ProviderUnavailable(retry_after_s=wish)
        case _:
            return ProviderRefused(reason=_quoted(payload.text(error.body, "message"), key))


def _quoted(message: str, key: str) -> str:
    return kept(message.replace(key, "***") if key else message)[:_REASON_CHARS]
