"""The Valkey of a measurement: the one of `make run`, with its persistence, in a folder of its own."""

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from redis import Redis

from bench.queue.process import STARTING
from infra.embedded import addresses, valkey
from infra.settings import Settings

_LOOK_EVERY_S = 0.01


class Valkey:
    """A server on a unix socket; a context manager, to be left by the thread that entered it."""

    def __init__(self) -> None:
        """Make its folder; nothing is started."""
        self._stack = ExitStack()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="pulse-bench-")))
        settings = Settings(env="test", home=str(folder))
        addresses.make_socket_folder(settings)
        self.url = addresses.redis_url(settings)
        self._server = valkey.server(settings)

    def start(self) -> None:
        """Start it, on the data it has, and return when it answers. Raises `ServerFailed`."""
        with STARTING:
            self._server.launch(lambda _step: None)
        self._server.wait()

    def stop(self) -> None:
        """Stop it; its data stays."""
        self._server.stop()

    def clear(self) -> None:
        """Forget all keys and write the file of persistence anew, so that nobody pays for those before him."""
        self._ask("FLUSHALL")
        self._ask("BGREWRITEAOF")
        while any(self._info("persistence")[f"aof_rewrite_{state}"] for state in ("in_progress", "scheduled")):
            time.sleep(_LOOK_EVERY_S)

    def cpu_s(self) -> float:
        """Return the CPU seconds that it has used since it started, in all its threads."""
        used = self._info("cpu")
        return used["used_cpu_user"] + used["used_cpu_sys"]

    def describe(self) -> str:
        """Say what it is and how it keeps its data, in its own words."""
        version = self._info("server")["valkey_version"]
        kept: dict[str, str] = self._ask("CONFIG GET", "append*")
        return f"Valkey {version}, appendonly {kept['appendonly']}, appendfsync {kept['appendfsync']}, unix socket"

    def _info(self, section: str) -> dict[str, Any]:
        return self._ask("INFO", section)

    def _ask(self, *command: str) -> Any:
        # A new connection each time: the server may have been restarted in between.
        client: Any = Redis.from_url(self.url, decode_responses=True)  # pyright: ignore[reportUnknownMemberType]
        with client:
            return client.execute_command(*command)

    def __enter__(self) -> Self:
        """Start it."""
        try:
            self.start()
        except BaseException:
            self._stack.close()
            raise
        self._stack.callback(self.stop)
        return self

    def __exit__(self, *_error: object) -> None:
        """Stop it and remove its folder."""
        self._stack.close()
