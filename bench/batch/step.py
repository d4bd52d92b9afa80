"""A metered kind that works for a moment, so that a slot has a turn to speak of."""

import asyncio
import sys

from msgspec import Struct

from infra.settings import Settings
from workers import events, kinds, pools
from workers.context import Made, Run
from workers.request import Asking, Request

KIND = "step"
METER = "chat_tokens"
HELD, USED = 10, 7
WORK_S = 0.05


class StepInput(Struct, kw_only=True, forbid_unknown_fields=True):
    """What is worked on: a text, as a real request has one."""

    text: str = ""


class Step(Request, tag=KIND):
    """Work for a moment, metered."""

    input: StepInput

    def resolved(self, asking: Asking) -> "Step":  # noqa: ARG002
        """Return it as it is."""
        return self

    def most(self, asking: Asking) -> dict[str, int]:  # noqa: ARG002
        """Return what is held."""
        return {METER: HELD}


def timeout_s(settings: Settings) -> float:  # noqa: ARG001
    """Return the longest that one try may run."""
    return 60.0


async def make(request: Request, run: Run) -> Made:  # noqa: ARG001
    """Work, say something and return."""
    await asyncio.sleep(WORK_S)
    await run.say(events.Delta(text="done"))
    return Made(result={"done": True}, used={METER: USED})


def register() -> None:
    """Make this process know the kind, with this module as its room and a pool of its own."""
    kinds.SPECS[KIND] = Step
    pools.POOLS[KIND] = (KIND,)
    sys.modules[f"workers.{KIND}.run"] = sys.modules[__name__]
