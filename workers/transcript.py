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


def compact(attempt: int, said: Sequence[bytes]) -> Document:
    """Return what an attempt said, first event first, as a document for the job's row."""
    entries: list[Deltas | Other] = []
    for data in said:
        event = events.decode(data)
        if not isinstance(event, events.Delta):
            entries.append(Other(said=Raw(data)))
        elif entries and isinstance(entries[-1], Deltas):
            entries[-1].text += event.text
            entries[-1].lengths.append(len(event.text))
        else:
            entries.append(Deltas(text=event.text, lengths=[len(event.text)]))
    return msgspec.json.decode(msgspec.json.encode(Transcript(attempt=attempt, entries=entries)))


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
