"""What all jobs of an account say beside their text, as it happens, and how a person sees it."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Protocol
from urllib.parse import urlencode
from uuid import UUID

from msgspec import Struct
from rich.console import Console
from rich.text import Text

from scripts.pulse import lines, unbroken
from scripts.pulse.client import Client
from scripts.pulse.follow import Said
from scripts.pulse.listing import STYLES
from scripts.pulse.problems import EventsLeft, EventsLost
from scripts.pulse.screen import FAILURES_TO_TELL, harmless, note, units
from scripts.pulse.unbroken import PATIENCE_S
from scripts.pulse.words import Words

#: After nothing at all.
ALL = "0"


class Told(Struct, frozen=True):
    """One event and the job that it is of; without a job, it is about the stream itself."""

    type: str = ""
    job: UUID | None = None
    kind: str = ""
    event: Said | None = None


class Line(Struct, frozen=True):
    """One event with its id (of the account's stream: milliseconds and a number) and its JSON."""

    id: str
    data: str
    told: Told


class Viewer(Protocol):
    """Who is shown an account's events: `Table` or `Lines`."""

    def show(self, line: Line) -> None:
        """Show one event."""
        ...

    def lost(self, failures: int) -> None:
        """Hear that the connection broke or could not be made, and how often in a row."""
        ...


def resume(kind: str | None, after: str) -> str:
    """Return the command that goes on after an event."""
    return "pulse events" + (f" --kind {kind}" if kind else "") + (f" --after {after}" if after else "")


def follow(
    client: Client,
    kind: str | None,
    after: str,
    *,
    on_lost: Callable[[int], None],
    patience_s: float = PATIENCE_S,
) -> Iterator[Line]:
    """Yield the events of the account's jobs (of a kind), each once and in order, for ever.

    They are those after an id: `ALL` for all that the studio keeps, and what comes from now on without one. Raises
    `Problem` when the API refuses, and `EventsLost` when nothing has come for `patience_s` seconds of trying.
    """

    def giving_up(seconds: float, seen: str) -> EventsLost:
        return EventsLost(url=client.url, seconds=seconds, resume=resume(kind, seen or after))

    query = {"kind": kind, "after": ALL if after == ALL else ""}  # which is no id: it holds until one is known
    given = urlencode({name: value for name, value in query.items() if value}, errors="replace")
    path, start = "/v1/events" + (f"?{given}" if given else ""), "" if after == ALL else after
    told = unbroken.events(client, path, start, on_lost=on_lost, giving_up=giving_up, patience_s=patience_s)
    with closing(told):
        for sse in told:
            yield Line(sse.id, sse.data, client.read(sse.data.encode(), Told))


def watch(client: Client, kind: str | None, after: str, viewer: Viewer) -> None:
    """Show the account's events to `viewer` until a Ctrl-C, which raises `EventsLeft`."""
    shown = after
    try:
        for line in follow(client, kind, after, on_lost=viewer.lost):
            viewer.show(line)
            shown = line.id or shown
    except KeyboardInterrupt:
        raise EventsLeft(resume=resume(kind, shown)) from None


class Table:
    """Shows events to a person, one a line: when, which job, and what became of it."""

    def __init__(self, words: Words) -> None:
        """Write to stdout, in the language of `words`."""
        self._words = words
        self._console = Console(highlight=False, soft_wrap=True)

    def show(self, line: Line) -> None:
        """Show one event."""
        told = line.told
        if told.event is None:
            if told.type == "missed":
                note(self._words.missed)
            return
        # What is in words comes last: a terminal that turns Arabic around would take what follows along.
        said, kind = told.event, harmless(told.kind)
        state, detail = harmless(said.type), harmless(self._detail(said))
        start, style = f"{_clock(line.id)}  {told.job}  {kind}  ", STYLES.get(said.type, "")
        self._console.print(Text.assemble(start, (f"{state:<9}  " if detail else state, style), detail))

    def lost(self, failures: int) -> None:
        """Say that the connection is being made again, unless the first try already does it."""
        if failures == FAILURES_TO_TELL:
            note(self._words.lost)

    def _detail(self, said: Said) -> str:
        match said.type:
            case "succeeded" | "canceled":
                return units(said.charged, self._words.language)
            case "failed":
                return f"{said.code}  {said.ar if self._words.language == 'ar' else said.en}"
            case "progress":
                return f"{said.done}/{said.total} {said.stage}"
            case "warning":
                return " ".join([said.code, *map(str, said.detail.values())])
            case _:
                return ""


def _clock(event_id: str) -> str:
    milliseconds = event_id.partition("-")[0]
    if not milliseconds.isdecimal() or len(milliseconds) > 14:  # so many are the year 5138
        return " " * 8
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC).astimezone().strftime("%H:%M:%S")


class Lines:
    """Shows events to a program, one JSON object a line, as they came with their ids."""

    def show(self, line: Line) -> None:
        """Write one event."""
        lines.write(({"id": line.id} if line.told.event else {}) | lines.members(line.data))

    def lost(self, failures: int) -> None:
        """Say nothing: a program waits."""
