"""Anthropic's wire: what is asked, what is an end, what is a failure, and what was counted."""

import asyncio
import json
from collections.abc import AsyncGenerator, Generator
from typing import Any, cast

import pytest

from providers import anthropic, types
from providers.prices import sorts
from tests.support.aimock import AIMock
from tests.support.llmock import LLMock
from tests.support.serving import free_port
from tests.support.sse_wire import Fault, Reciter, deployment, frame

TOOL = types.Tool(
    name="weather",
    description="The weather of a city.",
    schema={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


def asking(*parts: types.Part, **options: Any) -> types.ChatCall:
    """Return a call with one turn of these parts."""
    turns = options.pop("turns", None) or [types.Turn("user", parts or [types.Text("hi")])]
    return types.ChatCall(model="claude-haiku-5-5", turns=turns, output_tokens=50, **options)


async def told(models: types.ChatModels, call: types.ChatCall) -> list[types.Chunk]:
    """Return the whole answer, but for the signs of life."""
    return [chunk async for chunk in models.stream(call) if chunk != types.Alive()]


def message(
    *blocks: tuple[dict[str, Any], ...],
    reason: str | None = "end_turn",
    usage: dict[str, Any] | None = None,
    last: dict[str, Any] | None = None,
) -> list[str]:
    """Return the events of a message; a block is how it begins, and what is added to it."""
    begun: dict[str, Any] = {"id": "msg_1", "role": "assistant", "content": [], "usage": usage or {"input_tokens": 9}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
    for index, (block, *deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    events.append({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": last or {"output_tokens": 4}})
    return [frame(event, event["type"]) for event in [*events, {"type": "message_stop"}]]


SAID = ({"type": "text", "text": ""}, {"type": "text_delta", "text": "Hello"})


CALL: dict[str, Any] = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}


@pytest.fixture(scope="module")
def port() -> int:
    """Where `wire` is."""
    return free_port()


@pytest.fixture
async def wire(port: int) -> AsyncGenerator[Reciter]:
    """A server that recites."""
    async with Reciter.serving(port) as serving:
        yield serving


@pytest.fixture(scope="module")
def models(port: int) -> Generator[anthropic.Claude]:
    """The adapter, talking to `wire`."""
    connected = anthropic.connect(deployment("anthropic", port))
    yield connected
    asyncio.run(connected.close())


async def test_pieces_come_in_order_and_the_finish_last(llmock: LLMock) -> None:
    await llmock.reply("سلام عليكم, dear wire. 🌙")
    models = anthropic.connect(llmock.deployment("anthropic"))
    opened, *pieces, finish = await told(models, asking(types.Text("a longer question")))
    assert isinstance(opened, types.Opened)
    assert "".join(piece.text for piece in pieces if isinstance(piece, types.TextDelta)) == "سلام عليكم, dear wire. 🌙"
    assert isinstance(finish, types.Finish)
    assert finish.reason == "stop"
    assert finish.counted is not None
    await models.close()


async def test_a_call_of_a_tool_comes_whole(llmock: LLMock) -> None:
    await llmock.reply(tool_calls=[{"name": "weather", "arguments": {"city": "Amman, the white city of seven hills"}}])
    models = anthropic.connect(llmock.deployment("anthropic"))
    *_, called, finish = await told(models, asking(tools=[TOOL]))
    assert isinstance(called, types.ToolCall)
    assert json.loads(called.arguments) == {"city": "Amman, the white city of seven hills"}
    assert isinstance(finish, types.Finish)
    assert finish.reason == "tools"
    await models.close()


async def test_thinking_comes_before_the_call_that_it_belongs_to(aimock: AIMock) -> None:
    calls = [{"name": "weather", "arguments": '{"city":"عمّان"}'}]
    response = {"reasoning": "Let me think.", "content": "Looking.", "toolCalls": calls}
    await aimock.add({"match": {"userMessage": "claude thinks and calls"}, "response": response})
    models = anthropic.connect(aimock.deployment("anthropic"))
    _, thought, piece, called, finish = await told(models, asking(types.Text("claude thinks and calls"), tools=[TOOL]))
    assert isinstance(thought, types.Thought)
    assert thought.vendor == "anthropic"
    assert json.loads(thought.data)["signature"]
    assert piece == types.TextDelta("Looking.")
    assert isinstance(called, types.ToolCall)
    assert json.loads(called.arguments) == {"city": "عمّان"}
    assert isinstance(finish, types.Finish)
    assert finish.reason == "tools"
    await models.close()


async def test_blocks_of_thinking_go_back_as_they_came(models: anthropic.Claude, wire: Reciter) -> None:
    thinking: tuple[dict[str, Any], ...] = (
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "So: "},
        {"type": "thinking_delta", "thinking": "عمّان."},
        {"type": "signature_delta", "signature": "c2lnbmVk"},
    )
    encrypted = ({"type": "redacted_thinking", "data": "b3BhcXVl"},)
    tool = (CALL, {"partial_json": '{"city":'}, {"partial_json": '"x"}'})
    wire.frames = message(thinking, encrypted, tool)
    _, *parts, _ = await told(models, asking(tools=[TOOL]))
    result = types.ToolResult(id="toolu_1", content="Sunny")
    turns = [
        types.Turn("user", [types.Text("hi")]),
        types.Turn("assistant", [part for part in parts if isinstance(part, types.Thought | types.ToolCall)]),
        types.Turn("user", [types.Text("And?"), result]),
    ]
    await told(models, asking(turns=turns, tools=[TOOL]))
    _, answered, asked = wire.requests[-1].body["messages"]
    assert answered["content"] == [
        {"type": "thinking", "thinking": "So: عمّان.", "signature": "c2lnbmVk"},
        {"type": "redacted_thinking", "data": "b3BhcXVl"},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "x"}},
    ]
    assert [block["type"] for block in asked["content"]] == ["tool_result", "text"], "results stand first"


async def test_thinking_without_tools_is_not_kept(models: anthropic.Claude, wire: Reciter) -> None:
    wire.frames = message(({"type": "thinking"}, {"thinking": "So."}, {"signature": "c2ln"}), SAID)
    assert [type(chunk) for chunk in await told(models, asking())] == [types.Opened, types.TextDelta, types.Finish]


async def test_whoever_thinks_or_writes_arguments_is_alive(models: anthropic.Claude, wire: Reciter) -> None:
    first, *others = message(({"type": "thinking"}, {"thinking": "So."}), (CALL, {"partial_json": "{}"}))
    wire.frames = [first, frame({"type": "ping"}, "ping"), *others]
    chunks = [chunk async for chunk in models.stream(asking())]
    assert [type(chunk) for chunk in chunks[:4]] == [types.Opened, types.Alive, types.Alive, types.Alive]


async def test_the_input_is_all_of_it_with_what_was_cached(models: anthropic.Claude, wire: Reciter) -> None:
    first = {
        "input_tokens": 10,
        "cache_read_input_tokens": 1000,
        "cache_creation_input_tokens": 300,
        "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
        "output_tokens": 1,
        "server_tool_use": None,
    }
    last = {"input_tokens": None, "output_tokens": 80, "output_tokens_details": {"thinking_tokens": 60}}
    wire.frames = message(SAID, usage=first, last=last)
    *_, finish = await told(models, asking())
    assert finish == types.Finish(
        reason="stop",
        counted=types.Counted(
            input_tokens=1310,
            output_tokens=80,
            cached_tokens=1000,
            written_tokens=300,
            written_long_tokens=200,
            reasoning_tokens=60,
        ),
    )


async def test_what_its_own_tools_had_written_later_is_counted_though_no_breakdown_has_it(
    models: anthropic.Claude, wire: Reciter
) -> None:
    """Others charged the breakdown of the first round alone, a sixth of what was written: BerriAI/litellm #42663."""
    first = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 31_490,
        "cache_creation": {"ephemeral_5m_input_tokens": 31_490, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 1,
    }
    last = {
        "input_tokens": 123_201,
        "cache_read_input_tokens": 426_653,
        "cache_creation_input_tokens": 184_457,
        "output_tokens": 4_000,
        "server_tool_use": {"web_search_requests": 5},
    }
    wire.frames = message(SAID, usage=first, last=last)
    *_, finish = await told(models, asking())
    counted = types.Counted(input_tokens=734_311, cached_tokens=426_653, written_tokens=184_457, output_tokens=4_000)
    assert finish == types.Finish(reason="stop", counted=counted)
    assert sorts(counted)["written"] == 184_457


@pytest.mark.parametrize("last", [{"output_tokens": "many"}, {"output_tokens": -1}, {"input_tokens": 3}, {"x": 1}])
async def test_what_was_not_counted_is_unknown_not_zero(
    models: anthropic.Claude, wire: Reciter, last: dict[str, Any]
) -> None:
    wire.frames = message(SAID, last=last)
    *_, finish = await told(models, asking())
    assert finish == types.Finish(reason="stop", counted=None)


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "length"),
        ("refusal", "filtered"),
        ("tool_use", "tools"),
    ],
)
async def test_every_reason_to_stop_is_one_of_ours(
    models: anthropic.Claude, wire: Reciter, reason: str, said: str
) -> None:
    wire.frames = message(SAID, reason=reason)
    *_, finish = await told(models, asking())
    assert isinstance(finish, types.Finish)
    assert finish.reason == said


@pytest.mark.parametrize("reason", [None, "something new"])
async def test_an_end_for_no_known_reason_is_no_end(
    models: anthropic.Claude, wire: Reciter, reason: str | None
) -> None:
    wire.frames = message(SAID, reason=reason)
    with pytest.raises(types.AnswerTruncated):
        await told(models, asking())


async def test_a_reason_without_the_end_of_the_message_is_no_end(models: anthropic.Claude, wire: Reciter) -> None:
    wire.frames = message(SAID)[:-1]
    with pytest.raises(types.AnswerTruncated):
        await told(models, asking())


async def test_what_is_new_is_passed_by(models: anthropic.Claude, wire: Reciter) -> None:
    first, *others = message(({"type": "hologram", "depth": 3}, {"type": "hologram_delta", "rays": [1]}), SAID)
    wire.frames = [first, frame({"type": "weather_report", "error": None}, "weather_report"), frame("", "x"), *others]
    assert [type(chunk) for chunk in await told(models, asking())] == [types.Opened, types.TextDelta, types.Finish]


@pytest.mark.parametrize(
    ("kind", "fact"),
    [
        ("overloaded_error", types.ProviderUnavailable),
        ("api_error", types.ProviderUnavailable),
        ("rate_limit_error", types.ProviderRateLimited),
        ("timeout_error", types.ProviderTimedOut),
        ("authentication_error", types.ProviderMisconfigured),
        ("billing_error", types.ProviderMisconfigured),
        ("invalid_request_error", types.ProviderRefused),
        ("something_new", types.ProviderUnavailable),
    ],
)
async def test_an_error_in_the_middle_is_the_fact_that_it_names(
    models: anthropic.Claude, wire: Reciter, kind: str, fact: type[types.ProviderError]
) -> None:
    error = {"type": "error", "error": {"type": kind, "message": "no"}, "request_id": "req_1"}
    wire.frames = [*message(SAID)[:3], frame(error, "error")]
    with pytest.raises(fact):
        await told(models, asking())


async def test_credit_that_is_used_up_is_not_the_users_fault(models: anthropic.Claude, wire: Reciter) -> None:
    error = {"type": "error", "error": {"type": "billing_error", "message": "no credit"}}
    wire.faults = [Fault(status=400, body=error)]
    with pytest.raises(types.ProviderMisconfigured):
        await told(models, asking())


@pytest.mark.parametrize(("reason", "whole"), [("max_tokens", True), ("tool_use", False)])
async def test_a_call_that_was_cut_is_not_said(
    models: anthropic.Claude, wire: Reciter, reason: str, whole: bool
) -> None:
    tool = (CALL, {"partial_json": '{"city": "Am'})
    wire.frames = message(SAID, tool, reason=reason)
    if whole:
        *_, finish = await told(models, asking(tools=[TOOL]))
        assert isinstance(finish, types.Finish)
        assert finish.reason == "length"
    else:
        with pytest.raises(types.AnswerTruncated):
            await told(models, asking(tools=[TOOL]))


async def test_halves_of_a_pair_are_joined_and_no_text_is_there_that_cannot_be_kept(
    models: anthropic.Claude, wire: Reciter
) -> None:
    halves = frame('{"type":"content_block_delta","delta":{"text":"a\\ud83d"}}', "content_block_delta")
    other = frame('{"type":"content_block_delta","delta":{"text":"\\ude00\\u0000"}}', "content_block_delta")
    first, start, *_, stop, last, end = message(SAID)
    wire.frames = [first, start, halves, other, stop, last, end]
    _, *pieces, _ = await told(models, asking())
    assert "".join(piece.text for piece in pieces if isinstance(piece, types.TextDelta)) == "a😀\ufffd"


async def test_what_is_left_of_the_key_is_read_from_the_headers(models: anthropic.Claude, wire: Reciter) -> None:
    wire.frames = message(SAID)
    wire.headers = {
        "request-id": "req_9",
        "anthropic-ratelimit-requests-remaining": "41",
        "anthropic-ratelimit-tokens-remaining": "7000",
    }
    opened, *_ = await told(models, asking())
    assert isinstance(opened, types.Opened)
    assert (opened.request_id, opened.limits.requests_left, opened.limits.tokens_left) == ("req_9", 41, 7000)


async def test_what_is_asked_reaches_the_vendor(models: anthropic.Claude, wire: Reciter) -> None:
    wire.frames = message(SAID)
    parts = [
        types.Text("look"),
        types.Text("  "),
        types.Picture(media_type="image/png", data=b"png"),
        types.Paper(name="a.pdf", media_type="application/pdf", data=b"%PDF"),
        types.Paper(name="b.csv", media_type="text/csv", data="مدينة".encode()),
    ]
    turns = [types.Turn("system", [types.Text("Be brief.")]), types.Turn("user", parts)]
    await told(models, asking(turns=turns, temperature=0.5, effort="high", tools=[TOOL], tool_choice="none"))
    request = wire.requests[-1]
    assert request.headers["authorization"] == "Bearer a-secret-key"
    assert request.body == {
        "model": "claude-haiku-5-5",
        "max_tokens": 50,
        "system": "Be brief.",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "cG5n"}},
                    {
                        "type": "document",
                        "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="},
                        "title": "a.pdf",
                    },
                    {
                        "type": "document",
                        "source": {"type": "text", "media_type": "text/plain", "data": "مدينة"},
                        "title": "b.csv",
                    },
                ],
            }
        ],
        "tools": [{"name": "weather", "description": "The weather of a city.", "input_schema": TOOL.schema}],
        "tool_choice": {"type": "none"},
        "output_config": {"effort": "high"},
        "thinking": {"type": "adaptive"},
        "stream": True,
    }, "no temperature: these models take none"


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"effort": "none"}, {"thinking": {"type": "disabled"}}),
        ({"effort": "low", "tools": [TOOL], "tool_choice": "required"}, {"tool_choice": {"type": "any"}}),
        ({"tools": [TOOL], "tool_choice": "weather"}, {"tool_choice": {"type": "tool", "name": "weather"}}),
        ({"tools": [TOOL]}, {"tool_choice": {"type": "auto"}}),
        ({}, {}),
    ],
)
async def test_thinking_and_choice_are_asked_for_in_its_words(
    models: anthropic.Claude, wire: Reciter, options: dict[str, Any], sent: dict[str, Any]
) -> None:
    wire.frames = message(SAID)
    await told(models, asking(**options))
    body = wire.requests[-1].body
    assert {name: body[name] for name in ("thinking", "tool_choice") if name in body} == sent


async def test_a_form_is_asked_for_in_the_part_of_json_schema_that_it_knows(
    models: anthropic.Claude, wire: Reciter
) -> None:
    wire.frames = message(SAID)
    form = types.Form(name="city", schema={"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}})
    await told(models, asking(form=form))
    asked = wire.requests[-1].body["output_config"]["format"]
    assert asked["type"] == "json_schema"
    assert asked["schema"]["additionalProperties"] is False
    assert "minimum" not in asked["schema"]["properties"]["n"]


@pytest.mark.parametrize(
    "call",
    [
        asking(form=types.Form(name="x", schema={"description": "of no type"})),
        asking(turns=[types.Turn("assistant", [types.ToolCall(id="a", name="t", arguments="[1]")])]),
    ],
)
async def test_what_cannot_be_asked_is_refused_before_it_is_sent(
    models: anthropic.Claude, wire: Reciter, call: types.ChatCall
) -> None:
    with pytest.raises(types.ProviderRefused):
        await told(models, call)
    assert wire.requests == []


async def test_what_others_thought_and_what_was_made_up_stays_here(models: anthropic.Claude, wire: Reciter) -> None:
    wire.frames = message(SAID)
    parts = [
        types.Thought(vendor="google", data='{"thoughtSignature": "c2ln"}'),
        types.Thought(vendor="anthropic", data='{"type": "image", "source": {"type": "url"}}'),
        types.Thought(vendor="anthropic", data="no json"),
        types.ToolCall(id="call.1/٢", name="weather", arguments="{}"),
    ]
    turns = [types.Turn("assistant", parts), types.Turn("user", [types.ToolResult(id="call.1/٢", content="x")])]
    await told(models, asking(turns=turns, tools=[TOOL]))
    (call,), (result,) = (message["content"] for message in wire.requests[-1].body["messages"])
    assert call["type"] == "tool_use"
    assert call["id"] == result["tool_use_id"] == "call_1__"


async def test_a_conversation_that_goes_on_is_kept_in_the_cache(models: anthropic.Claude, wire: Reciter) -> None:
    wire.frames = message(SAID)
    await told(models, asking())
    turns = [types.Turn(role, [types.Text(role)]) for role in ("user", "assistant", "user")]
    await told(models, asking(turns=turns))
    first, second = (request.body.get("cache_control") for request in wire.requests)
    assert first is None, "most first questions are never followed up"
    assert second == {"type": "ephemeral"}


async def test_an_answer_is_never_there_again(models: anthropic.Claude) -> None:
    with pytest.raises(types.AnswerLost):
        _ = [chunk async for chunk in models.resume(asking(), {"x": 1}, None)]
    await models.abandon({"x": 1})


async def test_whoever_stops_listening_closes_the_connection(models: anthropic.Claude, wire: Reciter) -> None:
    wire.frames = message(SAID)
    wire.faults = [Fault(kind="stall", after=3)]
    answer = cast("AsyncGenerator[types.Chunk]", models.stream(asking()))
    assert isinstance(await anext(answer), types.Opened)
    await answer.aclose()
    async with asyncio.timeout(5):
        await wire.left.wait()
