"""What servers say in words of their own is read as it is meant, and what is not known is passed by."""

from typing import Any

import pytest
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseTextDeltaEvent

from providers import compatible_answer, openai_answer, types
from providers.types import Alive, ChatCall, Chunk, Counted, Finish, Text, TextDelta, ToolCall, Turn


def _read(*chunks: dict[str, Any]) -> list[Chunk]:
    """Return what an answer of these chunks says; the SDK makes of them what it makes of any server's."""
    reading = compatible_answer.Reading()
    said = [piece for chunk in chunks for piece in reading.take(ChatCompletionChunk.construct(**chunk))]
    return [*(piece for piece in said if not isinstance(piece, types.Alive)), *reading.end()]


def _choice(finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def _tool(index: int | None, call_id: str | None, name: str | None, arguments: Any) -> dict[str, Any]:
    return {"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}


_STOP = Finish(reason="stop", counted=None)


@pytest.mark.parametrize(
    "chunk",
    [
        {},
        {"choices": None},
        {"choices": [{"index": 0, "delta": None}]},
        {"choices": [{"index": 0}]},
        {"choices": [{"delta": {"reasoning_content": "hm", "content": None}}]},
        {"choices": [{"delta": {"content": 7, "tool_calls": 7}}]},
        {"choices": [], "usage": {}, "something": {"new": True}},
        {"choices": [], "usage": {"prompt_tokens": -1, "completion_tokens": 2**40}},
        {"choices": [], "usage": {"prompt_tokens": "3", "completion_tokens": None}},
    ],
)
def test_what_is_not_known_is_passed_by(chunk: dict[str, Any]) -> None:
    assert _read(_choice(content="a"), chunk, _choice("stop", content="b")) == [TextDelta("a"), TextDelta("b"), _STOP]


def test_text_in_parts_and_a_refusal_are_text() -> None:
    assert _read(_choice(content=[{"type": "text", "text": "a"}, {"type": "new"}]), _choice("stop", refusal="no")) == [
        TextDelta("a"),
        TextDelta("no"),
        _STOP,
    ]


@pytest.mark.parametrize(
    "chunks",
    [
        # in pieces, as OpenAI and vLLM say it
        [
            _choice(tool_calls=[_tool(0, "c1", "look", "")]),
            _choice(tool_calls=[_tool(0, None, None, '{"a"')]),
            _choice(tool_calls=[_tool(1, "c2", "see", '{"b": ')]),
            _choice(tool_calls=[_tool(0, None, None, ": 1}"), _tool(1, None, None, "2}")]),
            _choice("tool_calls"),
        ],
        # whole, all at one place, the end told as any other (Ollama)
        [
            _choice(tool_calls=[_tool(0, "c1", "look", '{"a": 1}')]),
            _choice(tool_calls=[_tool(0, "c2", "see", '{"b": 2}')]),
            _choice("stop"),
        ],
        # without a place, the id and the name with every piece, the arguments as an object
        [
            _choice(tool_calls=[_tool(None, "c1", "look", '{"a"')]),
            _choice(tool_calls=[_tool(None, "c1", "look", ": 1}")]),
            _choice(tool_calls=[_tool(None, "c2", "see", {"b": 2})]),
            _choice("function_call"),
        ],
    ],
)
def test_tools_are_whole_however_they_come(chunks: list[dict[str, Any]]) -> None:
    calls = [ToolCall(id="c1", name="look", arguments='{"a": 1}'), ToolCall(id="c2", name="see", arguments='{"b": 2}')]
    assert _read(*chunks) == [*calls, Finish(reason="tools", counted=None)]


@pytest.mark.parametrize(
    "delta",
    [{"reasoning_content": "hm"}, {"reasoning": "hm"}, {"tool_calls": [_tool(0, "c1", "look", '{"a"')]}],
)
def test_what_comes_whole_later_or_never_is_a_sign_of_life(delta: dict[str, Any]) -> None:
    reading = compatible_answer.Reading()
    assert list(reading.take(ChatCompletionChunk.construct(**_choice(**delta)))) == [types.Alive()]


def test_a_call_without_an_id_or_arguments_gets_them() -> None:
    call, _ = _read(_choice("stop", tool_calls=[_tool(0, None, "look", None)]))
    assert isinstance(call, ToolCall)
    assert call.id.startswith("call_")
    assert call.arguments == "{}"


@pytest.mark.parametrize("arguments", ['{"a": ', "[1]", "nonsense"])
def test_a_broken_call_is_no_answer_unless_a_limit_cut_it_off(arguments: str) -> None:
    broken = _choice(tool_calls=[_tool(0, "c1", "look", "{}"), _tool(1, "c2", "see", arguments)])
    with pytest.raises(types.AnswerTruncated):
        _read(broken, _choice("tool_calls"))
    whole = ToolCall(id="c1", name="look", arguments="{}")
    assert _read(broken, _choice("length")) == [whole, Finish(reason="length", counted=None)]


@pytest.mark.parametrize("end", [None, "error", "abort", "insufficient_system_resource"])
def test_an_end_that_is_none_is_a_fact(end: str | None) -> None:
    with pytest.raises(types.AnswerTruncated):
        _read(_choice(end, content="a"))


def test_what_was_thought_is_a_part_of_the_output_whoever_counted_it() -> None:
    details = {"completion_tokens_details": {"reasoning_tokens": 30}, "prompt_tokens_details": {"cached_tokens": 200}}
    within = {"prompt_tokens": 100, "completion_tokens": 40, "total_tokens": 140, **details}
    beside = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 140, **details}
    counted = Counted(input_tokens=100, cached_tokens=100, output_tokens=40, reasoning_tokens=30)
    for usage in (within, beside):
        assert _read({**_choice("stop"), "usage": usage}) == [Finish(reason="stop", counted=counted)]


def test_usage_on_an_earlier_chunk_is_not_lost_to_an_empty_later_one() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    counted = Counted(input_tokens=3, output_tokens=4)
    assert _read({**_choice("stop"), "usage": usage}, {"choices": [], "usage": None}) == [
        Finish(reason="stop", counted=counted)
    ]


def test_events_without_numbers_and_without_sense_are_read_as_far_as_they_go() -> None:
    call = ChatCall(model="m", turns=[Turn("user", [Text("hi")])], output_tokens=9)
    reading = openai_answer.Reading(call, "k", resumable=True)
    events: list[object] = [
        None,
        7,
        "response.completed",
        ResponseTextDeltaEvent.construct(type="response.created"),
        ResponseTextDeltaEvent.construct(type="response.output_text.delta", delta=None),
        ResponseTextDeltaEvent.construct(type="response.output_text.delta", delta="a"),
        ResponseTextDeltaEvent.construct(type="response.something.new", delta="b"),
        ResponseTextDeltaEvent.construct(type="response.output_item.done", item=None),
    ]
    assert [chunk for event in events for chunk in reading.take(event)] == [TextDelta("a")]
    assert reading.finish is None


def test_messages_of_one_answer_stand_apart_also_where_it_was_broken_between_them() -> None:
    call = ChatCall(model="m", turns=[Turn("user", [Text("hi")])], output_tokens=9)
    message = {"type": "message", "content": [{"type": "output_text", "text": "a"}]}
    events: list[dict[str, Any]] = [
        {"type": "response.output_item.added", "sequence_number": 1, "item": message},
        {"type": "response.output_text.delta", "sequence_number": 2, "delta": "a"},
        {"type": "response.output_item.added", "sequence_number": 3, "item": message},
        {"type": "response.output_text.delta", "sequence_number": 4, "delta": "b"},
    ]
    made = [ResponseTextDeltaEvent.construct(**event) for event in events]
    reading = openai_answer.Reading(call, "k")
    first = [chunk for event in made[:2] for chunk in reading.take(event)]
    assert first == [TextDelta("a", "2:1")]
    again = openai_answer.Reading(call, "k", "2:1")
    assert again.after == 2
    assert [chunk for event in made[2:] for chunk in again.take(event)] == [
        TextDelta("\n\n", "3:3"),
        TextDelta("b", "4:4"),
    ]


def test_a_model_that_thinks_aloud_is_alive() -> None:
    reading = openai_answer.Reading(ChatCall(model="m", turns=[], output_tokens=9), "k")
    for kind in ("reasoning_summary_part.added", "reasoning_summary_text.delta", "reasoning_text.delta"):
        assert list(reading.take({"type": f"response.{kind}", "delta": "Hm"})) == [Alive()], kind
    thinking = {"type": "response.output_item.added", "item": {"type": "reasoning"}}
    assert list(reading.take(thinking)) == [Alive()]
    assert list(reading.take({"type": "response.something_new"})) == []
