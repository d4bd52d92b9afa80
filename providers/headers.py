"""What the headers of a vendor's answer say of waiting: how long before another try, and what is left of a key."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from providers.types import Limits

#: OpenAI's names, which most compatible servers copy, and Anthropic's.
_LEFT = ("x-ratelimit-remaining-{}", "anthropic-ratelimit-{}-remaining")
_RESET = ("x-ratelimit-reset-{}", "anthropic-ratelimit-{}-reset")
#: `6m0s`, `1.5s`, `20ms`, as OpenAI writes a time; a bare number is seconds.
_STEPS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_STEP = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)")
_DIGITS = 15


def limits(headers: Mapping[str, str]) -> Limits:
    """Return what is left of a key's allowance, where the headers (by names in lower case) tell it."""
    return Limits(
        requests_left=_count(_first(headers, _LEFT, "requests")),
        requests_reset_s=_wait(_first(headers, _RESET, "requests")),
        tokens_left=_count(_first(headers, _LEFT, "tokens")),
        tokens_reset_s=_wait(_first(headers, _RESET, "tokens")),
    )


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the vendor's wish in seconds: `retry-after-ms`, or `retry-after` as seconds or as a date (RFC 9110)."""
    exact = _number(headers.get("retry-after-ms"))
    if exact is not None:
        return exact / 1000
    given = headers.get("retry-after")
    seconds = _number(given)
    if seconds is not None or not given:
        return seconds
    date = _date(given)
    # The vendor's own clock, where it tells it: ours may be wrong by more than the wish.
    return None if date is None else max(0.0, (date - (_date(headers.get("date")) or _now())).total_seconds())


def _first(headers: Mapping[str, str], names: tuple[str, ...], kind: str) -> str | None:
    return next((headers[key] for name in names if (key := name.format(kind)) in headers), None)


def _count(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS else None


def _wait(text: str | None) -> float | None:
    """Read a length of time, or a moment in RFC 3339 as Anthropic writes it."""
    text = (text or "").strip()
    steps = _STEP.findall(text)
    if steps and "".join(number + unit for number, unit in steps) == text:
        return sum(float(number) * _STEPS[unit] for number, unit in steps)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - _now()).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _date(text: str | None) -> datetime | None:
    try:
        date = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _now() -> datetime:
    return datetime.now(UTC)
