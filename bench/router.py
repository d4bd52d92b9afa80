"""How long the router takes to tell how hard a prompt is, and how often it is right, in Arabic as in English."""

import time
from collections.abc import Sequence

from bench.queue.figures import percentile
from infra.settings import ROOT
from providers.router import evaluate, route, twins
from providers.router.route import Asked

_FILES = ROOT / "tests" / "providers" / "router"
_HUGE = 200_000
_TURNS = 64


def run(*, quick: bool) -> dict[str, object]:
    """Return microseconds for one prompt, over all prompts of our twins in both languages, and the shares told right.

    Measured in this one thread: by the clock, and by the processor's time, which neighbours on the machine do not
    lengthen. `first_ms` is the very first prompt of a process, which loads the lexicon and the weights; `cold` ones
    have words that no prompt before had. `huge` is a prompt of 200,000 letters, `turns_64` a conversation, and
    `turns_64_again` one of which all turns but the last are known; no turn of the others is.
    """
    files = {file.stem: twins.read(file) for file in sorted(_FILES.glob("*.jsonl"))}
    prompts = [text for pairs in files.values() for pair in pairs for text in (pair.en, pair.ar)]
    started = time.perf_counter()
    route.tier([Asked("user", "hello")])
    first_ms = 1_000 * (time.perf_counter() - started)
    turns = [[Asked("user", text)] for text in prompts]
    cold = _spent(turns)
    warm = [spent for _round in range(2 if quick else 20) for spent in _spent(turns)]
    rounds = 20 if quick else 300
    huge = _spent([[Asked("user", (" ".join(prompts[side::2]) * 9)[:_HUGE])] for side in (0, 1)] * rounds)
    talk = [Asked("user", text) for text in prompts[:_TURNS]]
    long = _spent([talk] * rounds)
    again = _spent([talk, *([*talk[:-1], Asked("user", f"{n}. {talk[-1].text}")] for n in range(rounds))], known=True)[
        1:
    ]
    found: dict[str, object] = {"prompts": len(prompts), "first_ms": round(first_ms, 1)}
    for name, spent in (("cold", cold), ("", warm), ("huge", huge), ("turns_64", long), ("turns_64_again", again)):
        found |= _figures(name, spent)
    for name, pairs in files.items():
        for part in sorted({pair.part for pair in pairs}):
            told = evaluate.tell([pair for pair in pairs if pair.part == part])
            found["_".join(filter(None, (name, part)))] = evaluate.figures(told)
    return found


def _spent(conversations: Sequence[Sequence[Asked]], *, known: bool = False) -> list[tuple[float, float]]:
    """Return the microseconds that each took, by the clock and of the processor."""
    spent: list[tuple[float, float]] = []
    for turns in conversations:
        if not known:
            route.scored.cache_clear()
        clock, processor = time.perf_counter_ns(), time.thread_time_ns()
        route.tier(turns)
        spent.append(((time.perf_counter_ns() - clock) / 1_000, (time.thread_time_ns() - processor) / 1_000))
    return spent


def _figures(name: str, spent: Sequence[tuple[float, float]]) -> dict[str, object]:
    clock, processor = ([pair[side] for pair in spent] for side in (0, 1))
    figures = {
        "p50_us": percentile(clock, 0.5),
        "p99_us": percentile(clock, 0.99),
        "p50_cpu_us": percentile(processor, 0.5),
        "p99_cpu_us": percentile(processor, 0.99),
    }
    return {"_".join(filter(None, (name, key))): round(value, 1) for key, value in figures.items()}
