"""What a program sees of a job: one JSON object a line on stdout, the event as it came with its id."""

from types import TracebackType
from typing import Self

import msgspec

from scripts.pulse.follow import Event


def write(value: object) -> None:
    """Write one line."""
    print(msgspec.json.encode(value).decode(), flush=True)


def members(data: str) -> dict[str, object]:
    """Return the members of an event's JSON."""
    return msgspec.json.decode(data, type=dict[str, object])


class Lines:
    """Shows one job; the counterpart of `Screen`."""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Every line is complete already."""

    def show(self, event: Event) -> None:
        """Write one event."""
        write({"id": event.id, **members(event.data)})

    def lost(self, failures: int) -> None:
        """Say nothing: a program waits."""
