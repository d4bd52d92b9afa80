"""OpenAI's Responses API: what is asked, what is an end, and answers that are found again."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest

from providers import types
from providers.openai import OpenAIChat, connect, moderate
from providers.types import ChatCall, Chunk, Finish, Opened, Resumable, Text, TextDelta, Thought, ToolCall, ToolResult
from tests.support.openai_wire import OpenAIWire, Script

#: A surrogate pair cut in two, as models cut them, and Arabic.
_DELTAS = ["مرحبًا", " ", "👩🏽\u200d💻", "\ud83d", "\ude00", "\n\n", "end", "\u0000", "!"]
_TEXT = "مرحبًا 👩🏽\u200d💻😀\n\nend\ufffd!"
_COUNTED = types.Counted(
    input_tokens=11, cached_tokens=3, written_tokens=2, output_tokens=7, reasoning_tokens=4, written_long_tokens=0
)
_TOOL = types.Tool(name="look", description="Looks.", schema={"type": "object", "properties": {}})


def _call(*turns: types.Turn, **options: Any) -> ChatCall:
    asked: dict[str, Any] = {"output_tokens": 100, **options}
    return ChatCall(model="gpt-6-luna", turns=turns or [types.Turn("user", [Text("hi")])], **asked)


@pytest.fixture
async def wire() -> AsyncGenerator[OpenAIWire]:
    """A small OpenAI."""
    async with OpenAIWire.serving() as served:
        yield served


@pytest.fixture
async def models(wire: OpenAIWire) -> AsyncGenerator[OpenAIChat]:
    """The adapter, talking to `wire`."""
    connected = OpenAIChat(wire.deployment(), timeout=httpx2.Timeout(20.0), poll_s=0.01)
    yield connected
    await connected.close()


def _said(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, TextDelta))


async def _broken(models: OpenAIChat, call: ChatCall) -> list[Chunk]:
    """Return what was said until the stream broke."""
    chunks: list[Chunk] = []
    try:
        async for chunk in models.stream(call):
            chunks.append(chunk)  # noqa: PERF401  what came before the break is what is asked for
    except types.AnswerTruncated:
        return chunks
    pytest.fail("it did not break")


async def test_an_answer_is_opened_said_and_counted(models: OpenAIChat, wire: OpenAIWire) -> None:
    wire.scripts = [Script(deltas=_DELTAS)]
    opened, *deltas, finish = [chunk async for chunk in models.stream(_call())]
    limits = types.Limits(requests_left=59, requests_reset_s=1.0)
    assert opened == Opened(limits=limits, request_id="req_1")
    assert _said(deltas) == _TEXT
    assert finish == Finish(reason="stop", counted=_COUNTED)
    (asked,) = wire.journal
    assert (asked.body["store"], asked.body.get("background"), asked.body["stream"]) == (False, None, True)
    assert asked.headers["authorization"] == "Bearer k"


async def test_every_word_of_ours_has_its_own_in_the_request(models: OpenAIChat, wire: OpenAIWire) -> None:
    thought = Thought(
        vendor="openai", data='{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "z"}'
    )
    pdf = types.Paper(name="a.pdf", media_type="application/pdf", data=b"%PDF")
    notes = types.Paper(name='my "notes".txt', media_type="text/plain", data="سطر".encode())
    turns = [
        types.Turn("system", [Text("Be short.")]),
        types.Turn("user", [Text("see"), types.Picture(media_type="image/png", data=b"p"), pdf, notes]),
        types.Turn(
            "assistant",
            [
                Text("Hm."),
                thought,
                Thought(vendor="anthropic", data="{}"),
                ToolCall(id="c", name="look", arguments="{}"),
            ],
        ),
        types.Turn("user", [ToolResult(id="c", content="lost", is_error=True), Text("And?")]),
    ]
    form = types.Form(name="shape", schema={"type": "object"})
    options = {"temperature": 0.5, "effort": "low", "tools": [_TOOL], "tool_choice": "look", "form": form}
    _ = [chunk async for chunk in models.stream(_call(*turns, **options))]
    body = wire.journal[0].body
    assert body["input"] == [
        {"role": "system", "content": [{"type": "input_text", "text": "Be short."}]},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "see"},
                {"type": "input_image", "image_url": "data:image/png;base64,cA==", "detail": "auto"},
                {
                    "type": "input_file",
                    "filename": "a.pdf",
                    "file_data": f"data:application/pdf;base64,{b64encode(b'%PDF').decode()}",
                },
                {"type": "input_text", "text": "<file name=\"my 'notes'.txt\">\nسطر\n</file>"},
            ],
        },
        {"role": "assistant", "content": "Hm."},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "z"},
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "Error: lost"},
        {"role": "user", "content": [{"type": "input_text", "text": "And?"}]},
    ]
    named = {"type": "function", "name": "look", "description": "Looks."}
    assert body["tools"] == [{**named, "parameters": _TOOL.schema, "strict": False}]
    assert body["tool_choice"] == {"type": "function", "name": "look"}
    assert body["reasoning"] == {"effort": "low"}
    assert body["text"]["format"] == {
        "type": "json_schema",
        "name": "shape",
        "schema": {"type": "object"},
        "strict": True,
    }
    assert body["include"] == ["reasoning.encrypted_content"]
    assert (body["temperature"], body["max_output_tokens"]) == (0.5, 100)


async def test_what_was_not_asked_for_is_not_in_the_request_and_the_least_cap_is_the_apis(
    models: OpenAIChat, wire: OpenAIWire
) -> None:
    _ = [chunk async for chunk in models.stream(_call(output_tokens=1))]
    assert wire.journal[0].body == {
        "model": "gpt-6-luna",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
        "max_output_tokens": 16,
        "store": False,
        "stream": True,
    }


async def test_tools_come_whole_after_what_was_thought(models: OpenAIChat, wire: OpenAIWire) -> None:
    wire.scripts = [Script(deltas=[], sealed="zzz", calls=[("look", '{"a": 1}'), ("look", "")])]
    chunks = [chunk async for chunk in models.stream(_call(tools=[_TOOL]))]
    assert chunks.count(types.Alive()) == 5, "as it begins to think and to call, and as each call's arguments come"
    _, thought, *calls, finish = [chunk for chunk in chunks if chunk != types.Alive()]
    assert isinstance(thought, Thought)
    assert json.loads(thought.data) == {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "zzz"}
    assert calls == [
        ToolCall(id="call_0", name="look", arguments='{"a": 1}'),
        ToolCall(id="call_1", name="look", arguments="{}"),
    ]
    assert finish == Finish(reason="tools", counted=_COUNTED)


@pytest.mark.parametrize(
    "data",
    [
        "",
        "nonsense",
        "[]",
        '{"type": "item_reference", "id": "msg_of_somebody_else"}',
        '{"type": "reasoning", "id": "rs_1", "summary": []}',
        '{"type": "reasoning", "id": "rs_of_somebody_else", "summary": [], "encrypted_content": ""}',
        '{"type": "message", "role": "user", "content": [{"type": "input_file", "file_id": "file_of_the_operator"}]}',
    ],
)
async def test_a_thought_that_a_client_made_up_is_not_put_into_the_request(
    models: OpenAIChat, wire: OpenAIWire, data: str
) -> None:
    turns = [
        types.Turn("assistant", [Thought(vendor="openai", data=data), Text("Hm.")]),
        types.Turn("user", [Text("?")]),
    ]
    _ = [chunk async for chunk in models.stream(_call(*turns))]
    assert wire.journal[0].body["input"] == [
        {"role": "assistant", "content": "Hm."},
        {"role": "user", "content": [{"type": "input_text", "text": "?"}]},
    ]


@pytest.mark.parametrize(
    ("end", "reason"), [("max_output_tokens", "length"), ("content_filter", "filtered"), ("completed", "stop")]
)
async def test_every_end_has_its_reason_and_its_count(
    models: OpenAIChat, wire: OpenAIWire, end: Any, reason: Any
) -> None:
    wire.scripts = [Script(end=end)]
    *_, finish = [chunk async for chunk in models.stream(_call())]
    assert finish == Finish(reason=reason, counted=_COUNTED)


@pytest.mark.parametrize(
    ("error", "fact"),
    [
        ("server_error", types.ProviderUnavailable),
        ("rate_limit_exceeded", types.ProviderRateLimited),
        ("vector_store_timeout", types.ProviderUnavailable),
        ("invalid_prompt", types.ProviderRefused),
        ("image_too_large", types.ProviderRefused),
        ("bio_policy", types.ProviderRefused),
        ("insufficient_quota", types.ProviderMisconfigured),
        ("something_new", types.ProviderUnavailable),
    ],
)
async def test_an_answer_that_failed_is_a_fact(
    models: OpenAIChat, wire: OpenAIWire, error: str, fact: type[types.ProviderError]
) -> None:
    wire.scripts = [Script(end="failed", error=error)]
    with pytest.raises(fact) as told:
        _ = [chunk async for chunk in models.stream(_call())]
    assert type(told.value) is fact


async def test_an_answer_that_breaks_at_any_event_is_found_again_to_the_byte_and_made_once(
    models: OpenAIChat, wire: OpenAIWire
) -> None:
    script = Script(deltas=_DELTAS, sealed="zzz", calls=[("look", '{"a": 1}')])
    call = _call(resumable=True, tools=[_TOOL])
    wire.scripts = [script]
    whole = [chunk async for chunk in models.stream(call)]
    events = len(wire.made["resp_0"].events)
    assert whole[1] == Resumable(token={"response_id": "resp_0"})
    for cut in range(1, events):
        wire.scripts, wire.cuts = [script], [cut]
        before = await _broken(models, call)
        assert isinstance(before[1], Resumable)
        after = next((chunk.at for chunk in reversed(before) if isinstance(chunk, TextDelta)), None)
        opened, *rest = [chunk async for chunk in models.resume(call, before[1].token, after)]
        assert isinstance(opened, Opened)
        assert _said(before) + _said(rest) == _TEXT, f"cut after {cut} of {events} events"
        assert rest[-1] == whole[-1]
        calls = {chunk.id for chunk in [*before, *rest] if isinstance(chunk, ToolCall)}
        assert calls == {"call_0"}
    assert wire.generations == events, "every answer was begun once"
    assert all(asked.body["background"] and asked.body["store"] for asked in wire.journal if asked.method == "POST")


async def test_an_answer_that_breaks_again_and_again_is_found_again_from_where_it_was(
    models: OpenAIChat, wire: OpenAIWire
) -> None:
    wire.scripts, wire.cuts = [Script(deltas=_DELTAS)], [5, 1, 0, 2, 1, 1, 3]
    call = _call(resumable=True)
    chunks = await _broken(models, call)
    for _ in range(20):
        after = next((chunk.at for chunk in reversed(chunks) if isinstance(chunk, TextDelta)), None)
        try:
            async for chunk in models.resume(call, {"response_id": "resp_0"}, after):
                chunks.append(chunk)
            break
        except types.AnswerTruncated:
            continue
    assert (_said(chunks), wire.generations, wire.cuts) == (_TEXT, 1, [])


async def test_an_answer_too_old_to_be_streamed_is_waited_for_and_said_from_where_it_was(
    models: OpenAIChat, wire: OpenAIWire
) -> None:
    call = _call(resumable=True, tools=[_TOOL])
    for cut in (1, 8, 9):
        hold = asyncio.Event()
        wire.is_old, wire.scripts = False, [Script(deltas=_DELTAS, calls=[("look", "{}")], hold=hold)]
        wire.cuts = [cut]
        before = await _broken(models, call)
        assert isinstance(before[1], Resumable)
        after = next((chunk.at for chunk in reversed(before) if isinstance(chunk, TextDelta)), None)
        wire.is_old = True
        rest: list[Chunk] = []
        async for chunk in models.resume(call, before[1].token, after):
            rest.append(chunk)
            if chunk == types.Alive():
                hold.set()
        assert hold.is_set(), "as long as it is waited for, it is told to be made"
        assert _said(before) + _said(rest) == _TEXT
        assert rest[-2:] == [
            ToolCall(id="call_0", name="look", arguments="{}"),
            Finish(reason="tools", counted=_COUNTED),
        ]


async def test_a_worker_that_knows_the_token_alone_has_the_answer_from_its_beginning(
    models: OpenAIChat, wire: OpenAIWire
) -> None:
    wire.scripts, wire.cuts = [Script(deltas=_DELTAS)], [7]
    call = _call(resumable=True)
    await _broken(models, call)
    other = connect(wire.deployment())
    again = [chunk async for chunk in other.resume(call, {"response_id": "resp_0"}, None)]
    await other.close()
    assert (_said(again), again[-1], wire.generations) == (_TEXT, Finish(reason="stop", counted=_COUNTED), 1)


async def test_an_answer_that_is_gone_or_was_cancelled_is_lost(models: OpenAIChat, wire: OpenAIWire) -> None:
    call = _call(resumable=True)
    with pytest.raises(types.AnswerLost):
        _ = [chunk async for chunk in models.resume(call, {"response_id": "resp_9"}, None)]
    wire.scripts, wire.cuts = [Script(pause_s=30)], [1]
    await _broken(models, call)
    await models.abandon({"response_id": "resp_0"})
    assert wire.made["resp_0"].status == "cancelled"
    with pytest.raises(types.AnswerLost):
        _ = [chunk async for chunk in models.resume(call, {"response_id": "resp_0"}, None)]
    wire.is_old = True
    with pytest.raises(types.AnswerLost):
        _ = [chunk async for chunk in models.resume(call, {"response_id": "resp_0"}, "3:4")]


async def test_abandoning_what_is_done_or_gone_is_no_error_and_a_server_that_is_away_is_one(
    models: OpenAIChat, wire: OpenAIWire
) -> None:
    _ = [chunk async for chunk in models.stream(_call(resumable=True))]
    await models.abandon({"response_id": "resp_0"})
    await models.abandon({"response_id": "resp_9"})
    wire.refusals = [(503, {})]
    with pytest.raises(types.ProviderUnavailable):
        await models.abandon({"response_id": "resp_0"})


async def test_whoever_leaves_an_answer_of_the_background_does_not_end_it(models: OpenAIChat, wire: OpenAIWire) -> None:
    wire.scripts = [Script(deltas=_DELTAS, pause_s=0.01)]
    stream = models.stream(_call(resumable=True))
    async for chunk in stream:
        if isinstance(chunk, TextDelta):
            break
    await stream.aclose()  # type: ignore[attr-defined]
    async with asyncio.timeout(5):
        await wire.made["resp_0"].over()
    assert wire.made["resp_0"].status == "completed"


async def test_moderation_tells_what_it_found_anywhere_in_a_long_text(wire: OpenAIWire) -> None:
    wire.violent = {"knife"}
    assert await moderate(wire.deployment(), "hello") == types.Verdict(flagged=False)
    assert await moderate(wire.deployment(), "") == types.Verdict(flagged=False)
    long = "word " * 5000 + "knife"
    assert await moderate(wire.deployment(), long) == types.Verdict(flagged=True, categories=("violence",))
    wire.refusals = [(500, {})]
    with pytest.raises(types.ProviderUnavailable):
        await moderate(wire.deployment(), "hello")
