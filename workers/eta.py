"""When a waiting job will start and finish: from its place, the slots of the living workers, and recent run times.

The jobs of a pool that is kept busy end as a renewal process: `slots` of them run, each ends after a run time of mean m
and squared coefficient of variation c2, so the k-th end from now is expected after k * m / slots. While k is small
against the slots, the ends of many independent runs come as good as at random (c2 = 1, Palm and Khinchin's theorem);
later their number varies as the run times themselves do. Quantiles are the gamma distribution's (Wilson and Hilferty).
"""

import statistics
from collections.abc import Sequence

from msgspec import Struct

from infra.overview import Overview, Place
from infra.queue import BATCH_EVERY

# Standard normal quantiles.
_Z50, _Z90 = 0.0, 1.2816


class Span(Struct, frozen=True, kw_only=True):
    """Seconds from now: as likely sooner as later (`p50`), and sooner nine times in ten (`p90`)."""

    p50: float
    p90: float


class Outlook(Struct, frozen=True, kw_only=True):
    """A waiting job's `position` in its lane (1: it is next), and when it should start and finish.

    The times are missing where nothing is known of them: no worker lives, the pool is paused, or no job of the kind
    has run lately.
    """

    position: int
    starts_in_s: Span | None
    finishes_in_s: Span | None


class _Times(Struct, frozen=True):
    """Run times summed up, in seconds; `variation` is their squared coefficient of variation."""

    mean: float
    variation: float
    p50: float
    p90: float


class Pace:
    """How fast a pool works its jobs off: what was seen of it, summed up once for all who wait."""

    def __init__(self, pool: Overview) -> None:
        """Sum up how a pool stands."""
        self._slots = 0 if pool.control.paused else pool.slots
        self._control = pool.control
        self._kinds = {kind: _summed(times) for kind, times in pool.took_s.items() if times}
        ran = [took for times in pool.took_s.values() for took in times]
        self._all = _summed(ran) if ran else None

    def outlook(self, place: Place, kind: str, account_cap: int = 0) -> Outlook:
        """Return when a job of `kind` at `place` will start and finish; `account_cap` where operators have set none."""
        position, cap = place.before + 1, self._control.account_cap
        own = self._kinds.get(kind)
        if self._slots == 0 or own is None or self._all is None:
            return Outlook(position=position, starts_in_s=None, finishes_in_s=None)
        waits = [_wait(_before(place), place.running, self._slots, self._all)]
        if kind_cap := self._control.kind_caps.get(kind):
            waits.append(_wait(place.before, place.kind_running, kind_cap, own))
        if cap := account_cap if cap is None else cap:
            waits.append(_wait(place.before_of_account, place.account_running, cap, own))
        starts = Span(p50=max(wait.p50 for wait in waits), p90=max(wait.p90 for wait in waits))
        return Outlook(position=position, starts_in_s=_rounded(starts), finishes_in_s=_rounded(_then(starts, own)))


def _summed(took_s: Sequence[float]) -> _Times:
    mean, ordered = statistics.fmean(took_s), sorted(took_s)
    return _Times(
        mean=mean,
        variation=statistics.pvariance(took_s, mean) / mean**2 if mean > 0 else 1.0,
        p50=statistics.median(ordered),
        p90=ordered[min(len(ordered) - 1, int(len(ordered) * 0.9))],
    )


def _before(place: Place) -> int:
    """Return how many go before a job in both lanes."""
    if place.lane == "batch":
        return place.before + min(place.other_lane, (place.before + 1) * (BATCH_EVERY - 1))
    return place.before + min(place.other_lane, place.before // (BATCH_EVERY - 1))


def _wait(before: int, running: int, slots: int, took: _Times) -> Span:
    """Return how long until a slot is free for the job that `before` others precede, while `running` of `slots` run."""
    ends = before + 1 - max(0, slots - running)
    if ends <= 0:
        return Span(p50=0.0, p90=0.0)
    at_random = min(ends, slots)
    spread = (at_random + (ends - at_random) * took.variation) / ends
    # Whoever looks finds the runs half done on average, and longer ones the more their times vary.
    expected, shape = (ends - (1 - spread) / 2) * took.mean / slots, ends / max(spread, 1e-6)
    return Span(p50=expected * _gamma(shape, _Z50), p90=expected * _gamma(shape, _Z90))


def _gamma(shape: float, z: float) -> float:
    """Return a quantile of the gamma distribution whose mean is 1."""
    return (1 - 1 / (9 * shape) + z / (3 * shape**0.5)) ** 3


def _then(starts: Span, took: _Times) -> Span:
    """Add a run to a start; the two vary independently."""
    late = ((starts.p90 - starts.p50) ** 2 + (took.p90 - took.p50) ** 2) ** 0.5
    return Span(p50=starts.p50 + took.p50, p90=starts.p50 + took.p50 + late)


def _rounded(span: Span) -> Span:
    return Span(p50=round(span.p50, 1), p90=round(span.p90, 1))
