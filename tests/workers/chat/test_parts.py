"""What is wrong with the parts, the tools and the schemas of a chat is refused at the edge, by its field's path."""

import base64
import json
from typing import Any
from uuid import UUID

import msgspec
import pytest

from infra import decoding
from infra.errors import PulseError
from infra.settings import Settings
from workers import kinds
from workers.request import Asking, Attached, Request

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(8)).decode()
TEXT = {"type": "text", "text": "انظر"}
IMAGE = {"type": "image", "data": PNG, "media_type": "image/png"}
CALL = {"type": "tool_call", "id": "c1", "name": "weather", "arguments": '{"city": "عمّان"}'}
RESULT = {"type": "tool_result", "id": "c1", "content": "31"}
THOUGHT = {"type": "thought", "vendor": "anthropic", "data": "{}"}
OBJECT = {"type": "object"}
NOTHING: list[Any] = []
SETTINGS = Settings(compatible_url="http://127.0.0.1:1/v1", compatible_models="wire-1")
_KINDS = decoding.Kinds(kinds.SPECS)


def said(*messages: tuple[str, Any], **options: Any) -> bytes:
    """Return the body of a chat of these messages, as (role, content)."""
    turns = [{"role": role, "content": content} for role, content in messages]
    return json.dumps({"kind": "chat", "input": {"messages": turns, **options}}).encode()


def resolved(body: bytes, files: dict[UUID, Attached]) -> Request:
    """Read, check and resolve a request, as it is when it is submitted."""
    request = _KINDS.decode(body)
    request.check(SETTINGS)
    return request.resolved(Asking(settings=SETTINGS, plan="free", files=files))


def refusal(body: bytes, *files: Attached) -> tuple[str, object]:
    """Return the code and the field for which a body is refused; both texts are filled."""
    with pytest.raises(PulseError) as refused:
        resolved(body, {file.id: file for file in files})
    assert "{" not in refused.value.text("en") + refused.value.text("ar")
    assert refused.value.text("en") != refused.value.text("ar")
    return refused.value.code, refused.value.facts.get("field")


def test_a_conversation_of_all_parts_is_taken_and_kept_as_it_came() -> None:
    messages = [
        ("system", "أجب بإيجاز."),
        ("user", [TEXT, IMAGE]),
        ("assistant", [THOUGHT, TEXT, CALL]),
        ("user", [RESULT, TEXT]),
    ]
    tools = [{"name": "weather", "description": "الطقس", "parameters": OBJECT}]
    kept = msgspec.to_builtins(resolved(said(*messages, tools=tools, tool_choice="weather"), {}))
    assert [(message["role"], message["content"]) for message in kept["input"]["messages"]] == messages[:1] + [
        (role, [part | ({"is_error": False} if part is RESULT else {}) for part in content])
        for role, content in messages[1:]
        if isinstance(content, list)
    ]
    assert kinds.read("chat", kept) == msgspec.convert(kept, kinds.SPECS["chat"])


@pytest.mark.parametrize(
    ("messages", "code", "field"),
    [
        ([("user", NOTHING)], "too_short", "input.messages[0].content"),
        ([("user", [{"type": "text", "text": ""}])], "too_short", "input.messages[0].content[0].text"),
        ([("user", [{"type": "video"}])], "invalid_value", "input.messages[0].content[0].type"),
        ([("user", [TEXT | {"x": 1}])], "unknown_field", "input.messages[0].content[0].x"),
        ([("system", [IMAGE])], "part_misplaced", "input.messages[0].content[0]"),
        ([("user", [TEXT, THOUGHT])], "part_misplaced", "input.messages[0].content[1]"),
        ([("assistant", [RESULT])], "part_misplaced", "input.messages[0].content[0]"),
        ([("user", [TEXT, *[IMAGE] * 21])], "too_many_attached", "input.messages[0].content[21]"),
        ([("user", [RESULT])], "tool_result_unasked", "input.messages[0].content[0].id"),
        (
            [("user", "a"), ("assistant", [CALL]), ("user", [RESULT, RESULT])],
            "tool_result_unasked",
            "input.messages[2].content[1].id",
        ),
        ([("user", "a"), ("assistant", [TEXT, CALL])], "tool_call_unanswered", "input.messages[1].content[1]"),
        (
            [("user", "a"), ("assistant", [CALL]), ("user", "b"), ("assistant", "c")],
            "tool_call_unanswered",
            "input.messages[1].content[0]",
        ),
        (
            [("assistant", [CALL | {"arguments": "[1]"}]), ("user", [RESULT])],
            "invalid_arguments",
            "input.messages[0].content[0].arguments",
        ),
        (
            [("assistant", [CALL | {"name": "الطقس"}]), ("user", [RESULT])],
            "invalid_tool_name",
            "input.messages[0].content[0].name",
        ),
        ([("user", [{"type": "image"}])], "one_source", "input.messages[0].content[0]"),
        ([("user", [IMAGE | {"file_id": str(UUID(int=1))}])], "one_source", "input.messages[0].content[0]"),
        ([("user", [{"type": "image", "data": PNG}])], "missing_field", "input.messages[0].content[0].media_type"),
        (
            [("user", [IMAGE | {"media_type": "image/tiff"}])],
            "invalid_value",
            "input.messages[0].content[0].media_type",
        ),
        ([("user", [IMAGE | {"media_type": "image/gif"}])], "invalid_image", "input.messages[0].content[0].data"),
        ([("user", [IMAGE | {"data": "&&"}])], "invalid_image", "input.messages[0].content[0].data"),
    ],
    ids=range(20),
)
def test_what_is_wrong_with_a_part_is_named(messages: list[tuple[str, Any]], code: str, field: str) -> None:
    assert refusal(said(*messages)) == (code, field)


def test_a_picture_has_its_size_and_so_have_all_together() -> None:
    large = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(5 * 1024**2)).decode()
    body = said(("user", [TEXT, IMAGE | {"data": large}]))
    assert refusal(body) == ("attachment_too_large", "input.messages[0].content[1].data")
    fitting = IMAGE | {"data": base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(4 * 1024**2)).decode()}
    assert refusal(said(("user", [fitting] * 5))) == ("attachment_too_large", "input.messages")


ID = UUID(int=7)
READY = Attached(id=ID, name="a", state="ready", media_type="image/png", size_bytes=10)
PDF = msgspec.structs.replace(READY, media_type="application/pdf")


@pytest.mark.parametrize(
    ("kind", "files", "code"),
    [
        ("image", [], "attachment_not_found"),
        ("image", [msgspec.structs.replace(READY, state="scanning")], "attachment_not_ready"),
        ("image", [msgspec.structs.replace(READY, state="rejected")], "attachment_not_ready"),
        ("image", [PDF], "attachment_type"),
        ("image", [msgspec.structs.replace(READY, media_type="image/avif")], "attachment_type"),
        ("file", [READY], "attachment_type"),
        ("image", [msgspec.structs.replace(READY, size_bytes=5 * 1024**2 + 1)], "attachment_too_large"),
        ("file", [msgspec.structs.replace(PDF, size_bytes=10 * 1024**2 + 1)], "attachment_too_large"),
    ],
    ids=range(8),
)
def test_a_file_that_cannot_be_read_is_named_where_it_stands(kind: str, files: list[Attached], code: str) -> None:
    body = said(("user", "أولًا"), ("assistant", "نعم"), ("user", [TEXT, {"type": kind, "file_id": str(ID)}]))
    assert refusal(body, *files) == (code, "input.messages[2].content[1].file_id")


def deep(levels: int) -> dict[str, Any]:
    """Return a schema of so many levels."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels - 1):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    ("options", "code", "field"),
    [
        ({"tools": [{"name": "a b"}]}, "invalid_tool_name", "input.tools[0].name"),
        ({"tools": [{"name": "a" * 65}]}, "invalid_tool_name", "input.tools[0].name"),
        ({"tools": [{"name": "a"}, {"name": "a"}]}, "repeated_tool", "input.tools[1].name"),
        ({"tools": [{"name": f"t{n}"} for n in range(65)]}, "too_long", "input.tools"),
        ({"tools": [{"name": "a"}], "tool_choice": "b"}, "unknown_tool", "input.tool_choice"),
        ({"tool_choice": "required"}, "invalid_value", "input.tool_choice"),
        (
            {"tools": [{"name": "a", "parameters": {"type": "array"}}]},
            "invalid_schema",
            "input.tools[0].parameters.type",
        ),
        (
            {"tools": [{"name": "a", "parameters": OBJECT | {"properties": {"b": {"type": "text"}}}}]},
            "invalid_schema",
            "input.tools[0].parameters.properties.b.type",
        ),
        (
            {"tools": [{"name": "a", "parameters": OBJECT | {"properties": ["b"]}}]},
            "invalid_schema",
            "input.tools[0].parameters.properties",
        ),
        (
            {"tools": [{"name": "a", "parameters": OBJECT | {"required": "b"}}]},
            "invalid_schema",
            "input.tools[0].parameters.required",
        ),
        (
            {"tools": [{"name": "a", "parameters": OBJECT | {"anyOf": [OBJECT, 5]}}]},
            "invalid_schema",
            "input.tools[0].parameters.anyOf[1]",
        ),
        (
            {"tools": [{"name": "a", "parameters": OBJECT | {"$ref": "http://a/b"}}]},
            "invalid_schema",
            "input.tools[0].parameters.$ref",
        ),
        (
            {"tools": [{"name": "a", "parameters": deep(17)}]},
            "schema_too_large",
            "input.tools[0].parameters" + ".properties.a" * 16,
        ),
        (
            {"tools": [{"name": "a", "parameters": OBJECT | {"description": "س" * 40_000}}]},
            "schema_too_large",
            "input.tools[0].parameters",
        ),
        ({"format": {"type": "json_object"}}, "invalid_value", "input.format.type"),
        ({"format": {"type": "json_schema"}}, "missing_field", "input.format.schema"),
        (
            {"format": {"type": "json_schema", "schema": OBJECT, "name": "جواب"}},
            "invalid_tool_name",
            "input.format.name",
        ),
        (
            {"format": {"type": "json_schema", "schema": {"type": "string"}}},
            "invalid_schema",
            "input.format.schema.type",
        ),
        ({"effort": "max"}, "invalid_value", "input.effort"),
        ({"fallbacks": ["a"] * 9}, "too_long", "input.fallbacks"),
    ],
    ids=range(20),
)
def test_what_is_wrong_with_tools_and_schemas_is_named(options: dict[str, Any], code: str, field: str) -> None:
    assert refusal(said(("user", "a"), **options)) == (code, field)


def test_a_schema_as_deep_as_may_be_is_taken() -> None:
    assert resolved(said(("user", "a"), tools=[{"name": "a", "parameters": deep(16)}]), {})
