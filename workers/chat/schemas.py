"""The tools and the JSON Schemas that a request brings: whether a vendor can be sent them at all."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, cast

import msgspec
from msgspec import Meta, Struct

from infra.decoding import InvalidValue
from infra.errors import PulseError

MOST_TOOLS: Final = 64
_MOST_BYTES: Final = 65_536
_DEEPEST: Final = 16
# What every vendor takes as a name.
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_TYPES: Final = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_OWN_CHOICES: Final = frozenset({"auto", "none", "required"})
#: What stands in a schema and is one itself, holds several by name, or holds several in order.
_INSIDE: Final = ("items", "additionalProperties", "not")
_NAMED: Final = ("properties", "$defs", "definitions")
_LISTED: Final = ("anyOf", "oneOf", "allOf", "prefixItems")


class InvalidToolName(PulseError):
    """{field} must be 1 to 64 letters, digits, underscores and hyphens of ASCII."""

    ar = "يجب أن يتكوّن {field} من حرف إلى 64 حرفًا من حروف ASCII وأرقامها والشرطة والشرطة السفلية."
    status = 400


class RepeatedTool(PulseError):
    """{field}: there are two tools of the name {name!r}."""

    ar = "{field}: توجد أداتان بالاسم {name!r}."
    status = 400


class UnknownTool(PulseError):
    """{field}: there is no tool {name!r} in input.tools."""

    ar = "{field}: لا توجد أداة باسم {name!r} في input.tools."
    status = 400


class SchemaTooLarge(PulseError):
    """{field}: a JSON Schema may have {limit_bytes} bytes and {levels} levels at most."""

    ar = "{field}: الحد الأقصى لمخطط JSON {limit_bytes} بايت و{levels} مستوى."
    status = 400


class InvalidSchema(PulseError):
    """{field} is no JSON Schema that can be used here: {reason}."""

    ar = "{field} ليس مخطط JSON يمكن استعماله هنا: {reason}."
    status = 400


class InvalidArguments(PulseError):
    """{field} must be a JSON object, as text."""

    ar = "يجب أن يكون {field} كائن JSON مكتوبًا نصًّا."
    status = 400


class ToolSpec(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A function that the model may want called; `parameters` is the JSON Schema of its arguments, an object."""

    name: str
    description: Annotated[str, Meta(max_length=8_192)] = ""
    parameters: dict[str, Any] = {}


class FormSpec(Struct, kw_only=True, forbid_unknown_fields=True):
    """The shape that the whole answer must have: JSON by a `schema` whose top is an object."""

    type: Literal["json_schema"]
    schema: dict[str, Any]
    name: str = "answer"


def check_tools(tools: Sequence[ToolSpec], choice: str | None) -> None:
    """Raise what is wrong with tools, or with the choice among them, by the field's path."""
    names = set[str]()
    for n, tool in enumerate(tools):
        field = f"input.tools[{n}]"
        check_name(tool.name, field=f"{field}.name")
        if tool.name in names:
            raise RepeatedTool(field=f"{field}.name", name=tool.name)
        names.add(tool.name)
        if tool.parameters:
            check(tool.parameters, field=f"{field}.parameters")
    if choice is None or choice in {"auto", "none"}:
        return
    if not tools:
        raise InvalidValue(field="input.tool_choice", value=choice)
    if choice not in _OWN_CHOICES | names:
        raise UnknownTool(field="input.tool_choice", name=choice)


def check_form(form: FormSpec) -> None:
    """Raise what is wrong with the shape of an answer, by the field's path."""
    check_name(form.name, field="input.format.name")
    check(form.schema, field="input.format.schema")


def check_name(name: str, *, field: str) -> None:
    """Raise `InvalidToolName` for a name that not every vendor takes."""
    if not _NAME.fullmatch(name):
        raise InvalidToolName(field=field)


def check_arguments(arguments: str, *, field: str) -> None:
    """Raise `InvalidArguments` for a call's arguments that are no JSON object."""
    try:
        msgspec.json.decode(arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise InvalidArguments(field=field) from None


def check(schema: Mapping[str, Any], *, field: str) -> None:
    """Raise for a schema that is too large or deep, or not one: its top an object, its types and members as they are.

    What a vendor's own dialect leaves out of JSON Schema the vendor itself refuses.
    """
    if len(msgspec.json.encode(schema)) > _MOST_BYTES:
        raise SchemaTooLarge(field=field, limit_bytes=_MOST_BYTES, levels=_DEEPEST)
    if schema.get("type") != "object":
        raise InvalidSchema(field=f"{field}.type", reason='"object"')
    _check_level(schema, field, 1)


def _check_level(schema: Mapping[str, Any], field: str, level: int) -> None:
    if level > _DEEPEST:
        raise SchemaTooLarge(field=field, limit_bytes=_MOST_BYTES, levels=_DEEPEST)
    kinds: Any = schema.get("type", [])
    for kind in cast("list[Any]", kinds) if isinstance(kinds, list) else [kinds]:
        if not (isinstance(kind, str) and kind in _TYPES):
            raise InvalidSchema(field=f"{field}.type", reason=str(kind)[:64])
    if not isinstance(schema.get("required", []), list):
        raise InvalidSchema(field=f"{field}.required", reason="array")
    reference: Any = schema.get("$ref", "#")
    if not (isinstance(reference, str) and reference.startswith("#")):
        raise InvalidSchema(field=f"{field}.$ref", reason=str(reference)[:64])
    for inner, place in _inner(schema, field):
        if isinstance(inner, bool):
            continue
        if not isinstance(inner, dict):
            raise InvalidSchema(field=place, reason="object")
        _check_level(cast("dict[str, Any]", inner), place, level + 1)


def _inner(schema: Mapping[str, Any], field: str) -> Iterator[tuple[Any, str]]:
    for name in _INSIDE:
        if name in schema:
            yield schema[name], f"{field}.{name}"
    for name in _NAMED:
        members: Any = schema.get(name, {})
        if not isinstance(members, dict):
            raise InvalidSchema(field=f"{field}.{name}", reason="object")
        for key, inner in cast("dict[str, Any]", members).items():
            yield inner, f"{field}.{name}.{key}"
    for name in _LISTED:
        listed: Any = schema.get(name, [])
        if not isinstance(listed, list):
            raise InvalidSchema(field=f"{field}.{name}", reason="array")
        for n, inner in enumerate(cast("list[Any]", listed)):
            yield inner, f"{field}.{name}[{n}]"
