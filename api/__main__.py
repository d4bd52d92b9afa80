"""`python -m api`: the API on Granian."""

import sys

from granian import Granian
from granian.constants import Interfaces

from infra import settings
from infra.errors import PulseError


def main() -> None:
    """Serve until told to stop."""
    try:
        configured = settings.load()
    except PulseError as error:
        sys.exit(str(error))
    Granian(
        "api.app:create",
        factory=True,
        address=configured.host,
        port=configured.port,
        interface=Interfaces.ASGI,
        log_enabled=False,
        workers_kill_timeout=10,
    ).serve()


if __name__ == "__main__":
    main()
