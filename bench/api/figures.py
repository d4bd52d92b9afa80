"""Turns the rounds of `bench api` into its figures: medians over the rounds, and ratios taken within each round."""

import statistics
from collections.abc import Mapping, Sequence

from msgspec import Struct

#: Who is measured: ours and the textbook, each with one account and with many, and the bare endpoint.
HOT, MANY, OTHER_HOT, OTHER_MANY, BARE = "pulse_hot", "pulse_many", "textbook_hot", "textbook_many", "bare"
#: Which rate is quoted as how many times which other.
_RATIOS = {
    "hot_to_textbook": (HOT, OTHER_HOT),
    "many_to_textbook": (MANY, OTHER_MANY),
    "hot_to_bare": (HOT, BARE),
    "many_to_bare": (MANY, BARE),
}


class Top(Struct, frozen=True, kw_only=True):
    """The highest rate of one, and what a submission cost then, in microseconds of each process."""

    per_s: float
    connections: int
    p50_ms: float
    p99_ms: float
    cpu_us: dict[str, float]


class Paced(Struct, frozen=True, kw_only=True):
    """Latencies at a fixed rate."""

    per_s: float
    p50_ms: float
    p99_ms: float
    samples: int


class Round(Struct, kw_only=True):
    """What one round found out: by who it is, and for fixed rates by what they are called."""

    top: dict[str, Top] = {}
    half: dict[str, Paced] = {}
    ledger_per_s: float = 0.0
    ledger_cpu_us: float = 0.0


def summary(rounds: Sequence[Round]) -> dict[str, object]:
    """Return the figures. The latency at half of the top rate is ours, with one account or many, whichever is worse."""
    half = _half(rounds)
    ours = {who: half[who]["p99_ms"] for who in (HOT, MANY)}
    return {
        "submits_per_s": {who: round(_median_top(rounds, who)) for who in rounds[0].top},
        "p99_ms_at_half": max(ours.values()),
        "p99_ms_at_half_is_of": max(ours, key=ours.__getitem__),
        "ledger_hot_per_s": round(statistics.median(one.ledger_per_s for one in rounds)),
        "ledger_cpu_us": round(statistics.median(one.ledger_cpu_us for one in rounds)),
        "ratios": ratios(rounds),
        "half": half,
        "cpu_us_per_submit": {who: _cpu_us(rounds, who) for who in rounds[0].top},
        "connections_at_top": {who: [one.top[who].connections for one in rounds] for who in rounds[0].top},
    }


def ratios(rounds: Sequence[Round]) -> dict[str, float]:
    """Return the median over the rounds of each ratio of two rates of the same round."""
    return {
        name: round(statistics.median(one.top[who].per_s / one.top[other].per_s for one in rounds), 2)
        for name, (who, other) in _RATIOS.items()
    }


def _median_top(rounds: Sequence[Round], who: str) -> float:
    return statistics.median(one.top[who].per_s for one in rounds)


def _half(rounds: Sequence[Round]) -> dict[str, dict[str, float]]:
    """Return the medians of each one's rounds; not everyone is in each of them."""
    found: dict[str, dict[str, float]] = {}
    for who in {who: None for one in rounds for who in one.half}:
        paced = [one.half[who] for one in rounds if who in one.half]
        found[who] = {
            "per_s": round(statistics.median(one.per_s for one in paced)),
            "p50_ms": round(statistics.median(one.p50_ms for one in paced), 2),
            "p99_ms": round(statistics.median(one.p99_ms for one in paced), 2),
            "samples": min(one.samples for one in paced),
        }
    return found


def _cpu_us(rounds: Sequence[Round], who: str) -> Mapping[str, float]:
    parts = rounds[0].top[who].cpu_us
    return {part: round(statistics.median(one.top[who].cpu_us[part] for one in rounds)) for part in parts}
