"""Gemini's Interactions: an answer that is made in the background, and read from any of its places.

Events are read here as they come: the SDK (google-genai 3.6) makes 900 a second of them, and hands on something else
where one is not as it should be. Its classes of errors are private: whatever it raises is read by its attributes.
"""

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Final, Literal

import httpx2
import msgspec
from google import genai
from msgspec import Struct

from providers import google_faults, interactions_content, sse, text, types

_REASONS: Final[dict[str, Literal["stop", "length", "tools"]]] = {
    "completed": "stop",
    "requires_action": "tools",
    "incomplete": "length",
    "requires_continuation": "length",
}
#: The HTTP statuses that the codes of errors inside a stream stand for.
_CODES: Final[dict[str, int]] = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "DEADLINE_EXCEEDED": 504,
    "GATEWAY_TIMEOUT": 504,
}
#: How a filter is told, in the code of an error.
_FILTERS: Final = ("SAFETY", "PROHIBITED", "BLOCK", "RECITATION")


class Interactions:
    """The interactions behind one key."""

    def __init__(self, client: genai.Client) -> None:
        """Talk through `client`, which is to try nothing twice."""
        self._wire: Any = client.aio.interactions
        self._streams: Any = self._wire.with_streaming_response

    async def stream(self, call: types.ChatCall) -> AsyncGenerator[types.Chunk]:
        """Yield a new answer; raises `ProviderError`."""
        started = self._streams.create(**interactions_content.request(call))
        answer = _Answer(with_tools=bool(call.tools))
        async with aclosing(_events(started)) as events:
            async for event in events:
                for chunk in answer.take(event):
                    yield chunk
        for chunk in answer.end():
            yield chunk

    async def resume(
        self, call: types.ChatCall, token: types.Token, after: str | int | None
    ) -> AsyncGenerator[types.Chunk]:
        """Yield what came `after` an event, or all; raises `ProviderError`, `AnswerLost` where the answer failed.

        An answer with tools is read from its beginning: its calls are said at its end, whenever they came.
        """
        place = None if after is None else str(after)
        whole = bool(call.tools)
        answer = _Answer(with_tools=whole, again=token["interaction_id"], skip_to=place if whole else None)
        last = {} if whole or place is None else {"last_event_id": place}
        found = self._streams.get(token["interaction_id"], stream=True, **last)
        try:
            async with aclosing(_events(found)) as events:
                async for event in events:
                    for chunk in answer.take(event):
                        yield chunk
        except (types.ProviderRefused, types.ProviderMisconfigured) as error:
            if _status(error.__cause__) in _GONE:
                raise types.AnswerLost from error
            raise
        for chunk in answer.end():
            yield chunk

    async def abandon(self, token: types.Token) -> None:
        """Cancel an interaction; one that has ended, or is not there, is left as it is."""
        try:
            await self._wire.cancel(token["interaction_id"])
        except Exception as error:
            if _status(error) not in _GONE:
                raise _fact(error) from error


#: The statuses for an interaction that is not there, has ended, or has no such place.
_GONE: Final = {400, 404, 409, 410}


class _Delta(Struct):
    """What is added to a step."""

    type: str | None = None
    text: str | None = None
    arguments: str | None = None
    signature: str | None = None


class _Content(Struct):
    """What a step begins with."""

    text: str | None = None


class _Step(Struct):
    """A step as it begins."""

    type: str | None = None
    id: str | None = None
    name: str | None = None
    arguments: dict[str, Any] | None = None
    signature: str | None = None
    content: list[_Content] | None = None


class _Usage(Struct):
    """The counts of an interaction."""

    total_input_tokens: int | None = None
    total_output_tokens: int | None = None
    total_thought_tokens: int | None = None
    total_cached_tokens: int | None = None
    total_tool_use_tokens: int | None = None


class _Interaction(Struct):
    """An interaction as its first and its last event tell it."""

    id: str | None = None
    status: str | None = None
    usage: _Usage | None = None


class _Error(Struct):
    """What went wrong in the middle of an answer."""

    code: str | None = None
    message: str | None = None


class _Event(Struct):
    """An event of a stream; of an unknown type nothing is read."""

    event_type: str = ""
    event_id: str | None = None
    interaction: _Interaction | None = None
    step: _Step | None = None
    delta: _Delta | None = None
    error: _Error | None = None
    status: str | None = None
    usage: _Usage | None = None


class _Answer:
    """What has come of an answer.

    Thoughts and calls of tools wait for its end, since they have no place of their own from which to go on: whoever
    reads the answer again after a break hears each once.
    """

    def __init__(self, *, with_tools: bool, again: str | None = None, skip_to: str | None = None) -> None:
        self._with_tools = with_tools
        self._again = again
        self._skip_to = skip_to
        self._opened = False
        self._text = text.Pieces()
        self._step = _Step()
        self._arguments = ""
        self._last: list[types.Chunk] = []
        self._broken = False
        self._status: str | None = None
        self._usage: _Usage | None = None
        self._filtered = False

    def take(self, event: _Event) -> Iterator[types.Chunk]:
        """Yield what an event brings."""
        told = event.interaction or _Interaction()
        if self._again or event.event_type == "interaction.created":
            yield from self._open(told.id or self._again)
        self._usage = event.usage or told.usage or self._usage
        match event.event_type:
            case "step.start":
                self._step, self._arguments = event.step or _Step(), ""
                for content in self._step.content or []:
                    yield from self._said(content.text, event.event_id)
            case "step.delta":
                yield from self._added(event.delta or _Delta(), event.event_id)
            case "step.stop":
                self._whole()
            case "interaction.status_update" if event.status not in (None, "completed"):
                self._status = event.status
            case "interaction.completed":
                self._status = told.status or "completed"
            case "error":
                self._fail(event.error or _Error())
            case _:
                pass
        if self._skip_to is not None and event.event_id == self._skip_to:
            self._skip_to = None

    def end(self) -> Iterator[types.Chunk]:
        """Yield the end; raises the fact where there is none."""
        reason = "filtered" if self._filtered else _REASONS.get(self._status or "")
        if reason is None:
            raise self._no_end()
        if self._skip_to is not None:
            raise types.AnswerLost
        if self._broken and reason != "length":
            raise types.AnswerTruncated
        if rest := self._text.rest():
            yield types.TextDelta(rest)
        yield from self._last
        called = any(isinstance(chunk, types.ToolCall) for chunk in self._last)
        yield types.Finish(reason="tools" if reason == "stop" and called else reason, counted=self._counted())

    def _open(self, interaction_id: str | None) -> Iterator[types.Chunk]:
        """Say, once, that it has begun, and by which token it is found again."""
        if self._opened:
            return
        self._opened = True
        yield types.Opened(request_id=interaction_id or "")
        if interaction_id:
            yield types.Resumable(token={"interaction_id": interaction_id})

    def _added(self, delta: _Delta, event_id: str | None) -> Iterator[types.Chunk]:
        match delta.type:
            case "text":
                yield from self._said(delta.text, event_id)
                return
            case "arguments_delta":
                self._arguments += delta.arguments or ""
            case "thought_signature":
                self._step.signature = delta.signature
            case _:
                pass
        yield types.Alive()

    def _said(self, piece: str | None, event_id: str | None) -> Iterator[types.Chunk]:
        if piece and self._skip_to is None and (kept := self._text.take(piece)):
            yield types.TextDelta(kept, at=event_id)

    def _whole(self) -> None:
        """Keep the step that has just ended, where it is more than words."""
        step, self._step = self._step, _Step()
        if step.type == "thought" and step.signature and self._with_tools:
            data = json.dumps({"type": "thought", "signature": step.signature})
            self._last.append(types.Thought(vendor="google", data=data))
        if step.type == "function_call":
            arguments = _object(self._arguments or json.dumps(step.arguments or {}, ensure_ascii=False))
            self._broken |= arguments is None  # the cap cut it, or the stream is broken: the end will tell
            if arguments is not None and step.id and step.name:
                self._last.append(types.ToolCall(id=step.id, name=step.name, arguments=arguments))

    def _fail(self, error: _Error) -> None:
        """Raise the fact of an error that is told; a filter ends the answer."""
        code = (error.code or "").rsplit("/", 1)[-1].upper()
        if any(word in code for word in _FILTERS):
            self._filtered = True
            return
        status = int(code) if code.isdecimal() and len(code) == 3 else _CODES.get(code, 500)
        raise google_faults.told(status, None, error.message, None)

    def _no_end(self) -> types.ProviderError:
        """Return why the answer has no end, and whether to look for it again is of use."""
        match self._status:
            case "failed" if not self._again:
                return types.ProviderUnavailable()
            case "failed" | "cancelled":
                return types.AnswerLost()
            case "budget_exceeded":
                return types.ProviderMisconfigured()
            case _:
                return types.AnswerTruncated()

    def _counted(self) -> types.Counted | None:
        usage = self._usage
        if usage is None or not usage.total_input_tokens:
            return None
        thought = usage.total_thought_tokens or 0
        return google_faults.counted(
            given=usage.total_input_tokens + (usage.total_tool_use_tokens or 0),
            made=(usage.total_output_tokens or 0) + thought,
            cached=usage.total_cached_tokens or 0,
            thought=thought,
        )


async def _events(starting: AbstractAsyncContextManager[Any]) -> AsyncGenerator[_Event]:
    """Yield the events of a stream; whatever the SDK raises is a fact."""
    try:
        async with starting as response:
            async for data in sse.events(response.iter_bytes()):
                if data == _DONE:
                    return
                yield msgspec.convert(json.loads(data), _Event)
    except Exception as error:
        raise _fact(error) from error


#: What follows the last event.
_DONE: Final = "[DONE]"


def _fact(error: BaseException) -> types.ProviderError:
    status = _status(error)
    told: Any = error
    if status is not None:
        return google_faults.told(status, told.body, google_faults.message(told.body), told.response)
    own = error if isinstance(error, httpx2.HTTPError) else error.__cause__ or error  # the SDK wraps the transport's
    return google_faults.broken(own)


def _status(error: BaseException | None) -> int | None:
    """Return the HTTP status of an answer that is an error."""
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) and status >= 400 else None


def _object(arguments: str) -> str | None:
    """Return the arguments as text that can be kept, or None where they are no JSON object."""
    try:
        found = json.loads(arguments)
    except ValueError:
        return None
    return text.kept(arguments) if isinstance(found, dict) else None
