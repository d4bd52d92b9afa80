"""A vendor's server that repeats whatever it is sent, its key among that, in every place in which one can."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

#: Places: the error of that status, an error inside a stream, what is no JSON, a broken head, and no answer.
PLACES: Final = ("400", "401", "403", "404", "422", "429", "500", "529", "event", "garbage", "head", "silence")


@asynccontextmanager
async def echoing(place: str) -> AsyncGenerator[str]:
    """Serve on a free port of loopback; yields where."""
    serving: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_serve(place, reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await server.wait_closed()


async def _serve(place: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = next((line.split(":")[1] for line in head.lower().split("\r\n") if line.startswith("content-le")), "0")
        body = (await reader.readexactly(int(length))).decode()
        writer.write(_answer(place, f"Incorrect API key provided: {head} {body}"))
        await writer.drain()
    writer.close()


def _answer(place: str, echo: str) -> bytes:
    error = {"type": "invalid_request_error", "message": echo, "code": 400, "status": "INVALID_ARGUMENT", "param": None}
    told = json.dumps({"type": "error", "error": error})
    status, kind = (place if place.isdecimal() else "200"), "application/json"
    if place in ("event", "garbage"):
        kind = "text/event-stream"
        told = f"event: error\ndata: {told}\n\n" if place == "event" else f"data: {{{json.dumps(echo)}\n\n"
    if place == "head":
        return f"HTTP/1.1 {json.dumps(echo)}\r\n\r\n".encode("latin-1", "replace")
    if place == "silence":
        return b""
    name = json.dumps(echo).encode("ascii", "replace").decode()[:2000]
    return (
        f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nX-Request-Id: {name}\r\nRetry-After: 0\r\n"
        f"Content-Length: {len(told.encode())}\r\nConnection: close\r\n\r\n{told}"
    ).encode()
