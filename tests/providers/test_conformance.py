"""Each adapter against the servers that others wrote: what is asked in our words, and what comes back."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest

from providers import types
from providers.deployments import Vendor
from providers.types import ChatCall, ChatModels, Chunk, Finish, Opened, Picture, Text, TextDelta, ToolCall, ToolResult
from providers.vendors import Vendors
from tests.support.aimock import AIMock
from tests.support.llmock import LLMock, serving

_VENDORS: list[Vendor] = ["openai", "compatible"]
_MODEL = "gpt-6-luna"
_CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_WEATHER = types.Tool(name="weather", description="Tells the weather of a city.", schema=_CITY)
_PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
_DOT = Picture(media_type="image/png", data=b"\x89PNG not really")


@pytest.fixture
async def vendors() -> AsyncGenerator[Vendors]:
    """Every adapter, loaded as the gateway loads it."""
    connected = Vendors()
    yield connected
    await connected.close()


def _call(*parts: types.Part, **options: Any) -> ChatCall:
    turns = [types.Turn("system", [Text("Be short.")]), types.Turn("user", parts)]
    return ChatCall(model=_MODEL, turns=turns, output_tokens=100, **options)


async def _chunks(models: ChatModels, call: ChatCall) -> list[Chunk]:
    """Return what was said, of which the first is an `Opened`, the last a `Finish`, and no other one is either."""
    chunks = [chunk async for chunk in models.stream(call)]
    assert [isinstance(chunk, Opened) for chunk in chunks] == [True] + [False] * (len(chunks) - 1)
    assert [isinstance(chunk, Finish) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    return chunks


def _text(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, TextDelta))


def _finish(chunks: list[Chunk]) -> Finish:
    assert isinstance(chunks[-1], Finish)
    return chunks[-1]


@pytest.mark.parametrize("vendor", _VENDORS)
async def test_aimock_a_plain_stream_is_whole_and_counted(vendors: Vendors, aimock: AIMock, vendor: Vendor) -> None:
    chunks = await _chunks(vendors.chat(aimock.deployment(vendor)), _call(Text("greet me")))
    assert _text(chunks) == "أهلًا وسهلًا! Hello there, friend of the wire 👩🏽\u200d💻."
    assert len(chunks) > 3, "it comes in pieces"
    assert _finish(chunks) == Finish(reason="stop", counted=types.Counted(input_tokens=21, output_tokens=9))
    opened = chunks[0]
    assert isinstance(opened, Opened)
    (asked,) = await aimock.journal()
    assert opened.request_id == asked["headers"]["x-request-id"]


@pytest.mark.parametrize("vendor", _VENDORS)
async def test_aimock_tools_are_called_and_their_results_are_answered(
    vendors: Vendors, aimock: AIMock, vendor: Vendor
) -> None:
    models = vendors.chat(aimock.deployment(vendor))
    asked = _call(Text("weather, please"), tools=[_WEATHER])
    chunks = await _chunks(models, asked)
    calls = [chunk for chunk in chunks if isinstance(chunk, ToolCall)]
    assert [(call.id, json.loads(call.arguments)) for call in calls] == [
        ("call_one", {"city": "القاهرة"}),
        ("call_two", {"city": "Fes", "days": 3}),
    ]
    assert (_text(chunks), _finish(chunks).reason) == ("Let me look.", "tools")
    said = types.Turn("assistant", [chunk for chunk in chunks if isinstance(chunk, types.Thought | ToolCall)])
    results = types.Turn("user", [ToolResult(id=call.id, content="sunny") for call in calls])
    again = ChatCall(model=_MODEL, turns=[*asked.turns, said, results], output_tokens=100, tools=[_WEATHER])
    assert _text(await _chunks(models, again)) == "It is sunny in both."


@pytest.mark.parametrize("vendor", _VENDORS)
async def test_aimock_a_form_an_effort_and_a_picture_are_taken(
    vendors: Vendors, aimock: AIMock, vendor: Vendor
) -> None:
    models = vendors.chat(aimock.deployment(vendor))
    formed = _call(Text("give me a person"), form=types.Form(name="person", schema=_PERSON))
    assert json.loads(_text(await _chunks(models, formed))) == {"name": "ليلى", "age": 31}
    assert _text(await _chunks(models, _call(Text("think about it"), effort="high"))) == "Forty-two."
    assert _text(await _chunks(models, _call(_DOT, Text("what is in the picture")))) == "A red dot."


@pytest.mark.parametrize("vendor", _VENDORS)
async def test_aimock_a_limit_is_told_and_a_broken_stream_is_no_end(
    vendors: Vendors, aimock: AIMock, vendor: Vendor
) -> None:
    models = vendors.chat(aimock.deployment(vendor))
    chunks = await _chunks(models, _call(Text("say it long")))
    assert (_text(chunks), _finish(chunks).reason) == ("one two three four five six seven eight", "length")
    with pytest.raises((types.AnswerTruncated, types.ProviderUnavailable)):  # whether a byte came before, or none
        await _chunks(models, _call(Text("break off")))
    await aimock.fail(429, message="slow down", type="rate_limit_error")
    with pytest.raises(types.ProviderRateLimited):
        await _chunks(models, _call(Text("greet me")))


async def test_aimock_cached_and_reasoning_tokens_are_counted_as_parts(vendors: Vendors, aimock: AIMock) -> None:
    # aimock tells them where it is asked as OpenRouter is.
    here = aimock.deployment("compatible")
    router = msgspec.structs.replace(here, base_url=f"{aimock.url}/api/v1")
    chunks = await _chunks(vendors.chat(router), _call(Text("charge me")))
    counted = types.Counted(input_tokens=120, cached_tokens=100, output_tokens=40, reasoning_tokens=30)
    assert _finish(chunks).counted == counted


@pytest.mark.parametrize("vendor", _VENDORS)
async def test_llmock_a_plain_stream_is_whole_and_counted(vendors: Vendors, llmock: LLMock, vendor: Vendor) -> None:
    await llmock.reply("مرحبًا بك in  this place")
    chunks = await _chunks(vendors.chat(llmock.deployment(vendor)), _call(Text("hi")))
    assert _text(chunks) == "مرحبًا بك in  this place"
    counted = _finish(chunks).counted
    assert counted is not None
    assert counted.input_tokens > 0
    assert counted.output_tokens > 0
    assert (await llmock.verdict())["findings"] == []


@pytest.mark.parametrize("vendor", _VENDORS)
async def test_llmock_tools_are_called_and_their_results_end_the_loop(
    vendors: Vendors, llmock: LLMock, vendor: Vendor
) -> None:
    models = vendors.chat(llmock.deployment(vendor))
    asked = _call(Text("what is the weather?"), tools=[_WEATHER], tool_choice="weather")
    chunks = await _chunks(models, asked)
    (call,) = [chunk for chunk in chunks if isinstance(chunk, ToolCall)]
    assert (call.name, list(json.loads(call.arguments))) == ("weather", ["city"])
    assert _finish(chunks).reason == "tools"
    results = types.Turn("user", [ToolResult(id=call.id, content="no such city", is_error=True)])
    turns = [*asked.turns, types.Turn("assistant", [call]), results]
    chunks = await _chunks(models, ChatCall(model=_MODEL, turns=turns, output_tokens=100, tools=[_WEATHER]))
    assert _finish(chunks).reason == "stop"
    assert "no such city" in json.dumps((await llmock.requests())[-1]["body"])
    await llmock.break_tool_call("malformed_arguments")
    with pytest.raises(types.AnswerTruncated):
        await _chunks(models, asked)


@pytest.mark.parametrize("vendor", _VENDORS)
async def test_llmock_a_form_is_kept(vendors: Vendors, llmock: LLMock, vendor: Vendor) -> None:
    models = vendors.chat(llmock.deployment(vendor))
    chunks = await _chunks(models, _call(Text("a person"), form=types.Form(name="person", schema=_PERSON)))
    assert json.loads(_text(chunks)).keys() == {"name", "age"}


async def test_llmock_what_is_left_of_a_key_is_read_from_the_headers(vendors: Vendors) -> None:
    with serving("--rpm", "600", "--tpm", "6000") as limited:
        opened = [
            (await _chunks(vendors.chat(limited.deployment(vendor)), _call(Text("hi"))))[0] for vendor in _VENDORS
        ]
    assert all(isinstance(chunk, Opened) for chunk in opened)
    limits = [chunk.limits for chunk in opened if isinstance(chunk, Opened)]
    for limit in limits:
        assert limit.requests_left in {598, 599}, "the wires share an allowance that fills again"
        assert limit.tokens_left is not None
        assert 0 < limit.tokens_left < 6000
        assert limit.requests_reset_s is not None
