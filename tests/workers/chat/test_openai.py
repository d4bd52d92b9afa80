"""OpenAI's shape: what means the same here is taken, what we cannot do is refused by its name."""

import base64
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest

from infra.errors import PulseError
from infra.settings import Settings
from workers.chat import openai
from workers.chat.spec import Chat, Message

SAID = {"role": "user", "content": "ما عاصمة الأردن؟"}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "description": "الطقس", "parameters": {"type": "object"}, "strict": True},
}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"عمّان"}'}}
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(8)).decode()
FILE = "01a2075b-24bc-7086-a60a-fa7cb0b60f29"


def asked(**members: Any) -> Chat:
    """Read a body with these members."""
    return openai.request(json.dumps({"model": "auto", "messages": [SAID]} | members).encode())


def refusal(**members: Any) -> tuple[str, object]:
    """Return the code and the field for which a body is refused."""
    with pytest.raises(PulseError) as refused:
        asked(**members)
    assert "{" not in refused.value.text("ar") + refused.value.text("en")
    return refused.value.code, refused.value.facts.get("field")


def test_what_means_the_same_is_asked_of_the_chat_room() -> None:
    messages = [
        {"role": "developer", "content": "أجب بإيجاز."},
        {"role": "user", "content": [{"type": "text", "text": "سطر"}, {"type": "text", "text": "وسطر"}]},
        {"role": "assistant", "content": "نعم", "refusal": None, "tool_calls": None},
        SAID,
    ]
    found = asked(model="wire-1", messages=messages, max_tokens=7, temperature=0.5).input
    assert found.messages == [
        Message(role="system", content="أجب بإيجاز."),
        Message(role="user", content="سطر\nوسطر"),
        Message(role="assistant", content="نعم"),
        Message(role="user", content="ما عاصمة الأردن؟"),
    ]
    assert (found.model, found.max_output_tokens, found.temperature) == ("wire-1", 7, 0.5)


def test_the_newer_name_of_the_cap_is_the_one_that_counts() -> None:
    assert asked(max_completion_tokens=9).input.max_output_tokens == 9
    assert asked(max_completion_tokens=9, max_tokens=7).input.max_output_tokens == 9
    assert asked().input.max_output_tokens is None


@pytest.mark.parametrize(
    "member",
    [
        *({"n": 1}, {"stream": False}, {"top_p": 1}, {"top_p": 1.0}, {"tools": []}, {"stop": None}),
        *({"user": "u"}, {"store": True}, {"metadata": {"a": "b"}}, {"service_tier": "flex"}, {"tool_choice": "none"}),
        *({"response_format": {"type": "text"}}, {"logit_bias": {}}, {"frequency_penalty": 0.0}, {"seed": None}),
    ],
    ids=str,
)
def test_what_changes_nothing_is_taken(member: dict[str, Any]) -> None:
    assert asked(**member) == asked()


@pytest.mark.parametrize(
    "member",
    [
        *({"n": 2}, {"n": True}, {"stream": True}, {"seed": 1}, {"stop": "x"}),
        *({"response_format": {"type": "json_object"}}, {"top_p": 0.5}, {"logprobs": True}, {"audio": {}}),
        *({"logit_bias": {"1": 2}}, {"modalities": ["text", "audio"]}),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_by_its_name(member: dict[str, Any]) -> None:
    assert refusal(**member) == ("field_not_supported", next(iter(member)))


@pytest.mark.parametrize(
    ("message", "code", "field"),
    [
        ({"role": "function", "content": "5"}, "invalid_value", "messages[0].role"),
        ({"role": "tool", "content": "5"}, "missing_field", "messages[0].tool_call_id"),
        ({"role": "user"}, "too_short", "messages[0].content"),
        ({"role": "user", "content": ""}, "too_short", "messages[0].content"),
        ({"role": "user", "content": "س" * 200_001}, "too_long", "messages[0].content"),
        ({"role": "user", "content": 5}, "wrong_type", "messages[0].content"),
        ({"role": "user", "content": "a", "name": "ليلى"}, "field_not_supported", "messages[0].name"),
        ({"role": "user", "content": "a", "x": 1}, "unknown_field", "messages[0].x"),
        ({"role": "assistant", "tool_calls": [{"id": "a"}]}, "field_not_supported", "messages[0].tool_calls[0]"),
        (
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "a"}}],
            },
            "field_not_supported",
            "messages[0].content[1].image_url.url",
        ),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": "x"}]},
            "field_not_supported",
            "messages[0].content[0].type",
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AA"}}]},
            "invalid_value",
            "messages[0].content[0].image_url.url",
        ),
        (
            {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-abc"}}]},
            "invalid_value",
            "messages[0].content[0].file.file_id",
        ),
    ],
    ids=range(13),
)
def test_a_message_that_cannot_be_taken_is_named(message: dict[str, Any], code: str, field: str) -> None:
    assert refusal(messages=[message]) == (code, field)


@pytest.mark.parametrize(
    ("member", "code", "field"),
    [
        ({"reasoning_effort": "very"}, "invalid_value", "reasoning_effort"),
        ({"tools": [{"type": "function"}]}, "wrong_type", "tools[0].function"),
        ({"tools": [{"type": "web_search"}]}, "field_not_supported", "tools[0].type"),
        ({"tools": [TOOL], "parallel_tool_calls": False}, "field_not_supported", "parallel_tool_calls"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "field_not_supported", "tool_choice"),
        ({"models": "auto"}, "unknown_field", "models"),
        ({"model": None}, "wrong_type", "model"),
        ({"messages": []}, "too_short", "messages"),
        ({"max_tokens": 0}, "out_of_range", "max_tokens"),
        ({"temperature": 2.5}, "out_of_range", "temperature"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(member: dict[str, Any], code: str, field: str) -> None:
    assert refusal(**member) == (code, field)


@pytest.mark.parametrize(
    ("reason", "told"), [("stop", "stop"), ("length", "length"), ("filtered", "content_filter"), ("canceled", "stop")]
)
def test_a_result_is_a_completion(reason: str, told: str) -> None:
    usage = {"input_tokens": 11, "output_tokens": 7, "estimated": False}
    result = {"text": "عمّان", "model": "wire-1", "finish_reason": reason, "usage": usage}
    moment = datetime(2026, 12, 1, tzinfo=UTC)
    assert openai.completion(UUID(int=5), moment, result) == {
        "id": "chatcmpl-00000000000000000000000000000005",
        "object": "chat.completion",
        "created": int(moment.timestamp()),
        "model": "wire-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "عمّان", "refusal": None},
                "logprobs": None,
                "finish_reason": told,
            }
        ],
        "usage": {
            "prompt_tokens": 11,
            "completion_tokens": 7,
            "total_tokens": 18,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def test_the_vendor_s_own_library_reads_a_completion() -> None:
    from openai.types.chat import ChatCompletion  # noqa: PLC0415 (heavy, and only here)

    result = {"text": "x", "model": "m", "finish_reason": "stop", "usage": {"input_tokens": 1, "output_tokens": 2}}
    told = openai.completion(UUID(int=5), datetime.now(UTC), result)
    assert ChatCompletion.model_validate(told, strict=True).choices[0].message.content == "x"


def test_pictures_files_tools_and_a_form_are_asked_of_the_chat_room() -> None:
    content = [
        {"type": "text", "text": "ما هذه؟"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "auto"}},
        {"type": "file", "file": {"file_id": FILE}},
    ]
    messages = [
        {"role": "user", "content": content},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "31"}]},
    ]
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True}}
    choice = {"type": "function", "function": {"name": "weather"}}
    chat = asked(messages=messages, tools=[TOOL], tool_choice=choice, response_format=form, reasoning_effort="minimal")
    chat.check(Settings())
    found = msgspec.to_builtins(chat.input)
    assert [message["role"] for message in found["messages"]] == ["user", "assistant", "user"]
    assert found["messages"][0]["content"][1:] == [
        {"type": "image", "data": PIXEL, "media_type": "image/png"},
        {"type": "file", "file_id": FILE},
    ]
    assert found["messages"][1]["content"] == [
        {"type": "tool_call", "id": "c1", "name": "weather", "arguments": '{"city":"عمّان"}'}
    ]
    assert found["messages"][2]["content"][0]["content"] == "31"
    assert found["tools"] == [{"name": "weather", "description": "الطقس", "parameters": {"type": "object"}}]
    assert (found["tool_choice"], found["effort"]) == ("weather", "low")
    assert found["format"] == {"type": "json_schema", "schema": {"type": "object"}, "name": "answer"}


def test_an_answer_with_tool_calls_is_a_completion_that_the_vendor_s_own_library_reads() -> None:
    from openai.types.chat import ChatCompletion  # noqa: PLC0415 (heavy, and only here)

    result = {
        "text": "",
        "model": "m",
        "finish_reason": "tools",
        "tool_calls": [{"id": "c1", "name": "weather", "arguments": "{}"}],
        "usage": {"input_tokens": 9, "cached_tokens": 4, "output_tokens": 5, "reasoning_tokens": 3},
    }
    told = ChatCompletion.model_validate(openai.completion(UUID(int=5), datetime.now(UTC), result), strict=True)
    choice, usage = told.choices[0], told.usage
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert choice.message.tool_calls is not None
    assert choice.message.tool_calls[0].id == "c1"
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.completion_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 4
    assert usage.completion_tokens_details.reasoning_tokens == 3
