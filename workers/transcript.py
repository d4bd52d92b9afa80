"""What an attempt said, compacted for PostgreSQL without losing a single event id.

Deltas that follow one another are one entry: their whole text and where each one ended, so that a viewer can still
resume in the middle of it.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Raw, Struct

from infra.models import Document
from infra.streams import Event, EventId
from workers import events


class Transcript(Struct, kw_only=True):
    """The events of one attempt, numbered from 1: runs of deltas, and every other event as it was."""

    attempt: int
    entries: "list[Deltas | Other]"


class Deltas(Struct, kw_only=True, tag="deltas"):
    """Deltas that followed one another; `lengths` are theirs, in characters."""

    text: str
    lengths: list[int]


class Other(Struct, kw_only=True, tag="event"):
    """Any other event."""

    said: Annotated[Raw, msgspec.Meta()]


class Writer:
    """Keeps what an attempt says, event by event."""

    def __init__(self, attempt: int) -> None:
        """Begin before the first event."""
        self._attempt = attempt
        self._entries: list[Other | tuple[list[str], list[int]]] = []

    def add(self, said: events.Said | None, data: bytes) -> None:
        """Add an event; `data` is how it was encoded. None stands for one that this build does not know."""
        last = self._entries[-1] if self._entries else None
        if not isinstance(said, events.Delta):
            self._entries.append(Other(said=Raw(data)))
        elif isinstance(last, tuple):
            last[0].append(said.text)
            last[1].append(len(said.text))
        else:
            self._entries.append(([said.text], [len(said.text)]))

    def encoded(self) -> Raw:
        """Return the transcript as JSON."""
        entries = [
            Deltas(text="".join(entry[0]), lengths=entry[1]) if isinstance(entry, tuple) else entry
            for entry in self._entries
        ]
        return Raw(msgspec.json.encode(Transcript(attempt=self._attempt, entries=entries)))


def compact(attempt: int, said: Sequence[bytes]) -> Raw:
    """Return what an attempt said, first event first, as JSON for the job's row."""
    writer = Writer(attempt)
    for data in said:
        writer.add(_known(data), data)
    return writer.encoded()


def _known(data: bytes) -> events.Said | None:
    """Read an event, unless only a newer build could say it."""
    try:
        return events.decode(data)
    except msgspec.ValidationError:
        return None


def unfold(document: Document | None, after: EventId) -> list[Event]:
    """Return the events of a compacted transcript after an id, each with the id it had."""
    if document is None:
        return []
    transcript = msgspec.json.decode(msgspec.json.encode(document), type=Transcript)
    said: list[bytes] = []
    for entry in transcript.entries:
        if isinstance(entry, Other):
            said.append(bytes(entry.said))
            continue
        start = 0
        for length in entry.lengths:
            said.append(events.encode(events.Delta(text=entry.text[start : start + length])))
            start += length
    told = (Event(EventId(transcript.attempt, n), data) for n, data in enumerate(said, start=1))
    return [event for event in told if event.id > after]
