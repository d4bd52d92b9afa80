"""A small server that speaks the OpenAI wire (Chat Completions, streamed) and fails in the ways that vendors fail."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

from msgspec import Struct, field

WORDS = ["Hello", " from", " the", " wire", "."]


class Answer(Struct, kw_only=True):
    """How one request is answered; `end` is what happens after the deltas."""

    deltas: list[str] = field(default_factory=lambda: list(WORDS))
    input_tokens: int = 11
    output_tokens: int = 7
    #: Of the input and of the output, where they are told apart.
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    finish_reason: str = "stop"
    #: Calls of tools, as (id, name, arguments), said in pieces after the deltas.
    tool_calls: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    #: "cut": the stream ends cleanly but without its end; "drop": the connection breaks; "garbage": no JSON.
    end: Literal["whole", "no usage", "usage on the last choice", "cut", "drop", "garbage", "error event"] = "whole"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    #: Seconds between two deltas.
    pause_s: float = 0
    #: Waited for after `hold_after` deltas, so that a test can act in the middle of an answer.
    hold: asyncio.Event | None = None
    hold_after: int = 1


class Vendor:
    """The server: answers requests from `script`, in order, and as `otherwise` says when that is empty."""

    def __init__(self) -> None:
        """Start with an empty script."""
        self.script: list[Answer] = []
        self.otherwise: Callable[[dict[str, Any]], Answer] = lambda _request: Answer()
        self.requests: list[dict[str, Any]] = []
        #: Set when an answer's first delta is out.
        self.speaking = asyncio.Event()
        self.url = ""
        self._came = asyncio.Condition()
        self._serving: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def serving(cls) -> AsyncGenerator["Vendor"]:
        """Serve on a free port of loopback."""
        vendor = cls()
        server = await asyncio.start_server(vendor._accept, "127.0.0.1", 0)
        vendor.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            yield vendor
        finally:
            server.close()
            for task in vendor._serving:
                task.cancel()
            await asyncio.gather(*vendor._serving, return_exceptions=True)
            await server.wait_closed()

    async def asked(self, times: int) -> None:
        """Return when that many requests have come."""
        async with self._came:
            await self._came.wait_for(lambda: len(self.requests) >= times)

    async def left(self) -> None:
        """Return when nobody is answered any more: all have heard the end, or have left."""
        while self._serving:
            await asyncio.wait(self._serving)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.split("content-length:")[1].split("\r\n")[0])
            request = json.loads(await reader.readexactly(length))
            async with self._came:
                self.requests.append(request)
                self._came.notify_all()
            await self._answer(self.script.pop(0) if self.script else self.otherwise(request), writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, answer: Answer, writer: asyncio.StreamWriter) -> None:
        if answer.status != 200:
            body = json.dumps({"error": {"message": "no", "type": "error", "code": None, "param": None}}).encode()
            extra = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
            writer.write(
                f"HTTP/1.1 {answer.status} X\r\nContent-Type: application/json\r\n{extra}"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                + body
            )
            await writer.drain()
            return
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        )
        await self._stream(answer, lambda text: writer.write(b"%x\r\n%s\r\n" % (len(text), text)), writer)

    async def _stream(self, answer: Answer, send: Callable[[bytes], None], writer: asyncio.StreamWriter) -> None:
        for index, delta in enumerate(answer.deltas):
            if answer.hold is not None and index == answer.hold_after:
                await answer.hold.wait()
            send(_chunk({"content": delta}))
            await writer.drain()
            await asyncio.sleep(answer.pause_s)
            self.speaking.set()
        if answer.hold is not None and len(answer.deltas) <= answer.hold_after:
            await answer.hold.wait()
        for index, (call_id, name, arguments) in enumerate(answer.tool_calls):
            first = {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
            send(_chunk({"tool_calls": [first]}))
            for piece in (arguments[:3], arguments[3:]):
                send(_chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}))
        if answer.end == "drop":
            writer.transport.abort()
            return
        if answer.end == "garbage":
            send(b"data: {not json\n\n")
        elif answer.end == "error event":
            send(b'data: {"error": {"message": "overloaded", "type": "server_error"}}\n\n')
        elif answer.end != "cut":
            used = _usage(answer)
            early = used if answer.end == "usage on the last choice" else None
            send(_chunk({}, finish_reason=answer.finish_reason, usage=early))
            if answer.end == "whole":
                send(_chunk(None, usage=used))
            send(b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()


def _chunk(
    delta: dict[str, Any] | None, *, finish_reason: str | None = None, usage: dict[str, Any] | None = None
) -> bytes:
    chunk: dict[str, Any] = {
        "id": "c-1",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "wire-1",
        "choices": [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        "usage": usage,
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _usage(answer: Answer) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
    }
    if answer.cached_tokens is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": answer.cached_tokens}
    if answer.reasoning_tokens is not None:
        usage["completion_tokens_details"] = {"reasoning_tokens": answer.reasoning_tokens}
    return usage
