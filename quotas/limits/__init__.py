"""How much at once, and how soon again: rate limits and open streams, exact over all processes through Redis."""

from quotas.limits.rates import CLOSED, Kind, Limits, LimitsUnavailable, RateLimited, Verdict
from quotas.limits.streams import OpenStreams, TooManyStreams

__all__ = [
    "CLOSED",
    "Kind",
    "Limits",
    "LimitsUnavailable",
    "OpenStreams",
    "RateLimited",
    "TooManyStreams",
    "Verdict",
]
