"""Our small OpenAI is what OpenAI's SDK says that it is."""

from collections.abc import AsyncGenerator
from typing import Any

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.support.openai_wire import OpenAIWire, Script

_EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)


@pytest.fixture
async def wire() -> AsyncGenerator[OpenAIWire]:
    """The server."""
    async with OpenAIWire.serving() as served:
        yield served


@pytest.fixture
async def sdk(wire: OpenAIWire) -> AsyncGenerator[openai.AsyncOpenAI]:
    """The official client, talking to it."""
    async with openai.AsyncOpenAI(base_url=wire.url, api_key="k", max_retries=0) as client:
        yield client


async def _events(sdk: openai.AsyncOpenAI) -> list[ResponseStreamEvent]:
    """Let an answer be made in the background and return what comes of it."""
    asked = await sdk.responses.create(model="gpt-6-luna", input="hi", background=True, store=True, stream=True)
    async with asked as events:
        return [event async for event in events]


@pytest.mark.parametrize("end", ["completed", "max_output_tokens", "failed"])
async def test_every_event_is_one_of_the_sdks_in_full(wire: OpenAIWire, sdk: openai.AsyncOpenAI, end: Any) -> None:
    wire.scripts = [Script(calls=[("look", '{"a": 1}')], sealed="zzz", end=end)]
    seen = await _events(sdk)
    for event in wire.made["resp_0"].events:
        _EVENT.validate_python(event)
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert seen[-1].type == {"completed": "response.completed", "failed": "response.failed"}.get(
        end, "response.incomplete"
    )


async def test_the_sdks_own_reader_makes_the_whole_answer_of_it(wire: OpenAIWire, sdk: openai.AsyncOpenAI) -> None:
    async with sdk.responses.stream(model="gpt-6-luna", input="hi") as stream:
        final = await stream.get_final_response()
    assert (final.output_text, final.status) == ("Hello from the wire.", "completed")
    assert final.usage is not None
    assert final.usage.input_tokens_details.cached_tokens == 3


async def test_an_answer_goes_on_in_the_background_and_is_streamed_from_any_event(
    wire: OpenAIWire, sdk: openai.AsyncOpenAI
) -> None:
    wire.cuts = [3]
    with pytest.raises(openai.APIConnectionError):
        await _events(sdk)
    async with await sdk.responses.retrieve("resp_0", stream=True, starting_after=4) as events:
        rest = [event async for event in events]
    assert [event.sequence_number for event in rest] == list(range(5, len(wire.made["resp_0"].events)))
    whole = await sdk.responses.retrieve("resp_0")
    Response.model_validate(whole.model_dump())
    assert whole.output_text == "Hello from the wire."
    assert wire.generations == 1


async def test_an_answer_that_is_done_cannot_be_cancelled_and_one_that_is_made_can(
    wire: OpenAIWire, sdk: openai.AsyncOpenAI
) -> None:
    wire.scripts, wire.cuts = [Script(pause_s=10)], [1]
    with pytest.raises(openai.APIConnectionError):
        await _events(sdk)
    assert (await sdk.responses.cancel("resp_0")).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        await sdk.responses.cancel("resp_0")
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.cancel("resp_9")


async def test_moderation_is_the_sdks_too(wire: OpenAIWire, sdk: openai.AsyncOpenAI) -> None:
    wire.violent = {"stab"}
    told = await sdk.moderations.create(model="omni-moderation-latest", input=["hi", "stab"])
    assert [result.flagged for result in told.results] == [False, True]
