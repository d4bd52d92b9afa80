"""What a stream of OpenAI's SDK says, event by event, as JSON: the SDK's own models check nothing and cost most of it.

It also ends silently when a stream is cut off cleanly, so what is an end is decided by whoever reads the events.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

import httpx2
import openai

from providers import payload, sse
from providers.openai_errors import told

_DRAIN_S = 0.2


async def events(stream: openai.AsyncStream[Any], key: str) -> AsyncGenerator[Any]:
    """Yield what each event says; raises the fact of an error that is told among them, and what the transport raises.

    `key` is never quoted.
    """
    async with aclosing(sse.events(stream.response.aiter_bytes())) as texts:
        async for text in texts:
            if text.startswith("[DONE]"):
                await drain(texts)
                return
            if not text:
                continue
            event = json.loads(text)
            if error := payload.at(event, "error"):
                code = payload.at(error, "code") or payload.at(error, "type")
                raise told(code, payload.text(error, "message"), key)
            yield event


async def drain(events: AsyncGenerator[Any]) -> None:
    """Read the end of a stream whose answer is whole, so that its connection can serve again."""
    with suppress(openai.APIError, httpx2.RequestError, ValueError, TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            async for _ in events:
                pass
