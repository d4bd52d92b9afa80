"""Turns the rounds of `bench queue` into its figures: medians over the rounds, and ratios taken within each round."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

OURS = "pulse"
STOCK = "arq"


class Round(msgspec.Struct, kw_only=True):
    """What one round found out about one contender; a None is "not within the limit"."""

    enqueue_per_s: float = 0.0
    bulk_enqueue_per_s: float = 0.0
    jobs_per_s: float = 0.0
    jobs_per_s_of_100: float = 0.0
    worker_cpu_us: float = 0.0
    server_cpu_us: float = 0.0
    pickup_ms: list[float] = []
    most_running: int = 0
    rerun_s: float | None = None
    resume_s: float | None = None


Rounds = Mapping[str, Sequence[Round]]


def summary(rounds: Rounds, *, rerun_limit_s: float) -> dict[str, object]:
    """Return the figures of all contenders, each figure by contender."""

    def each[T](of: Callable[[Sequence[Round]], T]) -> dict[str, T]:
        return {name: of(own) for name, own in rounds.items()}

    def median(field: str, digits: int = 0) -> dict[str, float]:
        return each(lambda own: _rounded(statistics.median(getattr(one, field) for one in own), digits))

    return {
        "jobs_per_s": median("jobs_per_s"),
        "jobs_per_s_of_100_slots": median("jobs_per_s_of_100"),
        "enqueue_per_s": median("enqueue_per_s"),
        "bulk_enqueue_per_s": median("bulk_enqueue_per_s"),
        "pickup_ms": each(lambda own: pickup([delay for one in own for delay in one.pickup_ms])),
        "cpu_us_per_job": {
            name: {"worker": worker, "server": median("server_cpu_us")[name]}
            for name, worker in median("worker_cpu_us").items()
        },
        "slots_running_of_300": median("most_running"),
        "kill_to_rerun_s": each(lambda own: or_longer([one.rerun_s for one in own], rerun_limit_s)),
        "survives_restart": each(lambda own: all(one.resume_s is not None for one in own)),
        "resume_s": each(lambda own: or_never([one.resume_s for one in own])),
        "ratios": ratios(rounds),
    }


def pickup(delays_ms: Sequence[float]) -> dict[str, float]:
    """Return the percentiles that are quoted."""
    return {f"p{share}": round(percentile(delays_ms, share / 100), 2) for share in (50, 99)}


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of the values that at least this share of them do not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def most_at_once(changes: Iterable[tuple[int, int]]) -> int:
    """Return the most that ran at once, given each start (+1) and end (-1) with its time, in any order."""
    running = most = 0
    for _time, change in sorted(changes):  # an end sorts before a start of the same moment
        running += change
        most = max(most, running)
    return most


def or_longer(found_s: Sequence[float | None], limit_s: float) -> float | str:
    """Return the median, or ">limit" where that was not waited for."""
    middle = _median(found_s)
    return round(middle, 1) if middle < math.inf else f">{limit_s:.0f}"


def or_never(found_s: Sequence[float | None]) -> float | None:
    """Return the median, or None where that is never."""
    middle = _median(found_s)
    return round(middle, 2) if middle < math.inf else None


def ratios(rounds: Rounds) -> dict[str, float]:
    """Return how many times as fast ours is: each ratio within a round, then the median of the rounds.

    Each one is against the peer that did best in that round. Empty without ours or without peers.
    """
    peers = {name: own for name, own in rounds.items() if name != OURS}
    if OURS not in rounds or not peers:
        return {}

    def against(field: str, names: Iterable[str]) -> float:
        quotients = [
            getattr(one, field) / max(getattr(rounds[name][number], field) for name in names)
            for number, one in enumerate(rounds[OURS])
        ]
        return round(statistics.median(quotients), 2)

    fields = ("jobs_per_s", "jobs_per_s_of_100", "enqueue_per_s", "bulk_enqueue_per_s")
    found = {f"{field}_to_best": against(field, tuple(peers)) for field in fields}
    return found | ({"jobs_per_s_to_arq": against("jobs_per_s", (STOCK,))} if STOCK in peers else {})


def _median(found_s: Sequence[float | None]) -> float:
    """Return the median, the upper one of two, where None is longer than any time."""
    return statistics.median_high(math.inf if one is None else one for one in found_s)


def _rounded(value: float, digits: int) -> float:
    return round(value, digits) if digits else round(value)
