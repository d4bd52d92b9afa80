"""A job's events, from one on to the last, and what the command reads of them."""

from collections.abc import Callable, Iterator
from contextlib import closing
from uuid import UUID

from msgspec import Struct

from scripts.pulse import unbroken
from scripts.pulse.client import Client
from scripts.pulse.problems import StudioLost
from scripts.pulse.unbroken import PATIENCE_S

_TERMINAL = frozenset({"succeeded", "failed", "canceled", "expired"})


class Said(Struct, frozen=True):
    """What the command reads of an event, whatever its type; a type has some of these."""

    type: str
    text: str = ""
    name: str = ""
    arguments: str = ""
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    estimated: bool = False
    done: int = 0
    total: int = 0
    stage: str = ""
    charged: dict[str, int] = {}
    code: str = ""
    detail: dict[str, object] = {}
    en: str = ""
    ar: str = ""

    @property
    def is_last(self) -> bool:
        """Whether the job is over."""
        return self.type in _TERMINAL


class Event(Struct, frozen=True):
    """One event: its id, its JSON and what it says."""

    id: str
    data: str
    said: Said


def resume(job_id: UUID, after: str) -> str:
    """Return the command that goes on after an event."""
    return f"pulse jobs follow {job_id}" + (f" --after {after}" if after else "")


def follow(
    client: Client,
    job_id: UUID,
    after: str,
    *,
    on_lost: Callable[[int], None],
    patience_s: float = PATIENCE_S,
) -> Iterator[Event]:
    """Yield a job's events after an id until the last one, each once and in order.

    A connection that breaks is made again; `on_lost` is told how many failures in a row there were. Raises `Problem`
    when the API refuses, and `StudioLost` when nothing has come for `patience_s` seconds of trying.
    """

    def giving_up(seconds: float, seen: str) -> StudioLost:
        return StudioLost(url=client.url, seconds=seconds, resume=resume(job_id, seen))

    path = f"/v1/jobs/{job_id}/events"
    told = unbroken.events(client, path, after, on_lost=on_lost, giving_up=giving_up, patience_s=patience_s)
    with closing(told):
        for sse in told:
            event = Event(sse.id, sse.data, client.read(sse.data.encode(), Said))
            yield event
            if event.said.is_last:
                return
