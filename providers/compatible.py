"""Chat Completions as every OpenAI-compatible server speaks it (Ollama, vLLM, llama.cpp, our local one).

The SDK ends silently when a stream is cut off cleanly, and raises whatever its transport or its JSON decoder raises
when it is cut off otherwise (measured with openai 3.54), so this file decides what is an end and what is a failure.
"""

import json
from collections.abc import AsyncIterator
from typing import Literal

import httpx2
import openai
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from providers import types
from providers.deployments import Deployment

# A model may think long before its first token; a server that says nothing at all for a minute is given up.
_TIMEOUT = httpx2.Timeout(60.0, connect=5.0)
_REASONS: dict[str, Literal["stop", "length", "filtered", "tools"]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tools",
    "content_filter": "filtered",
}


def connect(deployment: Deployment) -> "CompatibleChat":
    """Return the models behind a deployment."""
    return CompatibleChat(deployment.base_url, deployment.key or "none")


class CompatibleChat:
    """Chat models behind one base URL."""

    def __init__(self, base_url: str, api_key: str) -> None:
        """Talk to the server at `base_url`."""
        # No retries here: the job's own retries have the backoff, the limit and the fencing.
        self._client = openai.AsyncOpenAI(base_url=base_url, api_key=api_key, timeout=_TIMEOUT, max_retries=0)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def stream(self, call: types.ChatCall) -> AsyncIterator[types.Chunk]:
        """Yield the answer; raises `ProviderError`."""
        reason, counted = None, None
        text = _Text()
        try:
            async with await self._start(call) as chunks:
                yield types.Opened()
                async for chunk in chunks:
                    # Usage may ride on any chunk, also on one that has choices (seen with several servers).
                    if chunk.usage is not None:
                        counted = _counted(chunk.usage)
                    for choice in chunk.choices:
                        if piece := text.take(choice.delta.content or ""):
                            yield types.TextDelta(piece)
                        reason = choice.finish_reason or reason
        except openai.APIError as error:
            raise _fact(error) from error
        except (httpx2.TransportError, json.JSONDecodeError) as error:
            raise types.AnswerTruncated from error
        if reason is None:
            raise types.AnswerTruncated
        if piece := text.rest():
            yield types.TextDelta(piece)
        yield types.Finish(reason=_REASONS.get(reason, "stop"), counted=counted)

    async def resume(
        self,
        call: types.ChatCall,  # noqa: ARG002
        token: types.Token,  # noqa: ARG002
        after: str | int | None,  # noqa: ARG002
    ) -> AsyncIterator[types.Chunk]:
        """Raise `AnswerLost`: these servers keep no answer."""
        raise types.AnswerLost
        yield types.Opened()  # what makes it a generator

    async def abandon(self, token: types.Token) -> None:
        """Do nothing: an answer to which nobody listens is not made."""

    async def _start(self, call: types.ChatCall) -> openai.AsyncStream[ChatCompletionChunk]:
        return await self._client.chat.completions.create(
            model=call.model,
            messages=[_message(turn) for turn in call.turns],
            max_tokens=call.output_tokens,  # the older name: some of these servers know only that one
            temperature=openai.omit if call.temperature is None else call.temperature,
            stream=True,
            stream_options={"include_usage": True},
        )


class _Text:
    """Makes text that can be kept of what a vendor sends: it may cut a surrogate pair in two, or send U+0000."""

    def __init__(self) -> None:
        self._half = ""

    def take(self, piece: str) -> str:
        """Return the next piece; the first half of a pair waits for its second."""
        piece, self._half = self._half + piece, ""
        if piece and "\ud800" <= piece[-1] <= "\udbff":
            piece, self._half = piece[:-1], piece[-1]
        return _kept(piece)

    def rest(self) -> str:
        """Return what still waits at the end."""
        half, self._half = self._half, ""
        return _kept(half)


def _kept(text: str) -> str:
    """Join surrogate pairs, and put U+FFFD for a lone surrogate or U+0000, which PostgreSQL's JSON refuses."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").replace("\0", "\ufffd")


def _counted(usage: CompletionUsage) -> types.Counted | None:
    """Return counts that can be charged; the SDK does not check what a compatible server sends."""
    given, made = _count(usage.prompt_tokens), _count(usage.completion_tokens)
    return None if given is None or made is None else types.Counted(input_tokens=given, output_tokens=made)


def _count(tokens: object) -> int | None:
    return tokens if isinstance(tokens, int) and 0 <= tokens < 2**31 else None


def _message(turn: types.Turn) -> ChatCompletionMessageParam:
    content = "".join(part.text for part in turn.parts if isinstance(part, types.Text))
    match turn.role:
        case "system":
            return {"role": "system", "content": content}
        case "user":
            return {"role": "user", "content": content}
        case "assistant":
            return {"role": "assistant", "content": content}


def _fact(error: openai.APIError) -> types.ProviderError:
    match error:
        case openai.APITimeoutError():
            return types.ProviderTimedOut()
        case openai.RateLimitError():
            return types.ProviderRateLimited(retry_after_s=_retry_after(error))
        case openai.AuthenticationError() | openai.PermissionDeniedError() | openai.NotFoundError():
            return types.ProviderMisconfigured()
        case openai.InternalServerError():
            return types.ProviderUnavailable(retry_after_s=_retry_after(error))
        case openai.APIStatusError():
            return types.ProviderRefused(reason=error.message[:500])
        case openai.APIConnectionError():
            return types.ProviderUnavailable()
        case _:  # an error told inside the stream, such as llama.cpp's or vLLM's {"error": ...}
            return types.ProviderUnavailable()


def _retry_after(error: openai.APIStatusError) -> float | None:
    """Return the seconds of `Retry-After`; its rarer form as a date is left to our own backoff."""
    try:
        return float(error.response.headers.get("retry-after", ""))
    except ValueError:
        return None
