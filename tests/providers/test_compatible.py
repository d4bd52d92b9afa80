"""The OpenAI wire: what is an end, what is a failure, and what was counted."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from infra.settings import Settings
from providers import compatible, deployments, types
from tests.support.sse_wire import Fault, Reciter, frame
from tests.support.vendor import Answer, Vendor

CALL = types.ChatCall(model="wire-1", turns=[types.Turn("user", [types.Text("hi")])], output_tokens=5)
COUNTED = types.Counted(input_tokens=11, output_tokens=7)


@pytest.fixture
async def models(vendor: Vendor) -> AsyncGenerator[compatible.CompatibleChat]:
    """The adapter, talking to `vendor`."""
    connected = compatible.connect(deployments.of(Settings(compatible_url=vendor.url))["compatible"][0])
    yield connected
    await connected.close()


@pytest.mark.parametrize(("told", "reason"), [("stop", "stop"), ("length", "length"), ("content_filter", "filtered")])
async def test_deltas_come_first_and_the_finish_last(
    models: compatible.CompatibleChat, vendor: Vendor, told: str, reason: str
) -> None:
    vendor.script = [Answer(deltas=["سلام", " ", "عليكم"], finish_reason=told)]
    chunks = [chunk async for chunk in models.stream(CALL)]
    assert chunks[:-1] == [types.Opened(), types.TextDelta("سلام"), types.TextDelta(" "), types.TextDelta("عليكم")]
    assert chunks[-1] == types.Finish(reason=reason, counted=COUNTED)  # type: ignore[arg-type]


async def test_usage_that_rides_on_a_chunk_with_choices_is_read(
    models: compatible.CompatibleChat, vendor: Vendor
) -> None:
    vendor.script = [Answer(end="usage on the last choice")]
    *_, finish = [chunk async for chunk in models.stream(CALL)]
    assert finish == types.Finish(reason="stop", counted=COUNTED)


async def test_usage_that_was_not_told_is_unknown_not_zero(models: compatible.CompatibleChat, vendor: Vendor) -> None:
    vendor.script = [Answer(end="no usage")]
    *_, finish = [chunk async for chunk in models.stream(CALL)]
    assert finish == types.Finish(reason="stop", counted=None)


@pytest.mark.parametrize(
    ("answer", "fact", "retryable"),
    [
        (Answer(end="cut"), types.AnswerTruncated, True),
        (Answer(end="drop"), types.ProviderError, True),
        (Answer(end="garbage"), types.AnswerTruncated, True),
        (Answer(end="error event"), types.ProviderUnavailable, True),
        (Answer(status=400), types.ProviderRefused, False),
        (Answer(status=401), types.ProviderMisconfigured, False),
        (Answer(status=404), types.ProviderMisconfigured, False),
        (Answer(status=429), types.ProviderRateLimited, True),
        (Answer(status=500), types.ProviderUnavailable, True),
        (Answer(status=529), types.ProviderUnavailable, True),
    ],
    ids=lambda value: f"{value.status} {value.end}" if isinstance(value, Answer) else None,
)
async def test_every_fault_is_a_fact_of_ours_after_one_request(
    models: compatible.CompatibleChat, vendor: Vendor, answer: Answer, fact: type[types.ProviderError], retryable: bool
) -> None:
    vendor.script = [answer]
    with pytest.raises(fact) as told:
        _ = [chunk async for chunk in models.stream(CALL)]
    assert told.value.retryable is retryable
    assert len(vendor.requests) == 1, "the job's own retries are the only ones"


async def test_the_wish_of_retry_after_is_kept(models: compatible.CompatibleChat, vendor: Vendor) -> None:
    vendor.script = [Answer(status=429, headers={"retry-after": "3.5"})]
    with pytest.raises(types.ProviderRateLimited) as told:
        _ = [chunk async for chunk in models.stream(CALL)]
    assert told.value.retry_after_s == 3.5


async def test_what_is_asked_reaches_the_vendor(models: compatible.CompatibleChat, vendor: Vendor) -> None:
    turns = [types.Turn(role, [types.Text(role)]) for role in ("system", "user", "assistant")]
    call = types.ChatCall(model="wire-1", turns=turns, output_tokens=5, temperature=0.5)
    _ = [chunk async for chunk in models.stream(call)]
    (request,) = vendor.requests
    assert [message["content"] for message in request["messages"]] == ["system", "user", "assistant"]
    assert (request["max_tokens"], request["temperature"], request["stream"]) == (5, 0.5, True)
    assert request["stream_options"] == {"include_usage": True}


async def test_every_word_of_ours_has_its_own_in_the_request(models: compatible.CompatibleChat, vendor: Vendor) -> None:
    picture = types.Picture(media_type="image/png", data=b"p")
    notes = types.Paper(name="a.txt", media_type="text/plain", data=b"line")
    pdf = types.Paper(name="a.pdf", media_type="application/pdf", data=b"%PDF")
    schema = {"type": "object"}
    turns = [
        types.Turn("user", [types.Text("see"), notes]),
        types.Turn("user", [picture, pdf, types.Text("and?")]),
        types.Turn(
            "assistant",
            [types.Thought(vendor="openai", data="{}"), types.ToolCall(id="c", name="look", arguments="{}")],
        ),
        types.Turn("user", [types.ToolResult(id="c", content="lost", is_error=True), types.Text("So?")]),
    ]
    call = types.ChatCall(
        model="wire-1",
        turns=turns,
        output_tokens=5,
        effort="low",
        tools=[types.Tool(name="look", description="Looks.", schema=schema)],
        tool_choice="look",
        form=types.Form(name="shape", schema=schema),
    )
    _ = [chunk async for chunk in models.stream(call)]
    (request,) = vendor.requests
    assert request["messages"] == [
        {"role": "user", "content": 'see<file name="a.txt">\nline\n</file>\n'},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,cA=="}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}},
                {"type": "text", "text": "and?"},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "Error: lost"},
        {"role": "user", "content": "So?"},
    ]
    function = {"name": "look", "description": "Looks.", "parameters": schema}
    assert request["tools"] == [{"type": "function", "function": function}]
    assert request["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert request["reasoning_effort"] == "low"
    shape = {"name": "shape", "schema": schema, "strict": True}
    assert request["response_format"] == {"type": "json_schema", "json_schema": shape}


async def test_these_servers_keep_no_answer(models: compatible.CompatibleChat) -> None:
    with pytest.raises(types.AnswerLost):
        _ = [chunk async for chunk in models.resume(CALL, {"id": "x"}, None)]
    await models.abandon({"id": "x"})


async def test_an_answer_that_is_whole_waits_for_no_end_of_its_connection() -> None:
    said = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}
    async with Reciter.serving() as server:
        server.frames = [frame(said), frame("[DONE]")]
        server.faults = [Fault(kind="stall", after=2)]
        models = compatible.connect(deployments.of(Settings(compatible_url=server.url))["compatible"][0])
        async with asyncio.timeout(10):
            chunks = [chunk async for chunk in models.stream(CALL)]
            await server.left.wait()
        assert chunks[1:] == [types.TextDelta("Hi"), types.Finish(reason="stop", counted=None)]
        await models.close()


async def test_an_event_without_a_word_is_passed_by() -> None:
    said = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}
    async with Reciter.serving() as server:
        server.frames = ["data:\n\n", frame(said), ": nothing\n\n"]
        models = compatible.connect(deployments.of(Settings(compatible_url=server.url))["compatible"][0])
        chunks = [chunk async for chunk in models.stream(CALL)]
        assert chunks[1:] == [types.TextDelta("Hi"), types.Finish(reason="stop", counted=None)]
        await models.close()
