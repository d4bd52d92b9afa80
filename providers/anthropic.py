"""Anthropic's Messages API: what is asked of Claude, and what of its stream is an answer, an end or a failure.

Events are read here as they come: the SDK (anthropic 2.14) checks none of them, passes by those without a name or of
the name `ping` unread, ends silently when a stream is cut off cleanly, and raises whatever its transport or decoders
raise when it is cut off otherwise. `anthropic_content` writes what is asked.
"""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any, Final, Literal, cast

import anthropic
import httpx2
import msgspec
from msgspec import Struct

from providers import anthropic_content, headers, sse, text, types
from providers.deployments import Deployment

_HOME: Final = "https://api.anthropic.com"
#: It says `ping` every few seconds, also while it thinks, so a minute without a word is the end of a connection.
_SILENCE_S: Final = 60.0
#: What an event is that is no UTF-8, no JSON, or has something else where we read.
_UNREADABLE: Final = (ValueError, msgspec.ValidationError)
_REASONS: Final[dict[str, Literal["stop", "length", "filtered", "tools"]]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",  # a turn of its own tools that it wants to go on with later: what there is of it is given
    "tool_use": "tools",
    "refusal": "filtered",
}
#: Parts of the usage that break a count down.
_NESTED: Final = {"cache_creation", "output_tokens_details"}
_KINDS: Final[dict[str, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


def connect(deployment: Deployment, *, silence_s: float = _SILENCE_S) -> "Claude":
    """Return the models behind a deployment; a vendor that says nothing for `silence_s` is given up."""
    return Claude(deployment.base_url or _HOME, deployment.key, silence_s)


class Claude:
    """Chat models behind one key."""

    def __init__(self, base_url: str, api_key: str, silence_s: float) -> None:
        """Talk to the server at `base_url`."""
        # No retries here: the gateway's have the backoff, the limit and the other keys and models.
        self._client = anthropic.AsyncAnthropic(
            base_url=base_url, api_key=api_key, timeout=httpx2.Timeout(silence_s, connect=5.0), max_retries=0
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def stream(self, call: types.ChatCall) -> AsyncIterator[types.Chunk]:
        """Yield the answer; raises `ProviderError`."""
        body = anthropic_content.request(call)
        answer = _Answer(with_tools=bool(call.tools))
        try:
            async with await self._start(body) as events:
                told = events.response.headers
                yield types.Opened(limits=headers.limits(told), request_id=told.get("request-id", ""))
                async with aclosing(sse.events(events.response.aiter_bytes())) as texts:
                    async for data in texts:
                        for chunk in answer.take(_read(data)):
                            yield chunk
        except anthropic.APIError as error:
            raise _fact(error) from error
        except httpx2.TimeoutException as error:
            raise types.ProviderTimedOut from error
        except (httpx2.RequestError, *_UNREADABLE) as error:
            raise types.AnswerTruncated from error
        for chunk in answer.end():
            yield chunk

    async def resume(
        self,
        call: types.ChatCall,  # noqa: ARG002
        token: types.Token,  # noqa: ARG002
        after: str | int | None,  # noqa: ARG002
    ) -> AsyncIterator[types.Chunk]:
        """Raise `AnswerLost`: Anthropic keeps no answer."""
        raise types.AnswerLost
        yield types.Opened()  # what makes it a generator

    async def abandon(self, token: types.Token) -> None:
        """Do nothing: an answer to which nobody listens is not made."""

    async def _start(self, body: dict[str, Any]) -> anthropic.AsyncStream[object]:
        return await self._client.post(
            "/v1/messages", body=body, cast_to=object, stream=True, stream_cls=anthropic.AsyncStream[object]
        )


class _Block(Struct):
    """A piece of content as it begins; which fields there are depends on its type."""

    type: str = ""
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None


class _Delta(Struct):
    """What is added to a block, or what ends the message."""

    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Message(Struct):
    """The message as it begins."""

    usage: dict[str, Any] | None = None


class _Error(Struct):
    """What went wrong in the middle of an answer."""

    type: str | None = None
    message: str | None = None


class _Event(Struct):
    """An event of a stream; of an unknown type nothing is read."""

    type: str = ""
    error: _Error | None = None
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: dict[str, Any] | None = None


class _Answer:
    """What has come of an answer."""

    def __init__(self, *, with_tools: bool) -> None:
        self._with_tools = with_tools
        self._text = text.Pieces()
        self._block = _Block()
        self._arguments = ""
        self._broken = False
        self._usage = _Usage()
        self._reason: str | None = None
        self._ended = False

    def take(self, event: _Event) -> Iterator[types.Chunk]:
        """Yield what an event brings."""
        delta = event.delta or _Delta()
        match event.type:
            case "message_start" if event.message:
                self._usage.add(event.message.usage)
            case "content_block_start":
                self._block, self._arguments = event.content_block or _Block(), ""
                yield from self._said(self._block.text)
            case "content_block_delta" if delta.text:
                yield from self._said(delta.text)
            case "content_block_delta":
                yield types.Alive()
                self._arguments += delta.partial_json or ""
                self._block.thinking = (self._block.thinking or "") + (delta.thinking or "")
                self._block.signature = (self._block.signature or "") + (delta.signature or "")
            case "content_block_stop":
                yield from self._whole()
            case "message_delta":
                self._usage.add(event.usage)
                self._reason = delta.stop_reason or self._reason
            case "message_stop":
                self._ended = True
            case "ping":
                yield types.Alive()
            case "error":
                error = event.error or _Error()
                raise _told(_KINDS.get(error.type or "", 500), error.message or "")
            case _:
                pass

    def end(self) -> Iterator[types.Chunk]:
        """Yield the end; raises `AnswerTruncated` where the vendor told none, or none that is known to be one."""
        reason = _REASONS.get(self._reason or "")
        if reason is None or not self._ended or (self._broken and reason != "length"):
            raise types.AnswerTruncated
        if rest := self._text.rest():
            yield types.TextDelta(rest)
        yield types.Finish(reason=reason, counted=self._usage.counted())

    def _said(self, piece: str | None) -> Iterator[types.Chunk]:
        if piece and (kept := self._text.take(piece)):
            yield types.TextDelta(kept)

    def _whole(self) -> Iterator[types.Chunk]:
        """Yield what the block was that has just ended."""
        block, self._block = self._block, _Block()
        match block.type:
            case "tool_use":
                arguments = _object(self._arguments or json.dumps(block.input or {}))
                self._broken |= arguments is None  # the cap cut it, or the stream is broken: the end will tell
                if arguments is not None and block.id and block.name:
                    yield types.ToolCall(id=block.id, name=block.name, arguments=arguments)
            case "thinking" if self._with_tools and block.signature:
                yield _thought({"type": "thinking", "thinking": block.thinking, "signature": block.signature})
            case "redacted_thinking" if self._with_tools and block.data:
                yield _thought({"type": "redacted_thinking", "data": block.data})
            case _:
                pass


class _Usage:
    """The vendor's counts, each the sum so far: told as the message begins, and again, not all of them, at its end."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, usage: dict[str, Any] | None) -> None:
        """Read what an event tells; what is no count is passed by."""
        for name, told in (usage or {}).items():
            if name in _NESTED and isinstance(told, dict):
                self.add(cast("dict[str, Any]", told))
            elif isinstance(told, int) and 0 <= told < 2**31:
                self._counts[name] = max(told, self._counts.get(name, 0))

    def counted(self) -> types.Counted | None:
        """Return them all, the input with what came from the cache and went there, which Anthropic leaves out."""
        counts = self._counts
        if "input_tokens" not in counts or "output_tokens" not in counts:
            return None
        cached, written = counts.get("cache_read_input_tokens", 0), counts.get("cache_creation_input_tokens", 0)
        given = counts["input_tokens"] + cached + written
        if not given:  # nothing was counted: no request is empty
            return None
        return types.Counted(
            input_tokens=given,
            output_tokens=counts["output_tokens"],
            cached_tokens=cached,
            written_tokens=written,
            written_long_tokens=min(written, counts.get("ephemeral_1h_input_tokens", 0)),
            reasoning_tokens=min(counts["output_tokens"], counts.get("thinking_tokens", 0)),
        )


def _object(arguments: str) -> str | None:
    """Return the arguments as text that can be kept, or None where they are no JSON object."""
    try:
        found = json.loads(arguments)
    except ValueError:
        return None
    return text.kept(arguments) if isinstance(found, dict) else None


def _thought(block: dict[str, Any]) -> types.Thought:
    return types.Thought(vendor="anthropic", data=json.dumps(block))


def _read(data: str) -> _Event:
    """Return an event; not by msgspec's own decoder, which refuses half of a surrogate pair."""
    return msgspec.convert(json.loads(data), _Event) if data else _Event()


def _fact(error: anthropic.APIError) -> types.ProviderError:
    match error:
        case anthropic.APITimeoutError():
            return types.ProviderTimedOut()
        case anthropic.APIStatusError(type="billing_error"):
            return types.ProviderMisconfigured()
        case anthropic.APIStatusError():
            wait_s = headers.retry_after_s(error.response.headers)
            return _told(error.status_code, error.api_message or error.message, wait_s)
        case _:
            return types.ProviderUnavailable()


def _told(status: int, message: str, wait_s: float | None = None) -> types.ProviderError:
    """Return the fact behind an error of this HTTP status."""
    match status:
        case 401 | 402 | 403 | 404:
            return types.ProviderMisconfigured()
        case 408 | 504:
            return types.ProviderTimedOut(retry_after_s=wait_s)
        case 429:
            return types.ProviderRateLimited(retry_after_s=wait_s)
        case _ if status < 500 and status != 409:
            return types.ProviderRefused(reason=text.kept(message)[:500])
        case _:
            return types.ProviderUnavailable(retry_after_s=wait_s)
