"""OpenAI's Chat Completions, as OpenAI and every compatible server speak it (Ollama, vLLM, llama.cpp, our local one).

The SDK ends silently when a stream is cut off cleanly, and raises whatever its transport or its JSON decoder raises
when it is cut off otherwise (measured with openai 3.54), so this file decides what is an end and what is a failure.
"""

import json
from collections.abc import AsyncIterator
from typing import Literal

import httpx2
import openai
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from infra.settings import Settings
from providers import types

# A model may think long before its first token; a server that says nothing at all for a minute is given up.
_TIMEOUT = httpx2.Timeout(60.0, connect=5.0)
_REASONS: dict[str, Literal["stop", "length", "filtered"]] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "filtered",
}


def connect(settings: Settings) -> "OpenAIChat":
    """Return the configured OpenAI-compatible server, or the local model's server where none is configured."""
    if settings.cloud:
        return OpenAIChat(settings.openai_base_url or None, settings.openai_api_key or "none")
    return OpenAIChat(f"http://127.0.0.1:{settings.local_port}/v1", "none")


class OpenAIChat:
    """Chat models behind one base URL."""

    def __init__(self, base_url: str | None, api_key: str) -> None:
        """Use OpenAI itself for a `base_url` of None."""
        # No retries here: the job's own retries have the backoff, the limit and the fencing.
        self._client = openai.AsyncOpenAI(base_url=base_url, api_key=api_key, timeout=_TIMEOUT, max_retries=0)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def stream(self, call: types.ChatCall) -> AsyncIterator[types.Chunk]:
        """Yield deltas and one `Finish`; raises `ProviderError`."""
        reason = None
        input_tokens = output_tokens = None
        text = _Text()
        try:
            async with await self._start(call) as chunks:
                async for chunk in chunks:
                    # Usage may ride on any chunk, also on one that has choices (seen with several servers).
                    if chunk.usage is not None:
                        input_tokens = _count(chunk.usage.prompt_tokens)
                        output_tokens = _count(chunk.usage.completion_tokens)
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
        yield types.Finish(reason=_REASONS.get(reason, "stop"), input_tokens=input_tokens, output_tokens=output_tokens)

    async def _start(self, call: types.ChatCall) -> openai.AsyncStream[ChatCompletionChunk]:
        return await self._client.chat.completions.create(
            model=call.model,
            messages=[_message(turn) for turn in call.turns],
            # OpenAI's newer models know only the newer name, some compatible servers only the older one.
            max_completion_tokens=call.output_tokens if self._is_openai else openai.omit,
            max_tokens=openai.omit if self._is_openai else call.output_tokens,
            temperature=openai.omit if call.temperature is None else call.temperature,
            stream=True,
            stream_options={"include_usage": True},
        )

    @property
    def _is_openai(self) -> bool:
        return self._client.base_url.host == "api.openai.com"


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


def _count(tokens: object) -> int | None:
    """Return a count that can be charged; the SDK does not check what a compatible server sends."""
    return tokens if isinstance(tokens, int) and 0 <= tokens < 2**31 else None


def _message(turn: types.Turn) -> ChatCompletionMessageParam:
    match turn.role:
        case "system":
            return {"role": "system", "content": turn.content}
        case "user":
            return {"role": "user", "content": turn.content}
        case "assistant":
            return {"role": "assistant", "content": turn.content}


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
