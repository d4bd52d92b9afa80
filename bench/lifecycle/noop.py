"""The smallest metered kind there can be: it says one delta and is charged some of what was held for it."""

import sys

from msgspec import Struct

from infra.settings import Settings
from workers import events, kinds, pools
from workers.context import Made, Run
from workers.request import Asking, Request

KIND = "noop"
METER = "chat_tokens"
HELD, USED = 10, 7


class NoopInput(Struct, kw_only=True, forbid_unknown_fields=True):
    """Nothing is asked."""


class Noop(Request, tag=KIND):
    """Do nothing, metered."""

    input: NoopInput

    def resolved(self, asking: Asking) -> "Noop":  # noqa: ARG002
        """Return it as it is."""
        return self

    def most(self, asking: Asking) -> dict[str, int]:  # noqa: ARG002
        """Return what is held."""
        return {METER: HELD}


def timeout_s(settings: Settings) -> float:  # noqa: ARG001
    """Return the longest that one try may run."""
    return 60.0


async def make(request: Request, run: Run) -> Made:  # noqa: ARG001
    """Say something and return."""
    await run.say(events.Delta(text="word"))
    return Made(result={"done": True}, used={METER: USED})


def register() -> None:
    """Make this process know the kind, with this module as its room and a pool of its own."""
    kinds.SPECS[KIND] = Noop
    pools.POOLS[KIND] = (KIND,)
    sys.modules[f"workers.{KIND}.run"] = sys.modules[__name__]
