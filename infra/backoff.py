"""How long to wait before trying again: exponential, with full jitter, so that those who failed together spread out."""

import random


def wait_s(failures: int, *, base_s: float, most_s: float) -> float:
    """Return a random wait of at most `base_s`, doubled with every failure after the first, never above `most_s`."""
    return random.uniform(0, min(most_s, base_s * 2 ** min(failures - 1, 32)))  # noqa: S311 (no secret)
