"""One try of a delivery: what is sent, and what is kept of the answer."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import structlog
from msgspec import Struct

from infra.errors import PulseError
from infra.fetch import Fetcher, FetchTimedOut
from infra.fetch.answer import FetchBroken
from infra.seal import SealBroken
from workers.webhooks import schedule, signing
from workers.webhooks.claiming import Claimed
from workers.webhooks.signing import Key

log = structlog.stdlib.get_logger()

#: So much of an answer is kept.
MOST_BYTES = 1024
# The head of an answer says all; its body is only for the log.
_BODY_S = 2.0
_GONE = 410
_THROTTLES = frozenset({429, 502, 503, 504})

#: Tells the time in seconds, as `time.time` does.
type Clock = Callable[[], float]


class Tried(Struct, frozen=True, kw_only=True):
    """How a try ended: with an answer's `status`, or with the `code` of what kept it from having one."""

    delivery: Claimed
    at: datetime
    took_ms: int
    status: int | None = None
    code: str | None = None
    answer: str = ""
    retry_after_s: float | None = None

    @property
    def taken(self) -> bool:
        """Whether the receiver has taken it."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        """Whether the receiver wants nothing any more, ever."""
        return self.status == _GONE

    @property
    def ours(self) -> bool:
        """Whether it failed by a fault of ours, of which the receiver knows nothing."""
        return self.code == SealBroken.code

    @property
    def throttled(self) -> bool:
        """Whether the receiver cannot keep up."""
        return self.status in _THROTTLES or self.code == FetchTimedOut.code

    def entry(self) -> dict[str, object]:
        """Return the try as the delivery's log keeps it."""
        return {
            "at": self.at,
            "status": self.status,
            "took_ms": self.took_ms,
            "code": self.code,
            "answer": self.answer,
        }


async def send(fetcher: Fetcher, delivery: Claimed, keys: Sequence[Key], *, within_s: float, clock: Clock) -> Tried:
    """Post a delivery once, signed anew: a receiver refuses what carries the time of an earlier try.

    It is not sent unsigned: without `keys` the try has failed. So it has where an answer is of a kind that nobody
    thought of: a delivery that ended here with no outcome would be due again for ever.
    """
    now, start = clock(), time.monotonic()
    at = datetime.fromtimestamp(now, UTC)
    if not keys:
        return Tried(delivery=delivery, at=at, took_ms=0, code=SealBroken.code)
    try:
        return await _post(fetcher, delivery, keys, now, within_s, clock)
    except PulseError as error:
        code = error.code
    except Exception:
        log.exception("a webhook broke its delivery", delivery=str(delivery.id))
        code = FetchBroken.code
    return Tried(delivery=delivery, at=at, took_ms=_ms_since(start), code=code)


async def _post(
    fetcher: Fetcher, delivery: Claimed, keys: Sequence[Key], now: float, within_s: float, clock: Clock
) -> Tried:
    start, body = time.monotonic(), delivery.body.encode()
    headers = {"content-type": "application/json", **signing.headers(delivery.message_id, int(now), body, keys)}
    answer = await fetcher.post(
        delivery.url,
        body,
        headers=headers,
        most_bytes=MOST_BYTES,
        within_s=within_s,
        body_s=min(_BODY_S, within_s / 4),
    )
    return Tried(
        delivery=delivery,
        at=datetime.fromtimestamp(now, UTC),
        took_ms=_ms_since(start),
        status=answer.status,
        # PostgreSQL's JSON keeps everything but NUL.
        answer=answer.body.decode(errors="replace").replace("\0", "\ufffd"),
        retry_after_s=schedule.retry_after_s(answer.headers.get("retry-after"), datetime.fromtimestamp(clock(), UTC)),
    )


def _ms_since(start: float) -> int:
    return round((time.monotonic() - start) * 1000)
