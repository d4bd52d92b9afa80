"""`python -m workers NAME [--burst]`: a worker of the pool NAME, the tender (`tend`), or who delivers `webhooks`.

arq's own command always builds a plain `arq.worker.Worker`, so pools are started here.
"""

import argparse
import asyncio
import contextlib
import signal
import sys

import uvloop

from infra import ground, settings, telemetry
from infra.errors import PulseError
from infra.settings import Settings
from workers import pools
from workers.tend import tend
from workers.webhooks import pool as webhooks
from workers.worker import StudioPool


def _slots(configured: Settings, name: str) -> int:
    return getattr(configured, f"{name}_slots")


async def _tend(configured: Settings) -> None:
    async with ground.opened(configured) as opened:
        tending = asyncio.create_task(tend(opened))
        for signum in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signum, tending.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await tending


async def _deliver(configured: Settings) -> None:
    stopped = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
    async with ground.opened(configured) as opened:
        await webhooks.deliver(opened, stopped)


_OTHERS = {"tend": _tend, "webhooks": _deliver}


def main() -> int:
    """Run what the command line names, until it is told to stop."""
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    parser.add_argument("name", choices=[*pools.POOLS, *_OTHERS])
    parser.add_argument("--burst", action="store_true", help="stop when the queue is empty")
    options = parser.parse_args()
    try:
        configured = settings.load()
    except PulseError as error:
        sys.exit(str(error))
    telemetry.configure(configured, options.name)
    if options.name in _OTHERS:
        uvloop.run(_OTHERS[options.name](configured))
        return 0
    asyncio.set_event_loop(uvloop.new_event_loop())
    StudioPool(configured, options.name, slots=_slots(configured, options.name), burst=options.burst).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
