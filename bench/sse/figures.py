"""What `bench sse` finds out of each of the two, and the figures that come of it."""

import statistics
from collections.abc import Sequence

import msgspec
from msgspec import Struct


class Crowd(Struct, frozen=True, kw_only=True):
    """Viewers of one process at rest, and how fast they are served when every job speaks as fast as it is heard."""

    jobs: int
    viewers: int
    kib_per_viewer: float
    redis_connections: int
    deliveries_per_s: list[float]
    cpu_us: dict[str, float]


class Delay(Struct, frozen=True, kw_only=True):
    """Milliseconds from an event's emission to its arrival at the client, at a rate that is no trouble."""

    p50_ms: float
    p99_ms: float
    samples: int


class Faults(Struct, frozen=True, kw_only=True):
    """What became of events while viewers were dropped and the API was killed.

    It was gone for `down_s`; `caught_up_s` after the last event was said, everybody had seen everything.
    """

    events: int
    viewers: int
    drops: int
    kills: int
    resumed: int
    lost: int
    repeated: int
    misnumbered: int
    down_s: float
    caught_up_s: float


def summary(
    crowds: Sequence[Crowd], delays: Sequence[Delay], faults: Faults, other: Crowd | None, others: Sequence[Delay]
) -> dict[str, object]:
    """Return the figures: of several crowds the worst of each, of several delays the median."""
    figures: dict[str, object] = {
        "viewers": min(crowd.viewers for crowd in crowds),
        "kib_per_viewer": round(max(crowd.kib_per_viewer for crowd in crowds), 1),
        "redis_connections": max(crowd.redis_connections for crowd in crowds),
        "deliveries_per_s": round(min(statistics.median(crowd.deliveries_per_s) for crowd in crowds)),
        "emit_to_byte_ms": _delay(delays),
        "lost": faults.lost,
        "repeated": faults.repeated,
        "misnumbered": faults.misnumbered,
        "by_jobs": {f"{crowd.viewers} viewers of {crowd.jobs} jobs": _crowd(crowd) for crowd in crowds},
        "faults": msgspec.to_builtins(faults),
        "samples": min(delay.samples for delay in delays),
    }
    if other is not None:
        figures["textbook"] = {"viewers": other.viewers, "emit_to_byte_ms": _delay(others)} | _crowd(other)
    return figures


def _crowd(crowd: Crowd) -> dict[str, object]:
    return {
        "kib_per_viewer": round(crowd.kib_per_viewer, 1),
        "redis_connections": crowd.redis_connections,
        "deliveries_per_s": round(statistics.median(crowd.deliveries_per_s)),
        "cpu_us_per_delivery": {part: round(us, 1) for part, us in crowd.cpu_us.items()},
    }


def _delay(delays: Sequence[Delay]) -> dict[str, float]:
    return {
        "p50": round(statistics.median(delay.p50_ms for delay in delays), 2),
        "p99": round(statistics.median(delay.p99_ms for delay in delays), 2),
    }
