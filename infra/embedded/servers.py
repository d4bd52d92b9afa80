"""Decides which embedded servers a studio needs, and starts and stops them together."""

import os
from types import TracebackType
from typing import Self

from infra import pidfile
from infra.embedded import addresses, postgres, valkey
from infra.embedded.server import Say, Server
from infra.errors import PulseError
from infra.settings import Settings


class ServersRunning(PulseError):
    """The servers of {folder} already run under process {pid}."""

    ar = "خوادم {folder} تعمل بالفعل تحت العملية {pid}."


def _silent(_text: str) -> None:
    return


class Servers:
    """The embedded servers of one folder: those whose address is not set. A context manager."""

    def __init__(self, settings: Settings, say: Say = _silent) -> None:
        """Choose them; nothing is started. `say` is told the steps that take time."""
        self._settings = settings
        self._say = say
        self._servers: list[Server] = []
        self._lock: int | None = None

    def start(self) -> None:
        """Start them, both at once, and return when they answer.

        Raises `ServersRunning` when another process has them, `ServerMissing`, `SetprivMissing`, `ServerFailed`.
        """
        settings = self._settings
        chosen = [] if settings.redis_url else [valkey.server(settings)]
        chosen += [] if settings.database_url else [postgres.server(settings)]
        if not chosen:
            return
        path = settings.folder / "run" / "servers.pid"
        self._lock = pidfile.claim(path)
        if self._lock is None:
            raise ServersRunning(folder=settings.folder, pid=pidfile.named(path))
        pidfile.name(self._lock, os.getpid())
        try:
            addresses.make_socket_folder(settings)
            for server in chosen:
                self._servers.append(server)
                server.launch(self._say)
            for server in self._servers:
                server.wait()
            self._say(f"{' and '.join(server.name for server in chosen)}: ready")
        except BaseException:
            self.stop()
            raise

    def fallen(self) -> str | None:
        """Say which server ended by itself, if one did."""
        return next(
            (f"{each.name} ended by itself (its log: {each.log})" for each in self._servers if each.fallen), None
        )

    def stop(self) -> None:
        """Stop them, all at once, and return when they are gone. Their data stays."""
        for server in self._servers:
            server.ask_to_stop()
        while self._servers:
            self._servers.pop().stop()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        """Start them."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop them."""
        self.stop()
