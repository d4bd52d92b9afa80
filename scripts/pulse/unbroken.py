"""One sequence of server-sent events, whatever happens to the connection on the way."""

import time
from collections.abc import Callable, Generator

import httpx2

from infra import backoff
from scripts.pulse.client import Client
from scripts.pulse.problems import NotAStudio, Problem

#: How long nothing may come of coming back before the command gives up.
PATIENCE_S = 120.0
_LONGEST_WAIT_S = 10.0
# A connection that was open this long was alive, also where there was nothing to say.
_ALIVE_S = 20.0

# Whoever comes back may find that the studio still counts the stream that broke.
_TOO_MANY = 429

#: Makes what is raised where the studio stays away: of the seconds that it did, and the last event's id.
type GivingUp = Callable[[float, str], Exception]


def events(
    client: Client,
    path: str,
    after: str,
    *,
    on_lost: Callable[[int], None],
    giving_up: GivingUp,
    patience_s: float = PATIENCE_S,
) -> Generator[httpx2.ServerSentEvent]:
    """Yield what the stream at `path` says after an event id, each event once and in order, for ever.

    A connection that breaks is made again; `on_lost` is told how many failures in a row there were. Raises `Problem`
    when the API refuses, and what `giving_up` makes when nothing has come for `patience_s` seconds of trying.
    """
    failures, alive_at_s, began = 0, time.monotonic(), False
    while True:
        opened_at_s = None
        try:
            with client.events(path, after) as source:
                opened_at_s, began = time.monotonic(), True
                for sse in source:
                    after = sse.id or after
                    if sse.data:  # one without says how soon to come back, or how far everything is told
                        failures, alive_at_s = 0, time.monotonic()
                        yield sse
        except Problem as error:
            if not began or error.members.get("status") != _TOO_MANY:
                raise
        except httpx2.SSEError as error:
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
            raise giving_up(now_s - alive_at_s, after)
        on_lost(failures)
        time.sleep(backoff.wait_s(failures, base_s=0.5, most_s=_LONGEST_WAIT_S))
