"""`python -m api`: the API on Granian, in one process that ends its streams before it ends.

Granian's own supervisor is left out: told to stop, its worker waits for every open connection before the app hears of
it, and an event stream stays open for as long as its job runs; killed, it leaves a worker that goes on serving. More
processes are more `python -m api`, each behind the same balancer.
"""

import asyncio
import signal
import sys

import uvloop

from api import server
from api.app import create_app
from infra import settings, telemetry
from infra.errors import PulseError
from infra.settings import Settings


async def serve(configured: Settings) -> None:
    """Serve until told to stop; then end the event streams, answer what is under way, and return."""
    app = create_app(configured)
    serving = server.build(app, configured.host, configured.port)

    def stop() -> None:
        app.state.hub.close()
        serving.stop()

    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stop)
    await serving.serve()


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
