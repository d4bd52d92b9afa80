"""When a delivery is tried again, and how long an endpoint that asked for less is left alone."""

import email.utils
import random
from datetime import UTC, datetime, timedelta

#: Seconds before each try, as Standard Webhooks suggests: ten tries in about three days.
WAITS_S = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
#: By so much of a wait the tries of those that failed together spread, to both sides.
JITTER = 0.1
#: An endpoint that has taken nothing for so long is disabled.
PATIENCE = timedelta(days=5)
#: And only by a delivery that has failed so often, which takes half an hour: it may be the first after a long silence.
LEAST_FAILURES = 4
#: Or by one that has waited so long: of a great many that wait for an endpoint that can take none, each fails seldom.
OLD = timedelta(days=1)
_DAY_S = 86_400.0
_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 3_600.0
_SHORTEST_PAUSE_S = 1.0


def wait_s(failures: int) -> float | None:
    """Return the seconds until the next try after so many failed ones (1 or more); None where that was the last."""
    if failures >= len(WAITS_S):
        return None
    return WAITS_S[failures] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 (no secret)


def pause_s(pauses: int, retry_after_s: float | None) -> float:
    """Return the seconds for which an endpoint is left alone that was already paused so many times in a row.

    What it asks for is done, for a day at most; else it is a random half of 5 s, doubled every time, up to an hour.
    """
    if retry_after_s is not None:
        return max(retry_after_s, _SHORTEST_PAUSE_S)
    longest = min(_PAUSE_S * 2 ** min(pauses, 16), _LONGEST_PAUSE_S)
    return longest * random.uniform(0.5, 1)  # noqa: S311


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Read a Retry-After, seconds or a date (RFC 9110, 10.2.3): 0 to a day; None for what is none."""
    told = (header or "").strip()
    if told.isascii() and told.isdigit():
        return min(float(told[:10]), _DAY_S)
    try:
        moment = email.utils.parsedate_to_datetime(told)
    except (ValueError, OverflowError):  # the latter for a year or a zone that has more digits than a number
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - now).total_seconds(), 0.0), _DAY_S)
