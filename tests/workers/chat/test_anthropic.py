"""Anthropic's shape: what means the same here is taken, what we cannot do is refused by its name."""

import json
from typing import Any
from uuid import UUID

import pytest

from infra.errors import PulseError
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
        {"thinking": {"type": "disabled"}},
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
        {"tools": [{"name": "a"}]},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
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
        ({"prompt": "a"}, "unknown_field", "prompt"),
    ],
    ids=str,
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
        "usage": {"input_tokens": 11, "output_tokens": 7},
    }
