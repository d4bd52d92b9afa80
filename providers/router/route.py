"""Which tier of model a conversation takes, and which of the models at hand that is: the same answer at every call.

No state and no network: every turn of the user is scored, and the hardest decides, so that a conversation goes up a
tier but never down again. What a turn scored is kept, since each further turn of a conversation brings all before it.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from msgspec import Struct

from providers.catalog import Model, Tier
from providers.router.reasons import REASONS, codes
from providers.router.score import TIERS, score
from providers.router.shape import cut

# Each at most what `cut` leaves of a text, with its reasons: some 10 MiB if all were long.
_KEPT_TURNS = 2_048
_MEDIUM = TIERS.index("medium")


class Asked(Struct, frozen=True):
    """One turn of a conversation: its text, and how many images and files stand beside it."""

    role: Literal["system", "user", "assistant"]
    text: str
    images: int = 0
    files: int = 0


class Found(Struct, frozen=True):
    """The tier, how far up the ladder of tiers that is (0 to 1), and why, as codes of `reasons.REASONS`."""

    tier: Tier
    score: float
    because: tuple[str, ...]


def tier(turns: Sequence[Asked], *, tools: int = 0) -> Found:
    """Return what the hardest turn of the user takes; with images, files or tools never less than `medium`."""
    users = [turn for turn in turns if turn.role == "user"]
    if not users:
        return Found("simple", 0.0, ("ordinary",))
    ranks = [_found(turn, tools) for turn in users]
    best = max(ranks, key=lambda found: (TIERS.index(found.tier), found.score))
    latest = ranks[-1]
    if TIERS.index(latest.tier) < TIERS.index(best.tier):
        return Found(best.tier, best.score, ("earlier", *best.because))
    return Found(latest.tier, best.score, latest.because)


def _found(turn: Asked, tools: int) -> Found:
    rank, place, because = scored(cut(turn.text))
    given = [name for name, count in (("vision", turn.images), ("files", turn.files), ("tools", tools)) if count > 0]
    if given and rank < _MEDIUM:
        return Found("medium", max(place, _MEDIUM / (len(TIERS) - 1)), tuple(given))
    return Found(TIERS[rank], place, (*because, *given))


@lru_cache(maxsize=_KEPT_TURNS)
def scored(text: str) -> tuple[int, float, tuple[str, ...]]:
    """Return the rank of a turn's tier, its place on the ladder of tiers, and why; the latest turns are kept."""
    told = score(text)
    return told.rank, told.score, codes(told.because, simple=told.rank == 0)


def prepare() -> None:
    """Load the lexicon and the weights, some 30 ms, before anybody waits for the first answer."""
    score("hello مرحبا")


def choose(found: Found, candidates: Sequence[Model]) -> list[Model]:
    """Return the models to try, in this order: the cheapest that is good enough, then ever cheaper ones below it.

    What comes after the first is for who cannot pay it. Where none is good enough, the best ones are. Of models that
    cost the same, the first of `candidates` is taken.
    """
    if not candidates:
        return []
    wanted = min(TIERS.index(found.tier), max(_rank(model) for model in candidates))
    chosen = [min((model for model in candidates if _rank(model) >= wanted), key=_cost)]
    for rank in reversed(range(wanted)):
        below = [model for model in candidates if _rank(model) == rank and _cost(model) < _cost(chosen[-1])]
        chosen += [min(below, key=_cost)] if below else []
    return chosen


def reason(found: Found) -> dict[str, str]:
    """Return the first reason of a choice as its code and its text in both languages: `{"code", "en", "ar"}`."""
    code = found.because[0]
    return {"code": code, "en": REASONS[code].en, "ar": REASONS[code].ar}


def _rank(model: Model) -> int:
    return TIERS.index(model.tier)


def _cost(model: Model) -> int:
    """Weigh three tokens in for one out, as chats mostly are."""
    return 3 * model.weights.input + model.weights.output
