"""Anthropic's shape: what means the same here is taken, what we cannot do is refused by its name."""

import base64
import json
from typing import Any
from uuid import UUID

import msgspec
import pytest

from infra.errors import PulseError
from infra.settings import Settings
from workers.chat import anthropic
from workers.chat.spec import Chat, Message

SAID = {"role": "user", "content": "ما عاصمة الأردن؟"}


def asked(**members: Any) -> Chat:
    """Read a body with these members."""
    return anthropic.request(json.dumps({"model": "auto", "max_tokens": 16, "messages": [SAID]} | members).encode())


def refusal(**members: Any) -> tuple[str, object]:
    """Return the code and the field for which a body is refused."""
    with pytest.raises(PulseError) as refused:
        asked(**members)
    return refused.value.code, refused.value.facts.get("field")


@pytest.mark.parametrize("system", ["أجب بإيجاز.", [{"type": "text", "text": "أجب بإيجاز.", "cache_control": {}}]])
def test_what_means_the_same_is_asked_of_the_chat_room(system: Any) -> None:
    messages = [SAID, {"role": "assistant", "content": [{"type": "text", "text": "عمّان"}]}, SAID]
    found = asked(system=system, messages=messages, temperature=1).input
    assert found.messages == [
        Message(role="system", content="أجب بإيجاز."),
        Message(role="user", content="ما عاصمة الأردن؟"),
        Message(role="assistant", content="عمّان"),
        Message(role="user", content="ما عاصمة الأردن؟"),
    ]
    assert (found.model, found.max_output_tokens, found.temperature) == ("auto", 16, 1)


@pytest.mark.parametrize(
    "member",
    [
        {"stream": False},
        {"metadata": {"user_id": "u"}},
        {"tools": []},
        {"thinking": {"type": "adaptive"}},
        {"output_config": {}},
        {"system": ""},
    ],
    ids=str,
)
def test_what_changes_nothing_is_taken(member: dict[str, Any]) -> None:
    assert asked(**member) == asked()


@pytest.mark.parametrize(
    "member",
    [
        {"stream": True},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"output_format": {"type": "regex"}},
        {"top_k": 5},
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_by_its_name(member: dict[str, Any]) -> None:
    assert refusal(**member) == ("field_not_supported", next(iter(member)))


@pytest.mark.parametrize(
    ("member", "code", "field"),
    [
        ({"max_tokens": None}, "wrong_type", "max_tokens"),
        ({"temperature": 1.5}, "out_of_range", "temperature"),
        ({"messages": [{"role": "system", "content": "a"}]}, "invalid_value", "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            "field_not_supported",
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "x"}}]}]},
            "field_not_supported",
            "messages[0].content[0].source.type",
        ),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "field_not_supported", "tools[0].type"),
        (
            {"tools": [{"name": "a"}], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
            "field_not_supported",
            "tool_choice.disable_parallel_tool_use",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t" * 257}]}]},
            "too_long",
            "messages[0].content[0].id",
        ),
        ({"prompt": "a"}, "unknown_field", "prompt"),
    ],
    ids=range(9),
)
def test_what_is_wrong_is_named(member: dict[str, Any], code: str, field: str) -> None:
    assert refusal(**member) == (code, field)


def test_a_cap_has_to_be_given() -> None:
    with pytest.raises(PulseError) as refused:
        anthropic.request(json.dumps({"model": "auto", "messages": [SAID]}).encode())
    assert (refused.value.code, refused.value.facts) == ("missing_field", {"field": "max_tokens"})


@pytest.mark.parametrize(("reason", "told"), [("stop", "end_turn"), ("length", "max_tokens"), ("filtered", "refusal")])
def test_a_result_is_a_message(reason: str, told: str) -> None:
    usage = {"input_tokens": 11, "output_tokens": 7, "estimated": False}
    result = {"text": "عمّان", "model": "wire-1", "finish_reason": reason, "usage": usage}
    assert anthropic.message(UUID(int=5), result) == {
        "id": "msg_00000000000000000000000000000005",
        "type": "message",
        "role": "assistant",
        "model": "wire-1",
        "content": [{"type": "text", "text": "عمّان"}],
        "stop_reason": told,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 11,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 7,
        },
    }


PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(8)).decode()
THINKING = {"type": "thinking", "thinking": "أفكر", "signature": "c2ln"}
FILE = "01a2075b-24bc-7086-a60a-fa7cb0b60f29"


def test_pictures_files_tools_and_what_it_thought_are_asked_of_the_chat_room() -> None:
    use = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "عمّان"}}
    messages = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "ما هذه؟"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
                {"type": "image", "source": {"type": "file", "file_id": FILE}},
                {"type": "document", "source": {"type": "file", "file_id": FILE}},
            ],
        },
        {"role": "assistant", "content": [THINKING, use]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "31", "is_error": True}]},
    ]
    tools = [{"name": "weather", "description": "الطقس", "input_schema": {"type": "object"}}]
    form = {"type": "json_schema", "schema": {"type": "object"}}
    chat = asked(
        messages=messages,
        tools=tools,
        tool_choice={"type": "any"},
        output_config={"effort": "xhigh", "format": form},
    )
    chat.check(Settings())
    found = msgspec.to_builtins(chat.input)
    first, said, result = (message["content"] for message in found["messages"])
    assert first[1] == {"type": "image", "media_type": "image/png", "data": PIXEL}
    assert first[2:] == [{"type": "image", "file_id": FILE}, {"type": "file", "file_id": FILE}]
    assert said[0]["vendor"] == "anthropic"
    assert json.loads(said[0]["data"]) == THINKING
    assert said[1] == {"type": "tool_call", "id": "t1", "name": "weather", "arguments": '{"city":"عمّان"}'}
    assert result == [{"type": "tool_result", "id": "t1", "content": "31", "is_error": True}]
    assert found["tools"] == [{"name": "weather", "description": "الطقس", "parameters": {"type": "object"}}]
    assert (found["tool_choice"], found["effort"]) == ("required", "high")
    assert found["format"]["schema"] == {"type": "object"}


@pytest.mark.parametrize(
    ("thinking", "effort", "told"),
    [({"type": "disabled"}, None, "none"), ({"type": "adaptive"}, "low", "low"), ({"type": "disabled"}, "max", "high")],
    ids=range(3),
)
def test_one_that_is_not_to_think_does_not(thinking: dict[str, Any], effort: str | None, told: str) -> None:
    assert asked(thinking=thinking, output_config={"effort": effort}).input.effort == told


def test_an_answer_with_tool_calls_is_a_message_of_blocks() -> None:
    result = {
        "text": "سأنظر.",
        "model": "wire-1",
        "finish_reason": "tools",
        "content": [
            {"type": "thought", "vendor": "anthropic", "data": json.dumps(THINKING)},
            {"type": "thought", "vendor": "google", "data": "x"},
            {"type": "text", "text": "سأنظر."},
            {"type": "tool_call", "id": "t1", "name": "weather", "arguments": '{"city":"عمّان"}'},
        ],
        "usage": {"input_tokens": 11, "cached_tokens": 4, "output_tokens": 7, "reasoning_tokens": 2},
    }
    told = anthropic.message(UUID(int=5), result)
    assert told["stop_reason"] == "tool_use"
    assert told["content"] == [
        THINKING,
        {"type": "text", "text": "سأنظر."},
        {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "عمّان"}},
    ]
    assert (told["usage"]["input_tokens"], told["usage"]["cache_read_input_tokens"]) == (7, 4)


def test_the_vendor_s_own_library_reads_a_message_with_tool_calls() -> None:
    from anthropic.types import Message as Theirs  # noqa: PLC0415 (heavy, and only here)

    call = {"type": "tool_call", "id": "t1", "name": "weather", "arguments": "{}"}
    usage = {"input_tokens": 1, "output_tokens": 2}
    result = {"text": "", "model": "m", "finish_reason": "tools", "content": [call], "usage": usage}
    told = anthropic.message(UUID(int=5), result)
    assert Theirs.model_validate(told).content[0].type == "tool_use"
