"""A job's events as one unbroken sequence, whatever happens to the connection on the way."""

import time
from collections.abc import Callable, Iterator
from uuid import UUID

import httpx2
import msgspec
from msgspec import Struct

from infra import backoff
from scripts.pulse.client import Client
from scripts.pulse.problems import NotAStudio, StudioLost

#: How long nothing may come of coming back before the command gives up.
PATIENCE_S = 120.0
_LONGEST_WAIT_S = 10.0
# A connection that was open this long was alive, also where the job had nothing to say.
_ALIVE_S = 20.0
_TERMINAL = frozenset({"succeeded", "failed", "canceled", "expired"})


class Said(Struct, frozen=True):
    """What the command reads of an event, whatever its type; a type has some of these."""

    type: str
    text: str = ""
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
    failures, alive_at_s = 0, time.monotonic()
    while True:
        opened_at_s = None
        try:
            with client.events(job_id, after) as source:
                opened_at_s = time.monotonic()
                for event in _read(source):
                    failures, alive_at_s, after = 0, time.monotonic(), event.id
                    yield event
                    if event.said.is_last:
                        return
        except (httpx2.SSEError, msgspec.DecodeError) as error:
            raise NotAStudio(url=client.url) from error
        except httpx2.ReadTimeout:
            opened_at_s = None  # not even a heartbeat: it was open, but dead
        except httpx2.TransportError:
            pass  # so also for a stream that ends well but before its last event: the API restarts
        failures += 1
        now_s = time.monotonic()
        if opened_at_s is not None and now_s - opened_at_s > _ALIVE_S:
            failures, alive_at_s = 1, now_s
        if now_s - alive_at_s > patience_s:
            raise StudioLost(url=client.url, seconds=now_s - alive_at_s, resume=resume(job_id, after))
        on_lost(failures)
        time.sleep(backoff.wait_s(failures, base_s=0.5, most_s=_LONGEST_WAIT_S))


def _read(source: httpx2.EventSource) -> Iterator[Event]:
    for sse in source:
        if sse.data:  # one without is the server's word on how soon to come back
            yield Event(sse.id, sse.data, msgspec.json.decode(sse.data, type=Said))
