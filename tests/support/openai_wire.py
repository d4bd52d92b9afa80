"""A small OpenAI: Responses made in the background, streamed again from any event, cancelled, and moderation.

It has what the servers that others wrote have not; tests/providers/test_openai_wire.py lets the official SDK check it.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct, field

from providers.deployments import Deployment

type Event = dict[str, Any]

#: What of an item is not there yet when it is begun.
_EMPTY: dict[str, dict[str, Any]] = {"message": {"content": []}, "function_call": {"arguments": ""}}
_TERMINAL = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")


class Script(Struct, kw_only=True):
    """What one answer says, and how it ends."""

    deltas: list[str] = field(default_factory=lambda: ["Hello", " from", " the", " wire", "."])
    #: Names and arguments of the tools that it calls after its words.
    calls: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    #: What it thought before, sealed; empty: nothing.
    sealed: str = ""
    end: Literal["completed", "max_output_tokens", "content_filter", "failed"] = "completed"
    error: str = "server_error"
    #: Input, cached, written, output and reasoning tokens.
    tokens: tuple[int, int, int, int, int] = (11, 3, 2, 7, 4)
    #: Seconds between two events.
    pause_s: float = 0.0
    #: Waited for before its end, or after so many of its deltas, so that a test can act while it is made.
    hold: asyncio.Event | None = None
    hold_after: int | None = None


class Asked(Struct, kw_only=True):
    """One request of the journal."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: dict[str, Any]


class Made:
    """One answer: its events, told to whoever streams it."""

    def __init__(self, response_id: str, request: dict[str, Any]) -> None:
        """Nothing was said yet."""
        self.id = response_id
        self.request = request
        self.status = "in_progress"
        self.events: list[Event] = []
        self.output: list[dict[str, Any]] = []
        self.more: dict[str, Any] = {}
        #: Whether it can be had again.
        self.is_kept = bool(request.get("store", True))
        self.grown = asyncio.Condition()

    async def say(self, kind: str, **fields: Any) -> None:
        """Add an event."""
        async with self.grown:
            if "response" in fields:
                fields["response"] = self.shown()
            self.events.append({"type": kind, "sequence_number": len(self.events), **fields})
            self.grown.notify_all()

    def shown(self) -> dict[str, Any]:
        """Return the response object as it is now."""
        asked = self.request
        nothing = {"error": None, "incomplete_details": None, "usage": None}
        kept = {"id": self.id, "object": "response", "created_at": 1_795_000_000, "status": self.status}
        echoed = {"model": asked["model"], "tools": asked.get("tools", []), "tool_choice": "auto"}
        return {**kept, **echoed, "output": list(self.output), "parallel_tool_calls": True, **nothing, **self.more}

    async def follow(self, after: int) -> AsyncGenerator[Event]:
        """Yield the events after a number, those to come too."""
        at = after + 1
        while at < len(self.events) or not self._is_over():
            async with self.grown:
                await self.grown.wait_for(lambda seen=at: len(self.events) > seen)
            while at < len(self.events):
                yield self.events[at]
                at += 1

    async def over(self) -> None:
        """Return when all was said."""
        async with self.grown:
            await self.grown.wait_for(self._is_over)

    def _is_over(self) -> bool:
        return bool(self.events) and self.events[-1]["type"] in _TERMINAL


class OpenAIWire:
    """The server."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self.url = ""
        self.journal: list[Asked] = []
        #: What the next answers say, in order; what `otherwise` returns for a request when that is empty.
        self.scripts: list[Script] = []
        self.otherwise: Callable[[dict[str, Any]], Script] = lambda _request: Script()
        #: How many events the next streams give before their connection breaks, in order; None or empty: all.
        self.cuts: list[int | None] = []
        #: Whether answers are too old to be streamed again.
        self.is_old = False
        #: A status and headers with which the next requests are refused, in order.
        self.refusals: list[tuple[int, dict[str, str]]] = []
        self.refused_as = "refused"
        #: Texts with one of these words are flagged as `violence`.
        self.violent: set[str] = set()
        self.made: dict[str, Made] = {}
        self._making: dict[str, asyncio.Task[None]] = {}
        self._serving: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def serving(cls) -> AsyncGenerator["OpenAIWire"]:
        """Serve on a free port of loopback."""
        wire = cls()
        server = await asyncio.start_server(wire._accept, "127.0.0.1", 0)
        wire.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            yield wire
        finally:
            server.close()
            tasks = [*wire._serving, *wire._making.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.wait_closed()

    @property
    def generations(self) -> int:
        """How many answers were begun, which is what is paid for."""
        return len(self.made)

    def deployment(self, key: str = "k") -> Deployment:
        """Return a deployment of OpenAI here."""
        return Deployment(name=f"openai-{key}", vendor="openai", base_url=self.url, key=key)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                asked = await _read(reader)
                self.journal.append(asked)
                await self._answer(asked, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        if self.refusals:
            status, headers = self.refusals.pop(0)
            await _json(writer, status, _error("no", self.refused_as), headers)
            return
        match asked.method, asked.path.removeprefix("/v1/").split("/"):
            case "POST", ["moderations"]:
                await _json(writer, 200, self._moderation(asked.body))
            case "POST", ["responses"]:
                await self._create(asked, writer)
            case "GET", ["responses", response_id] if response_id in self.made:
                await self._retrieve(asked, self.made[response_id], writer)
            case "POST", ["responses", response_id, "cancel"] if response_id in self.made:
                await self._cancel(self.made[response_id], writer)
            case _:
                await _json(writer, 404, _error("Response not found.", "not_found"))

    async def _create(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        body = asked.body
        if body.get("background") and not body.get("store", True):
            await _json(writer, 400, _error("Background mode requires store.", "invalid_request_error"))
            return
        made = self.made[f"resp_{len(self.made)}"] = Made(f"resp_{len(self.made)}", body)
        script = self.scripts.pop(0) if self.scripts else self.otherwise(body)
        making = self._making[made.id] = asyncio.create_task(_make(made, script))
        try:
            await self._stream(made, -1, writer)
        finally:
            if not body.get("background"):  # an answer to which nobody listens is not made
                making.cancel()

    async def _retrieve(self, asked: Asked, made: Made, writer: asyncio.StreamWriter) -> None:
        if not made.is_kept:
            await _json(writer, 404, _error("Response not found.", "not_found"))
        elif asked.query.get("stream") != "true":
            await _json(writer, 200, made.shown())
        elif self.is_old:
            message = "This response can no longer be streamed because it is more than 5 minutes old."
            await _json(writer, 400, _error(message, "invalid_request_error"))
        else:
            await self._stream(made, int(asked.query.get("starting_after", "-1")), writer)

    async def _cancel(self, made: Made, writer: asyncio.StreamWriter) -> None:
        if made.status != "in_progress":
            await _json(writer, 400, _error("Cannot cancel a completed response.", "invalid_request_error"))
            return
        self._making[made.id].cancel()
        made.status = "cancelled"
        await made.say("response.cancelled", response=None)
        await _json(writer, 200, made.shown())

    async def _stream(self, made: Made, after: int, writer: asyncio.StreamWriter) -> None:
        left = self.cuts.pop(0) if self.cuts else None
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Request-Id: req_1\r\n"
            b"X-RateLimit-Remaining-Requests: 59\r\nX-RateLimit-Reset-Requests: 1s\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        await writer.drain()
        _cut(writer, left)
        async with contextlib.aclosing(made.follow(after)) as events:
            async for event in events:
                data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
                writer.write(b"%x\r\n%s\r\n" % (len(data), data))
                await writer.drain()
                left = None if left is None else left - 1
                _cut(writer, left)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    def _moderation(self, body: dict[str, Any]) -> dict[str, Any]:
        texts: list[str] = [body["input"]] if isinstance(body["input"], str) else body["input"]
        results: list[dict[str, Any]] = []
        for text in texts:
            hit = any(word in text for word in self.violent)
            categories = {"violence": hit, "self-harm/intent": False}
            results.append({"flagged": hit, "categories": categories, "category_scores": {"violence": float(hit)}})
        return {"id": "modr_1", "model": body["model"], "results": results}


async def _make(made: Made, script: Script) -> None:
    """Say an answer, event by event."""
    for step in _steps(made, script):
        await step()
        await asyncio.sleep(script.pause_s)


def _steps(made: Made, script: Script) -> Iterator[Callable[[], Any]]:
    def say(kind: str, **fields: Any) -> Callable[[], Any]:
        return lambda: made.say(kind, **fields)

    yield say("response.created", response=None)
    yield say("response.in_progress", response=None)
    for item in _items(script):
        index = len(made.output)
        begun = {**item, "status": "in_progress"} | _EMPTY.get(item["type"], {})
        yield say("response.output_item.added", output_index=index, item=begun)
        if item["type"] == "message":
            where = {"item_id": item["id"], "output_index": index, "content_index": 0}
            yield say("response.content_part.added", **where, part=_words(""))
            for n, delta in enumerate(script.deltas):
                if script.hold is not None and n == script.hold_after:
                    yield script.hold.wait
                yield say("response.output_text.delta", **where, delta=delta, logprobs=[])
            yield say("response.output_text.done", **where, text="".join(script.deltas), logprobs=[])
            yield say("response.content_part.done", **where, part=_words("".join(script.deltas)))
        if item["type"] == "function_call":
            here = {"item_id": item["id"], "output_index": index}
            yield say("response.function_call_arguments.delta", **here, delta=item["arguments"])
            yield say("response.function_call_arguments.done", **here, name=item["name"], arguments=item["arguments"])
        made.output.append(item)
        yield say("response.output_item.done", output_index=index, item=item)
    yield lambda: _end(made, script)


async def _end(made: Made, script: Script) -> None:
    if script.hold is not None:
        await script.hold.wait()
    given, cached, written, output, reasoning = script.tokens
    made.more["usage"] = {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": given + output,
    }
    made.status = {"completed": "completed", "failed": "failed"}.get(script.end, "incomplete")
    if made.status == "incomplete":
        made.more["incomplete_details"] = {"reason": script.end}
    if made.status == "failed":
        made.more["error"] = {"code": script.error, "message": "The model failed."}
    await made.say(f"response.{made.status}", response=None)


def _items(script: Script) -> Iterator[dict[str, Any]]:
    if script.sealed:
        yield {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": script.sealed}
    if script.deltas:
        words = _words("".join(script.deltas))
        yield {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [words]}
    for number, (name, arguments) in enumerate(script.calls):
        call = {"type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}", "name": name}
        yield {**call, "arguments": arguments, "status": "completed"}


def _words(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _cut(writer: asyncio.StreamWriter, left: int | None) -> None:
    if left == 0:
        writer.transport.abort()
        raise ConnectionAbortedError


async def _read(reader: asyncio.StreamReader) -> Asked:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    sent = await reader.readexactly(int(headers.get("content-length", "0")))
    url = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(url.query).items()}
    return Asked(method=method, path=url.path, query=query, headers=headers, body=json.loads(sent or b"{}"))


async def _json(
    writer: asyncio.StreamWriter, status: int, body: dict[str, Any], headers: dict[str, str] | None = None
) -> None:
    data = json.dumps(body).encode()
    extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n{extra}\r\n"
    writer.write(head.encode() + data)
    await writer.drain()


def _error(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": code, "param": None, "code": code}}
