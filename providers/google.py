"""The Gemini API: generateContent as a stream; what is to outlive us goes through `interactions`.

The SDK (google-genai 3.6) ends silently when a stream is cut off cleanly, and raises whatever its transport, its
decoder or its models raise when it is cut off otherwise. Its own ways of going on are all off: retries, which are five
for interactions where nothing is said, continuation, and the calling of functions.
"""

import base64
import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, Final, Literal

import httpx2
from google import genai
from google.genai import errors
from google.genai import types as wire

from providers import google_content, google_faults, interactions, text, types
from providers.deployments import Deployment

_HOME: Final = "https://generativelanguage.googleapis.com"
_VERSION: Final = "v1beta"  # the one that knows the aliases `*-latest` as well
#: It says nothing while it thinks.
_SILENCE_S: Final = 240.0
_REASONS: Final[dict[str, Literal["stop", "length", "filtered"]]] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    "SAFETY": "filtered",
    "RECITATION": "filtered",
    "LANGUAGE": "filtered",
    "BLOCKLIST": "filtered",
    "PROHIBITED_CONTENT": "filtered",
    "SPII": "filtered",
    "ESCALATION": "filtered",
    "MODEL_ARMOR": "filtered",
}


def connect(deployment: Deployment, *, silence_s: float = _SILENCE_S) -> "Gemini":
    """Return the models behind a deployment; a vendor that says nothing for `silence_s` is given up."""
    return Gemini(deployment.base_url or _HOME, deployment.key, silence_s)


class Gemini:
    """Chat models behind one key."""

    def __init__(self, base_url: str, api_key: str, silence_s: float) -> None:
        """Talk to the server at `base_url`."""
        silence = httpx2.Timeout(silence_s, connect=5.0).as_dict()

        async def limit(request: httpx2.Request) -> None:
            # The SDK's own timeout would also be told to Google, as the time in which the whole answer has to be made.
            request.extensions["timeout"] = silence

        async def keep(response: httpx2.Response) -> None:
            self._answering.get([]).append(response)

        #: What is open in this context: the SDK itself closes nothing of which only the beginning was read.
        self._answering: ContextVar[list[httpx2.Response]] = ContextVar("answering")
        trust = httpx2.create_ssl_context()  # once: the SDK alone would load all certificates three times
        self._http = httpx2.AsyncClient(verify=trust, event_hooks={"request": [limit], "response": [keep]})
        self._client = genai.Client(
            api_key=api_key,
            vertexai=False,
            http_options=wire.HttpOptions(
                base_url=base_url,
                api_version=_VERSION,
                retry_options=wire.HttpRetryOptions(attempts=1),
                client_args={"verify": trust},
                async_client_args={"verify": trust, "ssl": trust},
                httpx_async_client=self._http,
            ),
        )
        self._interactions = interactions.Interactions(self._client)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aio.aclose()
        await self._http.aclose()

    async def stream(self, call: types.ChatCall) -> AsyncIterator[types.Chunk]:
        """Yield the answer; raises `ProviderError`."""
        chunks = self._interactions.stream(call) if call.resumable else self._generated(call)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def resume(
        self, call: types.ChatCall, token: types.Token, after: str | int | None
    ) -> AsyncIterator[types.Chunk]:
        """Yield the answer again; raises `AnswerLost`."""
        chunks = self._interactions.resume(call, token, after)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def abandon(self, token: types.Token) -> None:
        """Cancel the making of a resumable answer."""
        await self._interactions.abandon(token)

    async def _generated(self, call: types.ChatCall) -> AsyncGenerator[types.Chunk]:
        answer = _Answer()
        received = self._received(call)
        async with aclosing(received):
            async for response in received:
                for chunk in answer.take(response):
                    yield chunk
        for chunk in answer.end():
            yield chunk

    async def _received(self, call: types.ChatCall) -> AsyncGenerator[wire.GenerateContentResponse]:
        """Yield what the SDK makes of the stream; whatever it raises is a fact."""
        contents, config = google_content.contents(call), google_content.config(call)
        answering: list[httpx2.Response] = []
        self._answering.set(answering)
        try:
            responses = await self._client.aio.models.generate_content_stream(
                model=call.model, contents=contents, config=config
            )
            async for response in responses:
                yield response
        except errors.APIError as error:
            told: Any = error  # of the types of libraries that are not here
            raise google_faults.told(told.code, told.details, told.message, told.response) from error
        except Exception as error:
            raise google_faults.broken(error) from error
        finally:
            for response in answering:
                await response.aclose()


class _Answer:
    """What has come of an answer."""

    def __init__(self) -> None:
        self._opened = False
        self._text = text.Pieces()
        self._called = False
        self._reason: str | None = None
        self._blocked = False
        self._usage: wire.GenerateContentResponseUsageMetadata | None = None

    def take(self, response: wire.GenerateContentResponse) -> Iterator[types.Chunk]:
        """Yield what a piece of the stream brings."""
        if not self._opened:
            self._opened = True
            yield types.Opened(request_id=response.response_id or "")
        self._usage = response.usage_metadata or self._usage
        if response.prompt_feedback is not None and response.prompt_feedback.block_reason is not None:
            self._blocked = True
        for candidate in (response.candidates or [])[:1]:
            for part in (candidate.content and candidate.content.parts) or []:
                yield from self._said(part)
            if candidate.finish_reason is not None:
                self._reason = candidate.finish_reason.value

    def end(self) -> Iterator[types.Chunk]:
        """Yield the end; raises the fact where there is none."""
        reason = "filtered" if self._blocked else _REASONS.get(self._reason or "")
        if self._reason == "MISSING_THOUGHT_SIGNATURE":
            raise types.ProviderRefused(reason=self._reason)
        if self._reason == "PUP_LIMITED_DISABLED":  # the account behind the key is closed
            raise types.ProviderMisconfigured
        if reason is None:  # none, or one such as MALFORMED_FUNCTION_CALL: what has come is no answer
            raise types.AnswerTruncated
        if rest := self._text.rest():
            yield types.TextDelta(rest)
        yield types.Finish(reason="tools" if reason == "stop" and self._called else reason, counted=self._counted())

    def _said(self, part: wire.Part) -> Iterator[types.Chunk]:
        if part.thought:
            yield types.Alive()
        elif part.text and (piece := self._text.take(part.text)):
            yield types.TextDelta(piece)
        call = part.function_call
        if call is not None and call.name:
            self._called = True
            if part.thought_signature:
                signature = base64.b64encode(part.thought_signature).decode()
                yield types.Thought(vendor="google", data=json.dumps({"thoughtSignature": signature}))
            arguments = text.kept(json.dumps(call.args or {}, ensure_ascii=False))
            yield types.ToolCall(id=call.id or f"call_{uuid.uuid4().hex}", name=call.name, arguments=arguments)

    def _counted(self) -> types.Counted | None:
        usage = self._usage
        if usage is None or not usage.prompt_token_count:
            return None
        thought = usage.thoughts_token_count or 0
        return google_faults.counted(
            given=usage.prompt_token_count + (usage.tool_use_prompt_token_count or 0),
            made=(usage.candidates_token_count or 0) + thought,
            cached=usage.cached_content_token_count or 0,
            thought=thought,
        )
