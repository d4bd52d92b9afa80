"""A conversation as vendors want it: results of tools together in the turn right after their calls."""

import msgspec

from providers.types import Text, ToolCall, ToolResult, Turn
from workers.chat import turns
from workers.chat.shape import ChatInput


def test_results_that_came_one_by_one_are_one_turn_with_what_is_said_then() -> None:
    calls = [{"type": "tool_call", "id": name, "name": "weather", "arguments": ""} for name in ("c1", "c2")]
    messages = [
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": calls},
        *({"role": "user", "content": [{"type": "tool_result", "id": it["id"], "content": "31"}]} for it in calls),
        {"role": "user", "content": "c"},
    ]
    asked = turns.call(msgspec.convert({"messages": messages}, ChatInput), {}, output_tokens=9)
    assert [Turn(turn.role, list(turn.parts)) for turn in asked.turns] == [
        Turn("user", [Text("a")]),
        Turn("user", [Text("b")]),
        Turn("assistant", [ToolCall(id=name, name="weather", arguments="{}") for name in ("c1", "c2")]),
        Turn("user", [*(ToolResult(id=name, content="31") for name in ("c1", "c2")), Text("c")]),
    ]
    assert (asked.output_tokens, asked.tool_choice, asked.resumable) == (9, "auto", True)
