"""Gemini's Interactions: an answer that is gone on with from any of its places, and paid for once."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from typing import Any, cast

import pytest
from google import genai

from providers import google, types
from tests.support import interactions_wire
from tests.support.aimock import AIMock
from tests.support.interactions_wire import WORDS, InteractionsWire, Script, thought, words
from tests.support.serving import free_port
from tests.support.sse_wire import Fault, deployment

TOOL = types.Tool(
    name="weather",
    description="The weather of a city.",
    schema={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
COUNTED = types.Counted(input_tokens=23, output_tokens=10, cached_tokens=5, reasoning_tokens=3)
#: created, status, start, its words, stop, completed.
EVENTS = len(WORDS) + 5


def asking(*parts: types.Part, **options: Any) -> types.ChatCall:
    """Return a resumable call with one turn of these parts."""
    turns = options.pop("turns", None) or [types.Turn("user", parts or [types.Text("hi")])]
    return types.ChatCall(model="gemini-3.8-flash", turns=turns, output_tokens=50, resumable=True, **options)


async def told(models: types.ChatModels, call: types.ChatCall) -> list[types.Chunk]:
    """Return the whole answer, but for the signs of life."""
    return [chunk async for chunk in models.stream(call) if chunk != types.Alive()]


def text(chunks: Sequence[types.Chunk]) -> str:
    """Return what was said."""
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, types.TextDelta))


async def gone_on_with(
    models: types.ChatModels, call: types.ChatCall, kept: Sequence[types.Chunk]
) -> list[types.Chunk]:
    """Return what comes after these chunks of a broken answer, as the next worker asks for it."""
    (token,) = [chunk.token for chunk in kept if isinstance(chunk, types.Resumable)]
    places = [chunk.at for chunk in kept if isinstance(chunk, types.TextDelta)]
    return [chunk async for chunk in models.resume(call, token, places[-1] if places else None)]


async def broken(answer: AsyncIterator[types.Chunk]) -> tuple[list[types.Chunk], types.ProviderError]:
    """Return what came of an answer, and the fact by which it ended."""
    kept: list[types.Chunk] = []
    try:
        async for chunk in answer:
            kept.append(chunk)  # noqa: PERF401
    except types.ProviderError as fact:
        return kept, fact
    pytest.fail("the answer came to its end")


@pytest.fixture(scope="module")
def port() -> int:
    """Where `wire` is."""
    return free_port()


@pytest.fixture
async def wire(port: int) -> AsyncGenerator[InteractionsWire]:
    """The server."""
    async with InteractionsWire.serving(port) as serving:
        yield serving


@pytest.fixture(scope="module")
def models(port: int) -> Generator[google.Gemini]:
    """The adapter, talking to `wire`."""
    connected = google.connect(deployment("google", port))
    yield connected
    asyncio.run(connected.close())


async def test_the_server_speaks_what_googles_own_sdk_reads(wire: InteractionsWire) -> None:
    client: Any = genai.Client(api_key="k", http_options={"base_url": wire.url, "api_version": "v1beta"})
    asked = {"model": "gemini-3.8-flash", "input": "hi", "background": True, "store": True, "stream": True}
    events = [event async for event in await client.aio.interactions.create(**asked)]
    assert [event.event_type for event in events[:3]] == [
        "interaction.created",
        "interaction.status_update",
        "step.start",
    ]
    assert "".join(event.delta.text for event in events if event.event_type == "step.delta") == "".join(WORDS)
    assert (events[-1].event_type, events[-1].interaction.status) == ("interaction.completed", "completed")
    assert events[-1].interaction.usage.total_tokens == 33
    last = events[4].event_id
    rest = [event async for event in await client.aio.interactions.get("v1_0", stream=True, last_event_id=last)]
    assert [event.event_id for event in rest] == [event.event_id for event in events[5:]]
    assert (await client.aio.interactions.cancel("v1_0")).status == "cancelled"
    assert (await client.aio.interactions.get("v1_0")).status == "cancelled"
    await client.aio.aclose()


async def test_the_token_comes_before_any_word_and_every_word_has_its_place(
    models: google.Gemini, wire: InteractionsWire
) -> None:
    opened, resumable, *pieces, finish = await told(models, asking())
    assert opened == types.Opened(request_id="v1_0")
    assert resumable == types.Resumable(token={"interaction_id": "v1_0"})
    assert pieces == [types.TextDelta(word, at=f"v1_0.{3 + at}") for at, word in enumerate(WORDS)]
    assert finish == types.Finish(reason="stop", counted=COUNTED)


async def test_whoever_thinks_or_writes_arguments_is_alive(models: google.Gemini, wire: InteractionsWire) -> None:
    wire.scripts = [Script(steps=[thought("c2ln"), interactions_wire.call("c1", "weather", "{}")])]
    chunks = [chunk async for chunk in models.stream(asking())]
    assert [type(chunk) for chunk in chunks[2:5]] == [types.Alive, types.Alive, types.Alive]


async def test_another_server_is_understood_too(aimock: AIMock) -> None:
    calls = [{"name": "weather", "arguments": '{"city":"عمّان"}'}]
    response = {"content": "Looking 🌙.", "toolCalls": calls}
    await aimock.add({"match": {"userMessage": "interact and call"}, "response": response})
    models = google.connect(aimock.deployment("google"))
    _, resumable, *pieces, called, finish = await told(models, asking(types.Text("interact and call"), tools=[TOOL]))
    assert isinstance(resumable, types.Resumable)
    assert text(pieces) == "Looking 🌙."
    assert isinstance(called, types.ToolCall)
    assert json.loads(called.arguments) == {"city": "عمّان"}
    assert isinstance(finish, types.Finish)
    assert finish.reason == "tools"
    await models.close()


@pytest.mark.parametrize("after", range(1, EVENTS + 1))
async def test_an_answer_broken_after_any_event_is_gone_on_with_to_the_letter(
    models: google.Gemini, wire: InteractionsWire, after: int
) -> None:
    wire.faults = [Fault(kind="drop", after=after)]
    kept, fact = await broken(models.stream(asking()))
    assert fact.retryable
    rest = await gone_on_with(models, asking(), kept)
    assert rest[:2] == kept[:2]
    assert text(kept) + text(rest) == "".join(WORDS)
    assert rest[-1] == types.Finish(reason="stop", counted=COUNTED)
    assert len(wire.journal) == 1, "it is paid for once"


async def test_an_answer_broken_again_and_again_is_gone_on_with(models: google.Gemini, wire: InteractionsWire) -> None:
    wire.faults = [Fault(kind="drop", after=4), *(Fault(kind="truncate", after=1) for _ in WORDS[1:])]
    kept, _ = await broken(models.stream(asking()))
    for at in range(len(WORDS) - 1):
        more, _ = await broken(models.resume(asking(), {"interaction_id": "v1_0"}, f"v1_0.{3 + at}"))
        kept += more[2:]
    rest = await gone_on_with(models, asking(), kept)
    assert text(kept) == "".join(WORDS)
    assert [type(chunk) for chunk in rest] == [types.Opened, types.Resumable, types.Finish]
    assert len(wire.journal) == 1


async def test_a_new_worker_reads_the_answer_from_its_beginning(models: google.Gemini, wire: InteractionsWire) -> None:
    whole = await told(models, asking())
    assert [chunk async for chunk in models.resume(asking(), {"interaction_id": "v1_0"}, None)] == whole
    assert len(wire.journal) == 1


TOOLED = [
    words("One. "),
    thought("c2ln"),
    interactions_wire.call("c1", "weather", '{"city": "', 'عمّان"}'),
    words("Two."),
    interactions_wire.call("c2", "weather"),
]


@pytest.mark.parametrize("after", range(1, 2 + sum(len(step["deltas"]) + 2 for step in TOOLED) + 2))
async def test_the_calls_of_tools_are_said_once_wherever_it_broke(
    models: google.Gemini, wire: InteractionsWire, after: int
) -> None:
    wire.scripts = [Script(steps=TOOLED, status="requires_action")]
    wire.faults = [Fault(kind="drop", after=after)]
    call = asking(tools=[TOOL])
    kept, _ = await broken(models.stream(call))
    rest = await gone_on_with(models, call, kept)
    assert text(kept) + text(rest) == "One. Two."
    calls = [chunk for chunk in [*kept, *rest] if isinstance(chunk, types.ToolCall | types.Thought)]
    assert calls == [
        types.Thought(vendor="google", data='{"type": "thought", "signature": "c2ln"}'),
        types.ToolCall(id="c1", name="weather", arguments='{"city": "عمّان"}'),
        types.ToolCall(id="c2", name="weather", arguments="{}"),
    ]
    assert rest[-1] == types.Finish(reason="tools", counted=COUNTED)


@pytest.mark.parametrize(
    ("status", "reason"), [("completed", "stop"), ("incomplete", "length"), ("requires_action", "tools")]
)
async def test_every_end_is_one_of_ours(
    models: google.Gemini, wire: InteractionsWire, status: str, reason: str
) -> None:
    wire.scripts = [Script(status=status)]
    *_, finish = await told(models, asking())
    assert finish == types.Finish(reason=reason, counted=COUNTED)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "first", "again"),
    [
        ("failed", types.ProviderUnavailable, types.AnswerLost),
        ("cancelled", types.AnswerLost, types.AnswerLost),
        ("budget_exceeded", types.ProviderMisconfigured, types.ProviderMisconfigured),
        ("something_new", types.AnswerTruncated, types.AnswerTruncated),
    ],
)
async def test_an_answer_that_failed_is_not_looked_for_for_ever(
    models: google.Gemini,
    wire: InteractionsWire,
    status: str,
    first: type[types.ProviderError],
    again: type[types.ProviderError],
) -> None:
    wire.scripts = [Script(status=status)]
    kept, fact = await broken(models.stream(asking()))
    assert type(fact) is first
    with pytest.raises(again):
        await gone_on_with(models, asking(), kept)


@pytest.mark.parametrize(
    ("code", "fact"),
    [
        ("429", types.ProviderRateLimited),
        ("https://errors.google/RESOURCE_EXHAUSTED", types.ProviderRateLimited),
        ("deadline_exceeded", types.ProviderTimedOut),
        ("INVALID_ARGUMENT", types.ProviderRefused),
        ("PERMISSION_DENIED", types.ProviderMisconfigured),
        ("whatever", types.ProviderUnavailable),
        ("", types.ProviderUnavailable),
    ],
)
async def test_an_error_in_the_middle_is_the_fact_that_it_names(
    models: google.Gemini, wire: InteractionsWire, code: str, fact: type[types.ProviderError]
) -> None:
    wire.scripts = [Script(error={"code": code, "message": "no"})]
    _, told_fact = await broken(models.stream(asking()))
    assert type(told_fact) is fact


async def test_what_a_filter_stops_is_an_answer_that_is_filtered(models: google.Gemini, wire: InteractionsWire) -> None:
    wire.scripts = [Script(error={"code": "SAFETY", "message": "no"})]
    *_, finish = await told(models, asking())
    assert finish == types.Finish(reason="filtered", counted=None)


async def test_what_was_not_counted_is_unknown_not_zero(models: google.Gemini, wire: InteractionsWire) -> None:
    wire.scripts = [Script(usage=None), Script(usage={"total_input_tokens": 0})]
    for _ in range(2):
        *_, finish = await told(models, asking())
        assert finish == types.Finish(reason="stop", counted=None)


async def test_what_is_new_is_passed_by(models: google.Gemini, wire: InteractionsWire) -> None:
    new = {"type": "hologram", "rays": 3, "deltas": [{"type": "ray", "data": [1]}]}
    wire.scripts = [Script(steps=[new, words("a")])]
    assert text(await told(models, asking())) == "a"


@pytest.mark.parametrize(("status", "whole"), [("incomplete", True), ("requires_action", False)])
async def test_a_call_that_was_cut_is_not_said(
    models: google.Gemini, wire: InteractionsWire, status: str, whole: bool
) -> None:
    wire.scripts = [Script(steps=[interactions_wire.call("c1", "weather", '{"ci')], status=status)]
    if whole:
        assert [type(chunk) for chunk in await told(models, asking(tools=[TOOL]))][2:] == [types.Finish]
    else:
        with pytest.raises(types.AnswerTruncated):
            await told(models, asking(tools=[TOOL]))


@pytest.mark.parametrize(
    ("token", "after", "faults"),
    [
        ("v1_7", None, []),
        ("v1_0", "nowhere", []),
        ("v1_0", None, [Fault(status=410)]),
    ],
)
async def test_an_answer_that_is_not_there_is_lost(
    models: google.Gemini, wire: InteractionsWire, token: str, after: str | None, faults: list[Fault]
) -> None:
    await told(models, asking())
    wire.faults = faults
    with pytest.raises(types.AnswerLost):
        _ = [chunk async for chunk in models.resume(asking(), {"interaction_id": token}, after)]


async def test_a_place_that_is_not_there_any_more_is_lost_with_tools_as_well(
    models: google.Gemini, wire: InteractionsWire
) -> None:
    await told(models, asking(tools=[TOOL]))
    with pytest.raises(types.AnswerLost):
        _ = [chunk async for chunk in models.resume(asking(tools=[TOOL]), {"interaction_id": "v1_0"}, "nowhere")]


async def test_a_vendor_that_is_away_has_not_lost_the_answer(models: google.Gemini, wire: InteractionsWire) -> None:
    await told(models, asking())
    for status, fact in ((503, types.ProviderUnavailable), (403, types.ProviderMisconfigured)):
        wire.faults = [Fault(status=status)]
        with pytest.raises(fact):
            _ = [chunk async for chunk in models.resume(asking(), {"interaction_id": "v1_0"}, None)]


async def test_an_answer_is_abandoned_once_and_for_all(models: google.Gemini, wire: InteractionsWire) -> None:
    await told(models, asking())
    await models.abandon({"interaction_id": "v1_0"})
    assert wire.journal[0].status == "cancelled"
    await models.abandon({"interaction_id": "v1_7"})
    wire.faults = [Fault(status=500)]
    with pytest.raises(types.ProviderUnavailable):
        await models.abandon({"interaction_id": "v1_0"})


async def test_what_is_asked_reaches_the_vendor(models: google.Gemini, wire: InteractionsWire) -> None:
    parts = [
        types.Text("look"),
        types.Picture(media_type="image/png", data=b"png"),
        types.Paper(name="a.pdf", media_type="application/pdf", data=b"%PDF"),
        types.Paper(name="b.csv", media_type="text/csv", data="مدينة".encode()),
    ]
    answered = [
        types.Text("So."),
        types.Thought(vendor="google", data='{"type": "thought", "signature": "c2ln"}'),
        types.Thought(vendor="google", data='{"thoughtSignature": "c2ln"}'),
        types.Thought(vendor="anthropic", data="{}"),
        types.ToolCall(id="c1", name="weather", arguments='{"city": "x"}'),
    ]
    turns = [
        types.Turn("system", [types.Text("Be brief.")]),
        types.Turn("user", parts),
        types.Turn("assistant", answered),
        types.Turn("user", [types.ToolResult(id="c1", content="Sunny", is_error=True), types.Text("And?")]),
    ]
    form = types.Form(name="city", schema={"type": "object"})
    await told(models, asking(turns=turns, tools=[TOOL], tool_choice="weather", effort="low", form=form))
    assert wire.journal[0].request == {
        "model": "gemini-3.8-flash",
        "background": True,
        "store": True,
        "stream": True,
        "system_instruction": "Be brief.",
        "input": [
            {
                "type": "user_input",
                "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image", "mime_type": "image/png", "data": "cG5n"},
                    {"type": "document", "mime_type": "application/pdf", "data": "JVBERg=="},
                    {"type": "text", "text": "b.csv\n\nمدينة"},
                ],
            },
            {"type": "model_output", "content": [{"type": "text", "text": "So."}]},
            {"type": "thought", "signature": "c2ln"},
            {"type": "function_call", "id": "c1", "name": "weather", "arguments": {"city": "x"}},
            {"type": "function_result", "call_id": "c1", "name": "weather", "result": "Sunny", "is_error": True},
            {"type": "user_input", "content": [{"type": "text", "text": "And?"}]},
        ],
        "generation_config": {
            "max_output_tokens": 50,
            "thinking_level": "low",
            "tool_choice": {"allowed_tools": {"mode": "any", "tools": ["weather"]}},
        },
        "tools": [
            {
                "type": "function",
                "name": "weather",
                "description": "The weather of a city.",
                "parameters": TOOL.schema,
            }
        ],
        "response_format": {"type": "text", "mime_type": "application/json", "schema": {"type": "object"}},
    }


async def test_whoever_stops_listening_closes_the_connection(models: google.Gemini, wire: InteractionsWire) -> None:
    wire.faults = [Fault(kind="stall", after=4)]
    answer = cast("AsyncGenerator[types.Chunk]", models.stream(asking()))
    assert isinstance(await anext(answer), types.Opened)
    await answer.aclose()
    async with asyncio.timeout(5):
        await wire.left.wait()
