"""How many tokens a model has to read before it answers: what is said, and all that comes with it."""

from collections.abc import Callable, Mapping
from uuid import UUID

import msgspec

from providers import tokens
from providers.catalog import Model
from workers.chat.attachments import PDF
from workers.chat.parts import FilePart, ImagePart, Part, TextPart, ThoughtPart, ToolCallPart, ToolResultPart
from workers.chat.shape import ChatInput
from workers.request import Attached

# What chat templates add: marks around each message, and the system prompt of a model that has one of its own
# (SmolLM2's is about 30 tokens; that of a vendor's tools some hundreds). All are above what any in use adds.
_MESSAGE_TOKENS = 16
_PROMPT_TOKENS = 64
_TOOLS_TOKENS = 600
# A file's name stands before its pages.
_FILE_TOKENS = 64
# UTF-8 bytes a token of what files mostly are.
_TOKEN_BYTES = 4

#: Counts the tokens of a text, for a model: `tokens.bound` or `tokens.estimate`.
type Count = Callable[[Model, str], int]


def most(model: Model, asked: ChatInput, files: Mapping[UUID, Attached]) -> int:
    """Return a bound of the tokens that the model reads."""
    return min(_sum(model, asked, files, tokens.bound, _PROMPT_TOKENS, _MESSAGE_TOKENS), model.context_tokens)


def likely(model: Model, asked: ChatInput, files: Mapping[UUID, Attached]) -> int:
    """Return an estimate of the tokens that the model reads, for where its vendor counts nothing."""
    return _sum(model, asked, files, tokens.estimate, 0, 0)


def _sum(
    model: Model, asked: ChatInput, files: Mapping[UUID, Attached], count: Count, prompt: int, message: int
) -> int:
    total = prompt + message * len(asked.messages)
    for said in asked.messages:
        if isinstance(said.content, str):
            total += count(model, said.content)
        else:
            total += sum(_part(model, part, files, count) + message for part in said.content)
    if asked.tools:
        total += count(model, msgspec.json.encode(asked.tools).decode()) + (_TOOLS_TOKENS if prompt else 0)
    if asked.format is not None:
        total += count(model, msgspec.json.encode(asked.format.schema).decode()) + prompt
    return total


def _part(model: Model, part: Part, files: Mapping[UUID, Attached], count: Count) -> int:
    match part:
        case TextPart(text=text) | ToolResultPart(content=text):
            return count(model, text)
        case ToolCallPart():
            return count(model, part.name + part.arguments)
        case ThoughtPart():
            return count(model, part.data)
        case ImagePart():
            return tokens.picture_tokens(model)
        case FilePart():
            return _file(model, files.get(part.file_id), count)


def _file(model: Model, file: Attached | None, count: Count) -> int:
    if file is None:
        return 0
    if file.media_type == PDF:
        return _FILE_TOKENS + (file.pages or 1) * tokens.page_tokens(model)
    # What the words are is not known yet: code, figures and rare scripts have nearly a token for each byte.
    return _FILE_TOKENS + (file.size_bytes if count is tokens.bound else -(-file.size_bytes // _TOKEN_BYTES))
