"""What must stay untouched while a file is examined: another file that lies beside it, and a server."""

import ctypes
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

_IN_ACCESS, _IN_OPEN, _NONBLOCK = 0x1, 0x20, os.O_NONBLOCK


class Watched:
    """A file of which it is noticed (by Linux: inotify) when somebody opens it."""

    def __init__(self, path: Path) -> None:
        """Begin to watch."""
        libc = ctypes.CDLL(None, use_errno=True)
        self._notices = libc.inotify_init1(_NONBLOCK)
        assert libc.inotify_add_watch(self._notices, os.fsencode(path), _IN_ACCESS | _IN_OPEN) >= 0

    def was_opened(self) -> bool:
        """Return whether it was opened since the last time that this was asked."""
        try:
            return bool(os.read(self._notices, 65_536))
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Stop watching."""
        os.close(self._notices)


class Heard:
    """A server on loopback that only counts."""

    def __init__(self) -> None:
        """Start it."""
        heard = self.paths = list[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                heard.append(self.path)
                self.send_error(404)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name there)
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def ask(self, path: str) -> None:
        """Ask it for something, as somebody would."""
        connection = HTTPConnection("127.0.0.1", self._server.server_port, timeout=5)
        connection.request("GET", path)
        connection.getresponse().close()
        connection.close()

    def close(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def untouched(path: Path) -> Generator[tuple[Watched, Heard]]:
    """Watch a file and a server."""
    watched, heard = Watched(path), Heard()
    try:
        yield watched, heard
    finally:
        watched.close()
        heard.close()
