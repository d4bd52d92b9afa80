"""How fast a batch goes, of what was seen of it in the last half minute, and when it will be over at that rate."""

import time
from collections import deque

_WINDOW_S = 30.0


class Pace:
    """What was seen of one count that grows."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._seen: deque[tuple[float, int]] = deque()

    def see(self, done: int) -> None:
        """Note that so many are done now."""
        now_s = time.monotonic()
        self._seen.append((now_s, done))
        while len(self._seen) > 2 and self._seen[1][0] < now_s - _WINDOW_S:
            self._seen.popleft()

    @property
    def rate(self) -> float:
        """How many a second; 0 while it is not known."""
        if not self._seen:
            return 0.0
        (from_s, before), (_, done) = self._seen[0], self._seen[-1]
        seconds = time.monotonic() - from_s  # not to the last look: when nothing comes any more, it sinks
        return (done - before) / seconds if done > before and seconds > 0 else 0.0

    def left_s(self, total: int) -> float | None:
        """Return how many seconds are left until `total`, where that can be told."""
        rate = self.rate
        return max(total - self._seen[-1][1], 0) / rate if rate else None


def clock(seconds: float) -> str:
    """Return a length of time as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
