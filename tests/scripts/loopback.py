"""What stand-ins of the studio serve with: threads on loopback, whose answers are held no longer than their test."""

import contextlib
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers on connections that stay, in silence."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else the end of an answer waits for its beginning to be acknowledged, 40 ms

    def handle(self) -> None:
        """Serve a connection; the other side may leave at any moment."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        """Stay silent."""


@contextmanager
def serving(server: ThreadingHTTPServer, hold: threading.Event) -> Generator[None]:
    """Serve for the length of a block; at its end what waits for `hold` goes on."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        hold.set()
        server.shutdown()
        thread.join()
        server.server_close()
