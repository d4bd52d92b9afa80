"""What a server that speaks Chat Completions is asked, in its own words."""

from collections.abc import Iterator, Sequence
from typing import Any

from openai import Omit, omit
from openai.types.chat import (
    ChatCompletionContentPartParam,
    ChatCompletionMessageFunctionToolCallParam,
    ChatCompletionMessageParam,
    ChatCompletionToolChoiceOptionParam,
    ChatCompletionToolParam,
)
from openai.types.chat.completion_create_params import ResponseFormat

from providers import papers
from providers.types import ChatCall, Form, Paper, Part, Picture, Text, Tool, ToolCall, ToolResult, Turn


def messages(turns: Sequence[Turn]) -> list[ChatCompletionMessageParam]:
    """Return a conversation as its messages, in its order."""
    return [message for turn in turns for message in _turn(turn)]


def _turn(turn: Turn) -> Iterator[ChatCompletionMessageParam]:
    if turn.role == "assistant":
        yield _assistant(turn)
        return
    said: list[Part] = []
    for part in turn.parts:
        if isinstance(part, ToolResult):
            yield from _message(turn, said)
            said = []
            # The API has no mark for a failure of a tool, so the text says it.
            content = f"Error: {part.content}" if part.is_error else part.content
            yield {"role": "tool", "tool_call_id": part.id, "content": content}
        else:
            said.append(part)
    yield from _message(turn, said)


def _assistant(turn: Turn) -> ChatCompletionMessageParam:
    words = turn.words
    calls: list[ChatCompletionMessageFunctionToolCallParam] = [
        {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}
        for part in turn.parts
        if isinstance(part, ToolCall)
    ]
    if calls:
        return {"role": "assistant", "content": words or None, "tool_calls": calls}
    return {"role": "assistant", "content": words}


def _message(turn: Turn, said: Sequence[Part]) -> Iterator[ChatCompletionMessageParam]:
    content = [found for part in said if (found := _content(part)) is not None]
    if not content:
        return
    # Plain text wherever it is enough: some of these servers take nothing else.
    words = [part["text"] for part in content if part["type"] == "text"]
    plain = "".join(words) if len(words) == len(content) else None
    if turn.role == "system":
        yield {"role": "system", "content": plain or ""}
    else:
        yield {"role": "user", "content": content if plain is None else plain}


def _content(part: Part) -> ChatCompletionContentPartParam | None:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case Picture():
            return {"type": "image_url", "image_url": {"url": papers.data_url(part)}}
        case Paper() if papers.is_text(part):
            return {"type": "text", "text": papers.words(part) + "\n"}
        case Paper():  # few of these servers take one; one that does not refuses the request
            return {"type": "file", "file": {"filename": part.name, "file_data": papers.data_url(part)}}
        case _:
            return None


def tools(offered: Sequence[Tool]) -> list[ChatCompletionToolParam] | Omit:
    """Return the tools."""
    if not offered:
        return omit
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.schema)},
        }
        for tool in offered
    ]


def tool_choice(call: ChatCall) -> ChatCompletionToolChoiceOptionParam | Omit:
    """Return which tool is to be called."""
    match call.tool_choice:
        case _ if not call.tools:
            return omit
        case "auto" | "none" | "required" as option:
            return option
        case name:
            return {"type": "function", "function": {"name": name}}


def response_format(form: Form | None) -> ResponseFormat | Omit:
    """Return the shape that the answer must have."""
    if form is None:
        return omit
    schema: dict[str, Any] = dict(form.schema)
    return {"type": "json_schema", "json_schema": {"name": form.name, "schema": schema, "strict": True}}
