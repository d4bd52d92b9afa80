"""Chat Completions as every OpenAI-compatible server speaks it (Ollama, vLLM, llama.cpp, our local one)."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import httpx2
import openai
from openai.types.chat import ChatCompletionChunk

from providers import compatible_request, headers, openai_events
from providers.compatible_answer import Reading
from providers.deployments import Deployment
from providers.openai_errors import facts
from providers.types import AnswerLost, AnswerTruncated, ChatCall, Chunk, Opened, ProviderUnavailable, Token

# A backstop: how long a model may think before it says anything is the gateway's to decide.
_TIMEOUT = httpx2.Timeout(300.0, connect=5.0)


def connect(deployment: Deployment) -> "CompatibleChat":
    """Return the models behind a deployment."""
    return CompatibleChat(deployment)


class CompatibleChat:
    """Chat models behind one base URL."""

    def __init__(self, deployment: Deployment, *, timeout: httpx2.Timeout = _TIMEOUT) -> None:
        """Talk to the server of the deployment."""
        self._key = deployment.key
        # No retries here: the gateway's have the backoff, the limits and the other keys.
        self._client = openai.AsyncOpenAI(
            base_url=deployment.base_url, api_key=deployment.key or "none", timeout=timeout, max_retries=0
        )
        self._completions = self._client.chat.completions  # which imports them

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def stream(self, call: ChatCall) -> AsyncIterator[Chunk]:
        """Yield the answer; raises `ProviderError`."""
        reading = Reading()
        with facts(ProviderUnavailable, self._key):
            chunks = await self._start(call)
        async with chunks:
            answer = chunks.response.headers
            yield Opened(limits=headers.limits(answer), request_id=answer.get("x-request-id", ""))
            with facts(AnswerTruncated, self._key):
                async with aclosing(openai_events.events(chunks, self._key)) as events:
                    async for event in events:
                        for piece in reading.take(event):
                            yield piece
        for last in reading.end():
            yield last

    async def resume(
        self,
        call: ChatCall,  # noqa: ARG002
        token: Token,  # noqa: ARG002
        after: str | int | None,  # noqa: ARG002
    ) -> AsyncIterator[Chunk]:
        """Raise `AnswerLost`: these servers keep no answer."""
        raise AnswerLost
        yield Opened()  # what makes it a generator

    async def abandon(self, token: Token) -> None:
        """Do nothing: an answer to which nobody listens is not made."""

    async def _start(self, call: ChatCall) -> openai.AsyncStream[ChatCompletionChunk]:
        return await self._completions.create(
            model=call.model,
            messages=compatible_request.messages(call.turns),
            max_tokens=call.output_tokens,  # the older name: some of these servers know only that one
            temperature=openai.omit if call.temperature is None else call.temperature,
            reasoning_effort=openai.omit if call.effort is None else call.effort,
            tools=compatible_request.tools(call.tools),
            tool_choice=compatible_request.tool_choice(call),
            response_format=compatible_request.response_format(call.form),
            stream=True,
            stream_options={"include_usage": True},
        )
