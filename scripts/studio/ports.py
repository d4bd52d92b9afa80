"""Decides on which ports the studio's processes listen: the set ones, or the next free ones."""

import errno
import socket
from collections.abc import Collection

from infra.settings import InvalidSetting

_LAST = 65535


def free(host: str, port: int, taken: Collection[int] = ()) -> int:
    """Return the first free port of `host` from `port` on that is not `taken`. Raises `InvalidSetting`."""
    for candidate in range(port, _LAST + 1):
        if candidate not in taken and _is_free(host, candidate):
            return candidate
    raise InvalidSetting(key="PULSE_PORT", reason=f"no port from {port} on is free")


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            return False
        raise InvalidSetting(key="PULSE_HOST", reason=f"cannot listen on {host}: {error.strerror}") from error
    return True
