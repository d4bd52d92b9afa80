"""A deed that refuses, apart from the others since our errors load much."""

from workers.perform import JobTimedOut


def refuse(seconds: float) -> None:
    """Raise one of our errors."""
    raise JobTimedOut(seconds=seconds)
