"""Gemini's generateContent: what is asked, what is an end, what is a failure, and what was counted."""

import asyncio
import json
from collections.abc import AsyncGenerator, Generator
from typing import Any, cast

import pytest

from providers import google, types
from tests.support.aimock import AIMock
from tests.support.llmock import LLMock
from tests.support.serving import free_port
from tests.support.sse_wire import Fault, Reciter, deployment, frame

TOOL = types.Tool(
    name="weather",
    description="The weather of a city.",
    schema={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
USAGE = {"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13}
COUNTED = types.Counted(input_tokens=9, output_tokens=4)


def asking(*parts: types.Part, **options: Any) -> types.ChatCall:
    """Return a call with one turn of these parts."""
    turns = options.pop("turns", None) or [types.Turn("user", parts or [types.Text("hi")])]
    return types.ChatCall(model=options.pop("model", "gemini-3.8-flash"), turns=turns, output_tokens=50, **options)


async def told(models: types.ChatModels, call: types.ChatCall) -> list[types.Chunk]:
    """Return the whole answer, but for the signs of life."""
    return [chunk async for chunk in models.stream(call) if chunk != types.Alive()]


def said(*parts: dict[str, Any], reason: str | None = None, usage: dict[str, Any] | None = None) -> str:
    """Return an event with these parts."""
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    candidate |= {"finishReason": reason} if reason else {}
    return frame({"candidates": [candidate], "responseId": "r1"} | ({"usageMetadata": usage} if usage else {}))


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
def models(port: int) -> Generator[google.Gemini]:
    """The adapter, talking to `wire`."""
    connected = google.connect(deployment("google", port))
    yield connected
    asyncio.run(connected.close())


async def test_pieces_come_in_order_and_the_finish_last(aimock: AIMock) -> None:
    usage = {"promptTokenCount": 21, "candidatesTokenCount": 9}
    response = {"content": "أهلًا 🌙 from the wire, word by word.", "usage": usage}
    await aimock.add({"match": {"userMessage": "gemini greets"}, "response": response})
    models = google.connect(aimock.deployment("google"))
    opened, *pieces, finish = await told(models, asking(types.Text("gemini greets")))
    assert isinstance(opened, types.Opened)
    assert "".join(piece.text for piece in pieces if isinstance(piece, types.TextDelta)) == response["content"]
    assert finish == types.Finish(reason="stop", counted=types.Counted(input_tokens=21, output_tokens=9))
    await models.close()


async def test_a_call_of_a_tool_comes_whole_under_an_id_of_its_own(llmock: LLMock) -> None:
    calls = [{"name": "weather", "arguments": {"city": city}} for city in ("Amman", "Irbid")]
    await llmock.reply(text="Looking.", tool_calls=calls)
    models = google.connect(llmock.deployment("google"))
    _, piece, first, second, finish = await told(models, asking(tools=[TOOL]))
    assert piece == types.TextDelta("Looking.")
    assert isinstance(first, types.ToolCall)
    assert isinstance(second, types.ToolCall)
    assert [json.loads(call.arguments)["city"] for call in (first, second)] == ["Amman", "Irbid"]
    assert first.id != second.id
    assert isinstance(finish, types.Finish)
    assert finish.reason == "tools"
    await models.close()


async def test_a_signature_goes_back_with_the_call_that_it_signs(models: google.Gemini, wire: Reciter) -> None:
    call: dict[str, Any] = {
        "functionCall": {"id": "c1", "name": "weather", "args": {"city": "عمّان"}},
        "thoughtSignature": "c2ln",
    }
    other: dict[str, Any] = {"functionCall": {"id": "c2", "name": "weather", "args": {}}}
    hidden = {"text": "Hm.", "thought": True}
    wire.frames = [said(hidden, {"text": "So."}), said(call, other, reason="STOP", usage=USAGE)]
    _, piece, *parts, finish = await told(models, asking(tools=[TOOL]))
    assert piece == types.TextDelta("So.")
    assert finish == types.Finish(reason="tools", counted=COUNTED)
    assert [type(part) for part in parts] == [types.Thought, types.ToolCall, types.ToolCall]
    turns = [
        types.Turn("assistant", [part for part in parts if isinstance(part, types.Thought | types.ToolCall)]),
        types.Turn("user", [types.ToolResult(id="c1", content="Sunny"), types.ToolResult(id="c2", content="no")]),
    ]
    await told(models, asking(turns=turns, tools=[TOOL]))
    answered, asked = wire.requests[-1].body["contents"]
    assert answered["parts"] == [call, other], "of calls made at once the first is signed"
    assert [part["functionResponse"] for part in asked["parts"]] == [
        {"id": "c1", "name": "weather", "response": {"result": "Sunny"}},
        {"id": "c2", "name": "weather", "response": {"result": "no"}},
    ]


async def test_whoever_thinks_is_alive(models: google.Gemini, wire: Reciter) -> None:
    wire.frames = [said({"text": "Hm.", "thought": True}), said({"text": "a"}, reason="STOP")]
    chunks = [chunk async for chunk in models.stream(asking())]
    assert chunks[1:3] == [types.Alive(), types.TextDelta("a")]


@pytest.mark.parametrize(("model", "signed"), [("gemini-3.8-flash", True), ("gemini-2.5-flash", False)])
async def test_calls_of_other_vendors_are_told_to_be_unsigned(
    models: google.Gemini, wire: Reciter, model: str, signed: bool
) -> None:
    wire.frames = [said({"text": "ok"}, reason="STOP")]
    parts = [
        types.Thought(vendor="anthropic", data='{"type": "thinking"}'),
        types.Thought(vendor="google", data='{"type": "thought", "signature": "c2ln"}'),
        types.Thought(vendor="google", data='{"thoughtSignature": "not base64"}'),
        types.ToolCall(id="toolu_1", name="weather", arguments="{}"),
    ]
    turns = [types.Turn("assistant", parts), types.Turn("user", [types.ToolResult(id="x", content="", is_error=True)])]
    await told(models, asking(turns=turns, model=model))
    (call,), (result,) = (content["parts"] for content in wire.requests[-1].body["contents"])
    assert ("thoughtSignature" in call) is signed
    assert result["functionResponse"] == {"id": "x", "name": "x", "response": {"error": ""}}


async def test_what_was_thought_is_output_and_what_was_cached_input(models: google.Gemini, wire: Reciter) -> None:
    """Others charged what Gemini had cached in full: BerriAI/litellm #16341."""
    usage = {
        "promptTokenCount": 1000,
        "cachedContentTokenCount": 800,
        "toolUsePromptTokenCount": 20,
        "thoughtsTokenCount": 60,
        "candidatesTokenCount": 7,
        "totalTokenCount": 1087,
    }
    wire.frames = [said({"text": "a"}, usage={"promptTokenCount": 1}), said({"text": "b"}, reason="STOP", usage=usage)]
    *_, finish = await told(models, asking())
    counted = types.Counted(input_tokens=1020, output_tokens=67, cached_tokens=800, reasoning_tokens=60)
    assert finish == types.Finish(reason="stop", counted=counted)


@pytest.mark.parametrize("usage", [None, {}, {"promptTokenCount": 0}, {"promptTokenCount": 2**40}])
async def test_what_was_not_counted_is_unknown_not_zero(
    models: google.Gemini, wire: Reciter, usage: dict[str, int] | None
) -> None:
    wire.frames = [said({"text": "a"}, reason="STOP", usage=usage)]
    *_, finish = await told(models, asking())
    assert finish == types.Finish(reason="stop", counted=None)


@pytest.mark.parametrize(
    ("reason", "ours"),
    [("STOP", "stop"), ("MAX_TOKENS", "length"), ("CONTINUATION", "length")]
    + [(reason, "filtered") for reason in ("SAFETY", "RECITATION", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII")],
)
async def test_every_reason_to_stop_is_one_of_ours(
    models: google.Gemini, wire: Reciter, reason: str, ours: str
) -> None:
    wire.frames = [said({"text": "a"}), said(reason=reason, usage=USAGE)]
    *_, finish = await told(models, asking())
    assert finish == types.Finish(reason=ours, counted=COUNTED)  # type: ignore[arg-type]
    assert len(wire.requests) == 1, "nothing goes on by itself"


async def test_an_answer_that_could_be_continued_is_not_by_itself(models: google.Gemini, wire: Reciter) -> None:
    content = {"parts": [{"text": "a"}]}
    wire.frames = [
        frame({"candidates": [{"content": content, "finishReason": "CONTINUATION", "continuationToken": "dG9r"}]})
    ]
    *_, finish = await told(models, asking())
    assert finish == types.Finish(reason="length", counted=None)
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    ("reason", "fact"),
    [
        ("MALFORMED_FUNCTION_CALL", types.AnswerTruncated),
        ("UNEXPECTED_TOOL_CALL", types.AnswerTruncated),
        ("OTHER", types.AnswerTruncated),
        ("MISSING_THOUGHT_SIGNATURE", types.ProviderRefused),
        ("PUP_LIMITED_DISABLED", types.ProviderMisconfigured),
        (None, types.AnswerTruncated),
    ],
)
async def test_an_end_that_is_none_is_a_fact(
    models: google.Gemini, wire: Reciter, reason: str | None, fact: type[types.ProviderError]
) -> None:
    wire.frames = [said({"text": "a"}), said(reason=reason, usage=USAGE)]
    with pytest.raises(fact):
        await told(models, asking())


@pytest.mark.filterwarnings("ignore:.* is not a valid FinishReason")
async def test_an_end_for_a_new_reason_is_no_end(models: google.Gemini, wire: Reciter) -> None:
    wire.frames = [said({"text": "a"}, reason="SOMETHING_NEW")]
    with pytest.raises(types.AnswerTruncated):
        await told(models, asking())


async def test_a_question_that_is_blocked_has_an_answer_that_is_filtered(models: google.Gemini, wire: Reciter) -> None:
    blocked = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 9}}
    wire.frames = [frame(blocked)]
    opened, finish = await told(models, asking())
    assert isinstance(opened, types.Opened)
    assert finish == types.Finish(reason="filtered", counted=types.Counted(input_tokens=9, output_tokens=0))


async def test_what_is_new_is_passed_by(models: google.Gemini, wire: Reciter) -> None:
    new: dict[str, Any] = {
        "candidates": [{"content": {"parts": [{"hologram": {"depth": 3}}, {"text": "a"}]}, "aura": 1}],
        "moon": {},
    }
    wire.frames = [frame(new), frame({}), frame({"candidates": []}), said(reason="STOP", usage={**USAGE, "x": 1})]
    assert await told(models, asking()) == [
        types.Opened(),
        types.TextDelta("a"),
        types.Finish(reason="stop", counted=COUNTED),
    ]


@pytest.mark.parametrize(
    ("error", "fact"),
    [
        ({"code": 503, "status": "UNAVAILABLE"}, types.ProviderUnavailable),
        ({"code": 429, "status": "RESOURCE_EXHAUSTED"}, types.ProviderRateLimited),
        ({"code": 504, "status": "DEADLINE_EXCEEDED"}, types.ProviderTimedOut),
        ({"code": 400, "message": "no"}, types.ProviderRefused),
        ({"code": "x"}, types.AnswerTruncated),
        ({}, types.AnswerTruncated),
        ("no", types.AnswerTruncated),
    ],
)
async def test_an_error_in_the_middle_is_the_fact_that_it_names(
    models: google.Gemini, wire: Reciter, error: object, fact: type[types.ProviderError]
) -> None:
    wire.frames = [said({"text": "a"}), frame({"error": error})]
    with pytest.raises(fact):
        await told(models, asking())


@pytest.mark.parametrize("broken", ['{"candidates": 5}', '{"candidates": [{"content": 5}]}', "5"])
async def test_what_is_of_another_type_is_broken(models: google.Gemini, wire: Reciter, broken: str) -> None:
    wire.frames = [said({"text": "a"}), frame(broken), said(reason="STOP")]
    with pytest.raises(types.AnswerTruncated):
        await told(models, asking())


async def test_the_wait_that_an_error_names_is_kept(models: google.Gemini, wire: Reciter) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}]
    wire.faults = [Fault(status=429, headers={"retry-after": "1"}, body={"error": {"code": 429, "details": details}})]
    with pytest.raises(types.ProviderRateLimited) as fact:
        await told(models, asking())
    assert fact.value.retry_after_s == 34.5


async def test_a_wrong_key_is_told_as_a_wrong_request(models: google.Gemini, wire: Reciter) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
    wire.faults = [Fault(status=400, body={"error": {"code": 400, "message": "no", "details": details}})]
    with pytest.raises(types.ProviderMisconfigured):
        await told(models, asking())


async def test_what_is_asked_reaches_the_vendor(models: google.Gemini, wire: Reciter) -> None:
    wire.frames = [said({"text": "ok"}, reason="STOP")]
    parts = [
        types.Text("look"),
        types.Picture(media_type="image/png", data=b"png"),
        types.Paper(name="a.pdf", media_type="application/pdf", data=b"%PDF"),
        types.Paper(name="b.csv", media_type="text/csv", data="مدينة".encode()),
    ]
    turns = [types.Turn("system", [types.Text("Be brief.")]), types.Turn("user", parts)]
    form = types.Form(name="city", schema={"type": "object"})
    await told(models, asking(turns=turns, temperature=0.5, effort="none", tools=[TOOL], tool_choice="x", form=form))
    request = wire.requests[-1]
    assert request.target == "/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse"
    assert request.headers["x-goog-api-key"] == "a-secret-key"
    assert "x-server-timeout" not in request.headers, "it would be the time for the whole answer"
    body = request.body
    assert [content["parts"] for content in body["contents"]] == [
        [
            {"text": "look"},
            {"inlineData": {"mime_type": "image/png", "data": "cG5n"}},
            {"inlineData": {"mime_type": "application/pdf", "data": "JVBERg=="}},
            {"text": "b.csv\n\nمدينة"},
        ]
    ]
    assert body["systemInstruction"]["parts"] == [{"text": "Be brief."}]
    assert body["toolConfig"]["functionCallingConfig"] == {"mode": "ANY", "allowedFunctionNames": ["x"]}
    config = body["generationConfig"]
    assert (config["maxOutputTokens"], config["temperature"]) == (50, 0.5)
    assert config["thinkingConfig"] == {"thinking_level": "MINIMAL"}
    assert (config["responseMimeType"], config["responseJsonSchema"]) == ("application/json", {"type": "object"})


async def test_arguments_that_are_no_object_are_refused_before_they_are_sent(
    models: google.Gemini, wire: Reciter
) -> None:
    turn = types.Turn("assistant", [types.ToolCall(id="a", name="t", arguments="{")])
    with pytest.raises(types.ProviderRefused):
        await told(models, asking(turns=[turn]))
    assert wire.requests == []


async def test_whoever_stops_listening_closes_the_connection(models: google.Gemini, wire: Reciter) -> None:
    wire.frames = [said({"text": "a"}), said({"text": "b"})]
    wire.faults = [Fault(kind="stall", after=2)]
    answer = cast("AsyncGenerator[types.Chunk]", models.stream(asking()))
    assert isinstance(await anext(answer), types.Opened)
    await answer.aclose()
    async with asyncio.timeout(5):
        await wire.left.wait()
