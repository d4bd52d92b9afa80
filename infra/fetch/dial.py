"""Connects to the hosts that others name: looks each up once, checks every address, and dials one that was checked.

A name that leads elsewhere the next time it is asked for (DNS rebinding) gains nothing: nobody asks a second time.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Any, cast

import httpcore2
import structlog

from infra.errors import PulseError
from infra.fetch import addresses
from infra.fetch.addresses import Address, Network

log = structlog.stdlib.get_logger()

_MOST_DIALED = 4
_MOST_BEFORE_HEAD = 32_768
_READ_BEFORE_HEAD = 16_384
_NOT_THERE = frozenset({socket.EAI_NONAME, socket.EAI_NODATA})

#: Finds the addresses of a host name, none where it has none; raises OSError where that cannot be found out now.
type Resolve = Callable[[str], Awaitable[Sequence[str]]]


class AddressNotAllowed(PulseError):
    """{field}: the host of the address is not found on the public Internet."""

    # A name that is not there and one that leads inside are told alike: the difference would map the inside.
    ar = "{field}: مضيف هذا العنوان غير موجود على الإنترنت العام."
    status = 400


class Names:
    """The system's resolver, on threads of its own: a name server that does not answer keeps only those."""

    def __init__(self, threads: int = 8) -> None:
        """Prepare; a thread is started when it is needed."""
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="names")

    async def resolve(self, host: str) -> list[str]:
        """Be a `Resolve`."""
        # The dot at the end keeps the resolver from trying the name inside of its own domains.
        looked_up = asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(f"{host}.", None, type=socket.SOCK_STREAM)
        )
        try:
            return [str(sockaddr[0]) for *_, sockaddr in await looked_up]
        except socket.gaierror as error:
            if error.errno in _NOT_THERE:
                return []
            raise

    def close(self) -> None:
        """Let the threads end when they can."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Dialer(httpcore2.AsyncNetworkBackend):
    """What one fetch connects by."""

    def __init__(self, resolve: Resolve, allowed: Sequence[Network], field: str) -> None:
        """Dial public addresses and those in `allowed`, for a URL that was named in `field`."""
        self._resolve = resolve
        self._allowed = allowed
        self._field = field
        self._tcp = cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())  # typed as a stand-in as well
        self._opened: list[httpcore2.AsyncNetworkStream] = []
        self._meter = _Meter()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (the interface is httpcore2's)
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Dial the addresses of `host` in turn, each for `timeout` seconds; raises `AddressNotAllowed`."""
        failures: list[Exception] = []
        for address in (await self._addresses(host))[:_MOST_DIALED]:
            try:
                stream = await self._tcp.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failures.append(error)
            else:
                self._opened.append(stream)
                return _Metered(stream, self._meter)
        raise failures[-1]

    def head_has_come(self) -> None:
        """Take as much as comes from now on; until then it is no more than a head may have."""
        self._meter.over = True

    async def close(self) -> None:
        """Close what is still open, also where a cancel came in the middle of a TLS handshake."""
        for stream in self._opened:
            await stream.aclose()

    async def _addresses(self, host: str) -> list[Address]:
        try:
            found = [ip_address(host)]
        except ValueError:
            try:
                found = [ip_address(each) for each in dict.fromkeys(await self._resolve(host))]
            except OSError as error:
                raise httpcore2.ConnectError(str(error)) from error
        refused = [str(address) for address in found if not addresses.may_be_reached(address, self._allowed)]
        if refused:
            log.warning("an address inside was asked for", host=host, addresses=refused[:_MOST_DIALED])
        if refused or not found:
            raise AddressNotAllowed(field=self._field)
        return found


class _Meter:
    """What came of one connection before the head of the answer was there."""

    def __init__(self) -> None:
        self.came = 0
        self.over = False


class _Metered(httpcore2.AsyncNetworkStream):
    """A connection that soon leaves a server that is always about to answer (one 1xx after another)."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream, meter: _Meter) -> None:
        self._stream = stream
        self._meter = meter

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """Raises `httpcore2.RemoteProtocolError` where the head is too long."""
        if self._meter.over:
            return await self._stream.read(max_bytes, timeout)
        if self._meter.came >= _MOST_BEFORE_HEAD:
            raise httpcore2.RemoteProtocolError("no head has come among all these bytes")
        data = await self._stream.read(min(max_bytes, _READ_BEFORE_HEAD), timeout)
        self._meter.came += len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        return _Metered(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._meter)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
