"""A small HTTP server that streams events, to recite what other vendors' stand-ins do not say."""

import asyncio
import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, Self, override

from msgspec import Struct, field

from providers.deployments import Deployment, Vendor

#: "drop" breaks the connection, "truncate" ends it cleanly, "corrupt" cuts the next event in two, "stall" says no more.
Break = Literal["drop", "truncate", "corrupt", "stall"]


class Request(Struct, frozen=True):
    """What was asked."""

    method: str
    target: str
    headers: dict[str, str]
    body: dict[str, Any]


class Fault(Struct, kw_only=True):
    """How one request goes wrong: refused by `status`, or broken after so many events."""

    kind: Break = "drop"
    after: int = 0
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: dict[str, Any] | None = None


class Wire(ABC):
    """The server."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self.url = ""
        self.requests: list[Request] = []
        #: Each request takes the first of these.
        self.faults: list[Fault] = []
        #: Set when a client has closed a connection that stalled.
        self.left = asyncio.Event()
        self._serving: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def serving(cls, port: int = 0) -> AsyncGenerator[Self]:
        """Serve on a port of loopback, or on a free one."""
        wire = cls()
        server = await asyncio.start_server(wire._accept, "127.0.0.1", port)
        wire.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield wire
        finally:
            server.close()
            for task in wire._serving:
                task.cancel()
            await asyncio.gather(*wire._serving, return_exceptions=True)
            await server.wait_closed()

    @abstractmethod
    async def answer(self, request: Request, fault: Fault | None, writer: asyncio.StreamWriter) -> None:
        """Answer a request."""

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            method, target, _ = head.split(" ")
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            request = Request(method, target, headers, json.loads(body or b"{}"))
            self.requests.append(request)
            fault = self.faults.pop(0) if self.faults else None
            if fault is not None and fault.status != 200:
                await reply(writer, fault.status, fault.body, fault.headers)
            else:
                await self.answer(request, fault, writer)
            if fault is not None and fault.kind == "stall":
                await reader.read()
                self.left.set()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


class Reciter(Wire):
    """A server that answers every request with the same events."""

    def __init__(self) -> None:
        """Nothing to recite yet."""
        super().__init__()
        self.frames: Sequence[str] = ()
        self.headers: dict[str, str] = {}

    @override
    async def answer(self, request: Request, fault: Fault | None, writer: asyncio.StreamWriter) -> None:
        """Recite."""
        await stream(writer, self.frames, fault, self.headers)


def deployment(vendor: Vendor, port: int) -> Deployment:
    """Return the deployment that is a server on this port; an adapter for it may live as long as a module's tests.

    Nothing of a connection is left over between them: each is closed after its answer.
    """
    return Deployment(name=f"{vendor}-wire", vendor=vendor, base_url=f"http://127.0.0.1:{port}", key="a-secret-key")


def frame(event: object, name: str | None = None) -> str:
    """Write an event, as JSON if it is not text already."""
    data = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)
    return (f"event: {name}\n" if name else "") + f"data: {data}\n\n"


async def stream(
    writer: asyncio.StreamWriter,
    frames: Sequence[str],
    fault: Fault | None = None,
    headers: dict[str, str] | None = None,
) -> None:
    """Send events, broken as `fault` says."""
    writer.write(_head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked", **(headers or {})}))
    for each in frames if fault is None else frames[: fault.after]:
        await _piece(writer, each.encode(errors="surrogatepass"))
    match fault and fault.kind:
        case "drop" | "stall":
            return
        case "corrupt" if fault:
            next_one = frames[fault.after].rstrip()
            await _piece(writer, next_one[: -len(next_one) // 3].encode() + b"\n\n")
        case _:
            pass
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def reply(
    writer: asyncio.StreamWriter,
    status: int,
    body: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> None:
    """Send one JSON object."""
    data = json.dumps(body or {"error": {"code": status, "message": "no", "status": "UNKNOWN"}}).encode()
    told = {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}
    writer.write(_head(status, told) + data)
    await writer.drain()


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in {**headers, "Connection": "close"}.items())
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode()


async def _piece(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    await writer.drain()
