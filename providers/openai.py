"""OpenAI's Responses API: answers streamed, or made in the background, where they can be found again.

An answer that is made in the background is streamed again for some minutes only ("This response can no longer be
streamed because it is more than 5 minutes old", openai-python #2828); after that it is had whole, once it is done.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, suppress

import httpx2
import openai
from openai.types import Moderation
from openai.types.responses import Response, ResponseIncludable, ResponseStreamEvent

from providers import headers, openai_events, openai_request
from providers.deployments import Deployment
from providers.openai_answer import Reading
from providers.openai_errors import facts
from providers.types import (
    Alive,
    AnswerLost,
    AnswerTruncated,
    ChatCall,
    Chunk,
    Opened,
    ProviderUnavailable,
    Token,
    Verdict,
)

# A backstop: how long a model may think before it says anything is the gateway's to decide.
_TIMEOUT = httpx2.Timeout(300.0, connect=5.0)
_BASE_URL = "https://api.openai.com/v1"
_LEAST_OUTPUT = 16  # the API refuses a smaller cap
_UNFINISHED = {"queued", "in_progress"}
_MODERATOR = "omni-moderation-latest"
_MODERATED_CHARS = 10_000
_SEALED: list[ResponseIncludable] = ["reasoning.encrypted_content"]

type _Events = openai.AsyncStream[ResponseStreamEvent]


def connect(deployment: Deployment) -> "OpenAIChat":
    """Return the models behind a deployment."""
    return OpenAIChat(deployment)


class OpenAIChat:
    """OpenAI's chat models behind one key."""

    def __init__(self, deployment: Deployment, *, timeout: httpx2.Timeout = _TIMEOUT, poll_s: float = 1.0) -> None:
        """Talk to OpenAI; an answer that is not yet whole is asked for again after `poll_s`, and ever later."""
        self._key = deployment.key
        self._poll_s = poll_s
        self._client = _client(deployment, timeout)
        self._responses = self._client.responses  # which imports them

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def stream(self, call: ChatCall) -> AsyncIterator[Chunk]:
        """Yield the answer; raises `ProviderError`."""
        return self._said(Reading(call, self._key, resumable=call.resumable), lambda: self._start(call))

    def resume(self, call: ChatCall, token: Token, after: str | int | None) -> AsyncIterator[Chunk]:
        """Yield the rest of an answer; what came after its last text (a tool call) may come again.

        Raises `AnswerLost` where OpenAI has it no more or where it was cancelled.
        """
        response_id = str(token["response_id"])
        reading = Reading(call, self._key, after)
        return self._said(reading, lambda: self._follow(call, response_id, reading.after), response_id)

    async def abandon(self, token: Token) -> None:
        """Cancel an answer; one that is done or gone is left as it is. Raises `ProviderError`."""
        with (
            facts(ProviderUnavailable, self._key),
            suppress(openai.NotFoundError, openai.BadRequestError, openai.ConflictError),
        ):
            await self._responses.cancel(str(token["response_id"]))

    async def _said(
        self, reading: Reading, start: Callable[[], Awaitable[_Events | None]], response_id: str = ""
    ) -> AsyncIterator[Chunk]:
        with facts(ProviderUnavailable, self._key):
            events = await start()
        if events is None:
            yield Opened()
            async with aclosing(self._polled(response_id)) as polled:
                async for response in polled:
                    if response.status in _UNFINISHED:
                        yield Alive()
                        continue
                    for chunk in reading.whole(response):
                        yield chunk
        else:
            async with events:
                answer = events.response.headers
                yield Opened(limits=headers.limits(answer), request_id=answer.get("x-request-id", ""))
                with facts(AnswerTruncated, self._key):
                    async with aclosing(openai_events.events(events, self._key)) as told:
                        async for event in told:
                            for chunk in reading.take(event):
                                yield chunk
                            if reading.finish is not None:
                                await openai_events.drain(told)
                                break
        if reading.finish is None:
            raise AnswerTruncated
        yield reading.finish

    async def _start(self, call: ChatCall) -> _Events:
        return await self._responses.create(
            model=call.model,
            input=openai_request.items(call.turns),
            max_output_tokens=max(call.output_tokens, _LEAST_OUTPUT),
            temperature=openai.omit if call.temperature is None else call.temperature,
            reasoning=openai.omit if call.effort is None else {"effort": call.effort},
            tools=openai_request.tools(call.tools),
            tool_choice=openai_request.tool_choice(call),
            text=openai_request.text(call.form),
            include=_include(call),
            background=True if call.resumable else openai.omit,
            store=call.resumable,  # what is made in the background has to be kept
            stream=True,
        )

    async def _follow(self, call: ChatCall, response_id: str, after: int | None) -> _Events | None:
        """Return the events of an answer after one of them; None where it is too old for that."""
        starting_after = openai.omit if after is None else after
        try:
            return await _known(
                self._responses.retrieve(
                    response_id, stream=True, starting_after=starting_after, include=_include(call)
                )
            )
        except openai.BadRequestError:
            return None

    async def _polled(self, response_id: str) -> AsyncGenerator[Response]:
        """Yield an answer as it is now, again and again until it is done."""
        pause_s = self._poll_s
        while True:
            with facts(ProviderUnavailable, self._key):
                response = await _known(self._responses.retrieve(response_id, include=_SEALED))
            yield response
            if response.status not in _UNFINISHED:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, self._poll_s * 5)


def _client(deployment: Deployment, timeout: httpx2.Timeout) -> openai.AsyncOpenAI:
    # No retries here: the gateway's have the backoff, the limits and the other keys. An empty address is OpenAI's own,
    # whatever the environment says.
    return openai.AsyncOpenAI(
        base_url=deployment.base_url or _BASE_URL,
        api_key=deployment.key or "none",
        timeout=timeout,
        max_retries=0,
    )


async def _known[Found](asked: Awaitable[Found]) -> Found:
    """Return what is asked of an answer. Raises `AnswerLost` where OpenAI knows it no more."""
    try:
        return await asked
    except openai.NotFoundError:
        raise AnswerLost from None


def _include(call: ChatCall) -> list[ResponseIncludable] | openai.Omit:
    """Ask for what the model thought, sealed, where it may have to be given back with a tool's result."""
    return _SEALED if call.tools else openai.omit


def _categories(result: Moderation) -> Iterator[tuple[str, bool]]:
    return ((name, bool(hit)) for name, hit in result.categories.model_dump(by_alias=True).items())


async def moderate(deployment: Deployment, text: str) -> Verdict:
    """Return what OpenAI's moderation says of a text, be it as long as it may. Raises `ProviderError`."""
    pieces = [text[start : start + _MODERATED_CHARS] for start in range(0, len(text), _MODERATED_CHARS)]
    async with _client(deployment, httpx2.Timeout(30.0, connect=5.0)) as client:
        with facts(ProviderUnavailable, deployment.key):
            answer = await client.moderations.create(model=_MODERATOR, input=pieces or [""])
    found = {name for result in answer.results if result.flagged for name, hit in _categories(result) if hit}
    return Verdict(flagged=any(result.flagged for result in answer.results), categories=tuple(sorted(found)))
