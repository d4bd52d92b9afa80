"""How long a call waits before it is tried again, and from when on it rather goes another way."""

import random
from typing import Final

from providers import types
from providers.catalog import Model
from providers.types import ChatCall, ProviderError

#: What is waited for a door of a model: shortly where another model can answer; longer than this, a job's own retry
#: waits better, which holds no slot of a worker meanwhile.
FURTHER_S: Final = 5.0
LAST_S: Final = 10.0
#: How long a door rests that said "too many requests" and not until when.
UNTOLD_S: Final = 1.0
_BASE_S = 0.5
_MOST_S = 8.0
_THINKS = 3.0
#: These pass by themselves.
PASSING = (
    types.ProviderUnavailable,
    types.ProviderTimedOut,
    types.ProviderRateLimited,
    types.AnswerTruncated,
)


def pause_s(failures: int) -> float:
    """Return the wait after so many failures: exponential with jitter, full at first.

    The bands do not overlap, so that whoever fails again always waits longer than before.
    """
    most = min(_MOST_S, _BASE_S * 3 ** (failures - 1))
    return random.uniform(0 if failures == 1 else most / 2, most)  # noqa: S311 (no secret)


def spread_s(wait_s: float) -> float:
    """Return a wait that somebody else told, and a little more, so that not all who were told so come at once."""
    return wait_s + random.uniform(0, min(1.0, wait_s / 4))  # noqa: S311 (no secret)


def first_token_s(call: ChatCall, model: Model, *, usual_s: float) -> float:
    """Return in how many seconds a model has to begin: one that is to think may take longer."""
    thinks = call.effort in {"medium", "high"} or (call.effort is None and model.tier == "reasoning")
    return usual_s * _THINKS if thinks else usual_s


def more_telling(known: ProviderError | None, error: ProviderError) -> ProviderError:
    """Return which of two facts to tell: one that is worth another try of the job, else the later one."""
    return known if known is not None and known.retryable and not error.retryable else error
