"""What an answer of a server that speaks Chat Completions says, chunk by chunk, whatever its dialect."""

import json
import secrets
from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from providers import counts, payload
from providers.text import Pieces, kept
from providers.types import Alive, AnswerTruncated, Chunk, Counted, Finish, TextDelta, ToolCall

_REASONS: dict[str, Literal["stop", "length", "filtered", "tools"]] = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tools",
    "function_call": "tools",
    "content_filter": "filtered",
    "safety": "filtered",
    "sensitive": "filtered",
}
#: Ends that are none: OpenRouter, vLLM, Z.ai and DeepSeek say so that they gave up.
_BROKEN = {"error", "abort", "network_error", "insufficient_system_resource"}


class _Call(Struct):
    """A tool call as far as it has come."""

    id: str = ""
    name: str = ""
    arguments: str = ""


class Reading:
    """One answer as far as it was read."""

    def __init__(self) -> None:
        """Nothing was read yet."""
        self._pieces = Pieces()
        self._calls: list[_Call] = []
        self._places: dict[int, _Call] = {}
        self._reason: str | None = None
        self._counted: Counted | None = None

    def take(self, chunk: object) -> Iterator[TextDelta | Alive]:
        """Yield the text of a chunk and remember the rest."""
        # Usage may ride on any chunk, also on one that has choices (seen with several servers).
        if usage := payload.at(chunk, "usage"):
            self._counted = _counted(usage) or self._counted
        for choice in payload.items(chunk, "choices"):
            delta = payload.at(choice, "delta")
            for field in ("content", "refusal"):
                if piece := self._pieces.take(_words(delta, field)):
                    yield TextDelta(piece)
            for call in payload.items(delta, "tool_calls"):
                self._call(call)
                yield Alive()
            if _words(delta, "reasoning_content") or _words(delta, "reasoning"):
                yield Alive()
            self._reason = payload.text(choice, "finish_reason") or self._reason

    def end(self) -> Iterator[Chunk]:
        """Yield what is left to say, and the end. Raises `AnswerTruncated` where the answer has none."""
        if self._reason is None or self._reason in _BROKEN:
            raise AnswerTruncated
        reason = _REASONS.get(self._reason, "stop")
        if piece := self._pieces.rest():
            yield TextDelta(piece)
        calls = [whole for call in self._calls if (whole := _whole(call, cut=reason == "length")) is not None]
        yield from calls
        # Some servers say `stop` where they call a tool (Ollama; vLLM where the tool was named).
        yield Finish(reason="tools" if calls and reason == "stop" else reason, counted=self._counted)

    def _call(self, delta: object) -> None:
        """Add a piece of a call; a new id at a place that has one is a new call (Ollama says 0 for all of them)."""
        place = payload.number(delta, "index") or 0
        call_id = payload.text(delta, "id")
        call = self._places.get(place)
        if call is None or (call_id and call.id and call_id != call.id):
            call = self._places[place] = _Call()
            self._calls.append(call)
        call.id = call.id or call_id
        call.name = call.name or payload.text(delta, "function", "name")
        call.arguments += _arguments(payload.at(delta, "function", "arguments"))


def _whole(call: _Call, *, cut: bool) -> ToolCall | None:
    """Return a whole call; None for one that a limit `cut` off. Raises `AnswerTruncated` where it is broken."""
    try:
        fits = isinstance(json.loads(call.arguments or "{}"), dict)
    except ValueError:
        fits = False
    if not fits or not call.name:
        if cut:
            return None
        raise AnswerTruncated
    # Some servers give their calls no ids.
    call_id = call.id or f"call_{secrets.token_hex(12)}"
    return ToolCall(id=call_id, name=kept(call.name), arguments=kept(call.arguments or "{}"))


def _arguments(value: object) -> str:
    """Return a piece of the arguments; some servers send them as an object."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _counted(usage: object) -> Counted | None:
    given, made = payload.number(usage, "prompt_tokens"), payload.number(usage, "completion_tokens")
    thought = payload.number(usage, "completion_tokens_details", "reasoning_tokens") or 0
    total = payload.number(usage, "total_tokens") or 0
    if given is not None and made is not None and thought and total == given + made + thought:
        made += thought  # counted beside the output (seen with xAI), where all others count it within
    return counts.counted(
        input_tokens=given,
        output_tokens=made,
        cached=payload.number(usage, "prompt_tokens_details", "cached_tokens"),
        written=payload.number(usage, "prompt_tokens_details", "cache_write_tokens"),
        reasoning=thought,
    )


def _words(delta: object, field: str) -> str:
    """Return text, which some servers send as a list of parts."""
    found = payload.at(delta, field)
    return found if isinstance(found, str) else "".join(payload.text(part, "text") for part in payload.items(found))
