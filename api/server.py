"""How the API is served: Granian in this process and loop, HTTP/1 only, tens of thousands of connections at a time.

docs/decisions/0010 says why.
"""

import resource

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server
from litestar import Litestar

# Connections that wait to be taken, and that are open at a time: Granian would take no more than the former.
_BACKLOG = 4096
_MOST_CONNECTIONS = 65_536
_HTTP1 = HTTP1Settings(
    # It is also how long a connection may be idle: longer than the 60 s after which balancers let go of theirs, so that
    # none is closed here while a request is on its way to it.
    header_read_timeout=75_000,
    # The most that a connection buffers. Less than this slows uploads down, and does not make an idle one smaller.
    max_buffer_size=65_536,
)


def build(app: Litestar, host: str, port: int) -> Server:
    """Return a server of `app`, to be run by `serve`."""
    return Server(
        app,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        http1_settings=_HTTP1,
        websockets=False,
        backlog=_BACKLOG,
        backpressure=_MOST_CONNECTIONS,
        log_enabled=False,
    )


def open_many_files() -> None:
    """Let this process have as many connections open as its operator allows it at all."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
