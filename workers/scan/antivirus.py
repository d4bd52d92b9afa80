"""Has a file looked at by ClamAV: its clamd reads it off a connection, so it needs no access to our files.

The protocol is INSTREAM of clamd(8): the command, pieces with their length before them, an empty one, and the verdict.
"""

import asyncio
import contextlib
import re
import socket
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import urlsplit

from infra.errors import PulseError
from workers.scan.refusals import UnscannableFile, VirusFound

_PIECE_BYTES: Final = 256 * 1024
_LONGEST_ANSWER: Final = 4096
_LONGEST_NAME: Final = 100
_CLEAN: Final = "stream: OK"
_FOUND: Final = re.compile(r"stream: (.+) FOUND", re.DOTALL)
_TOO_LONG: Final = "size limit exceeded"
_STRANGE: Final = re.compile(r"[^A-Za-z0-9 ._:/()+-]+")


class ScannerUnavailable(PulseError):
    """The virus scanner does not answer."""

    ar = "فاحص الفيروسات لا يستجيب."
    retryable = True
    patience = 4.0


async def scan(address: str, path: Path, *, patience_s: float = 120.0) -> None:
    """Have clamd at `address` (`tcp://host:port` or `unix:///path`) look at a file, and return if it found nothing.

    Raises `VirusFound`; `UnscannableFile` for one that is longer than clamd takes; and `ScannerUnavailable` where it
    cannot be reached, hangs for `patience_s`, or says what nobody understands.
    """
    with path.open("rb") as file:
        try:
            async with asyncio.timeout(patience_s):
                connection = await _connected(address)
            with connection:
                answer = await _asked(connection, file, patience_s)
        except (OSError, TimeoutError) as error:
            raise ScannerUnavailable from error
    _judge(answer)


async def _connected(address: str) -> socket.socket:
    """Connect to the first of its places that takes us."""
    parts = urlsplit(address)
    loop = asyncio.get_running_loop()
    places: list[tuple[int, Any]] = [(socket.AF_UNIX, parts.path)]
    if parts.scheme != "unix":
        found = await loop.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
        places = [(family, place) for family, _, _, _, place in found]
    refused: OSError = ConnectionError("it is nowhere")
    for family, place in places:
        with contextlib.ExitStack() as unless_connected:
            connection = unless_connected.enter_context(socket.socket(family, socket.SOCK_STREAM))
            connection.setblocking(False)  # noqa: FBT003 (the name is the socket's)
            try:
                await loop.sock_connect(connection, place)
            except OSError as error:
                refused = error
            else:
                unless_connected.pop_all()
                return connection
    raise refused


async def _asked(connection: socket.socket, file: BinaryIO, patience_s: float) -> str:
    """Send the file and return what is said of it.

    Of a file that is too long clamd says so before its end and cuts the connection, so both sides may find it cut.
    """
    cut: ConnectionError | None = None
    try:
        await _send(connection, file, patience_s)
    except ConnectionError as error:
        cut = error
    answer = b""
    async with asyncio.timeout(patience_s):
        try:
            while len(answer) < _LONGEST_ANSWER and (said := await _hear(connection)):
                answer += said
        except ConnectionError as error:
            cut = error
    if cut is not None and not answer:
        raise cut
    return answer.split(b"\0")[0].decode(errors="replace").strip()


async def _send(connection: socket.socket, file: BinaryIO, patience_s: float) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, b"zINSTREAM\0")
    piece = b"."
    while piece:
        piece = await asyncio.to_thread(file.read, _PIECE_BYTES)
        async with asyncio.timeout(patience_s):
            await loop.sock_sendall(connection, len(piece).to_bytes(4, "big") + piece)


async def _hear(connection: socket.socket) -> bytes:
    return await asyncio.get_running_loop().sock_recv(connection, _LONGEST_ANSWER)


def _judge(answer: str) -> None:
    if answer == _CLEAN:
        return
    if found := _FOUND.fullmatch(answer):
        raise VirusFound(signature=_STRANGE.sub("_", found[1])[:_LONGEST_NAME])
    if _TOO_LONG in answer:
        raise UnscannableFile
    raise ScannerUnavailable from ValueError(f"it said {answer[:200]!r}")
