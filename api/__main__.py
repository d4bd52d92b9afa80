"""`python -m api`: the API on Granian, in one process that ends its streams before it ends.

Granian's own supervisor is left out: told to stop, its worker waits for every open connection before the app hears of
it, and an event stream stays open for as long as its job runs; killed, it leaves a worker that goes on serving. More
processes are more `python -m api`, each behind the same balancer.
"""

import asyncio
import gc
import signal
import sys

import uvloop

from api import server
from api.app import create_app
from infra import settings, telemetry
from infra.errors import PulseError
from infra.settings import Settings

# So many more objects than there were, and the collector looks; its own 2,000 are twenty requests.
_COLLECT_EVERY = 50_000
# The server's threads, which read requests and send answers, wait this long for Python at most: its own 5 ms are added
# to an answer several times.
_TURN_S = 0.001


async def serve(configured: Settings) -> None:
    """Serve until told to stop; then end the event streams, answer what is under way, and return."""
    app = create_app(configured)
    serving = server.build(app, configured.host, configured.port)

    def stop() -> None:
        app.state.hub.close()
        serving.stop()

    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stop)
    _collect_seldom()
    sys.setswitchinterval(_TURN_S)
    await serving.serve()


def _collect_seldom() -> None:
    """Have the collector pass over what was built by now, and look at requests many at a time: they leave no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY)


def main() -> None:
    """Serve with the process's own settings."""
    try:
        configured = settings.load()
    except PulseError as error:
        sys.exit(str(error))
    telemetry.configure(configured, "api")
    server.open_many_files()
    uvloop.run(serve(configured))


if __name__ == "__main__":
    main()
