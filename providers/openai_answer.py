"""What an answer of OpenAI's Responses API says, event by event; what is not known is passed by."""

import json
from collections.abc import Iterator
from typing import Literal

from providers import counts, openai_request, payload
from providers.openai_errors import told
from providers.text import Pieces, kept
from providers.types import (
    Alive,
    AnswerLost,
    AnswerTruncated,
    ChatCall,
    Chunk,
    Counted,
    Finish,
    Resumable,
    TextDelta,
    ToolCall,
)

#: What stands between the messages of an answer that has several.
_BETWEEN = "\n\n"


class Reading:
    """One answer as far as it was read; `finish` is set by its terminal event.

    A place in it is `SEQUENCE:CHARACTERS`: the vendor's number of the last event, and how much text had been said by
    then. A stream goes on after the number; the whole text, where only that is to be had, after the characters.
    """

    def __init__(self, call: ChatCall, key: str, after: str | int | None = None, *, resumable: bool = False) -> None:
        """Read on after a place, or from the beginning. `resumable` says the token of the answer."""
        sequence, _, chars = str(after or "").partition(":")
        self.after = int(sequence) if sequence.isdecimal() else None
        self.finish: Finish | None = None
        self._chars = int(chars) if chars.isdecimal() else 0
        self._thinks = bool(call.tools)
        self._resumable = resumable
        self._key = key
        self._pieces = Pieces()

    def take(self, event: object) -> Iterator[Chunk]:
        """Yield what an event says. Raises `ProviderError` where it says that there is no answer."""
        sequence = payload.number(event, "sequence_number")
        match payload.text(event, "type"):
            case "response.created" if self._resumable:
                if response_id := payload.text(event, "response", "id"):
                    yield Resumable(token={"response_id": response_id})
            case "response.output_text.delta" | "response.refusal.delta":
                yield from self._say(payload.text(event, "delta"), sequence)
            case "response.output_item.added" if payload.text(event, "item", "type") == "message":
                if self._chars:
                    yield from self._say(_BETWEEN, sequence)
            case "response.output_item.added" | "response.function_call_arguments.delta":
                yield Alive()
            case kind if kind.startswith("response.reasoning"):
                yield Alive()
            case "response.output_item.done":
                yield from self._item(payload.at(event, "item"))
            case "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled":
                if waiting := self._pieces.rest():
                    yield TextDelta(waiting)
                self._end(payload.at(event, "response"))
            case "error":
                raise told(payload.text(event, "code"), payload.text(event, "message"), self._key)
            case _:
                pass

    def whole(self, response: object) -> Iterator[Chunk]:
        """Yield what comes after the place of an answer that is had whole. Raises `ProviderError` as `take` does."""
        self._end(response)
        output = payload.items(response, "output")
        said = _BETWEEN.join(_words(item) for item in output if payload.text(item, "type") == "message")
        if rest := kept(said)[self._chars :]:
            yield TextDelta(rest)
        for item in output:
            yield from self._item(item)

    def _say(self, piece: str, sequence: int | None) -> Iterator[TextDelta]:
        if piece := self._pieces.take(piece):
            self._chars += len(piece)
            yield TextDelta(piece, None if sequence is None else f"{sequence}:{self._chars}")

    def _item(self, item: object) -> Iterator[Chunk]:
        match payload.text(item, "type"):
            case "function_call" if arguments := _arguments(item):
                yield ToolCall(id=payload.text(item, "call_id"), name=payload.text(item, "name"), arguments=arguments)
            case "reasoning" if self._thinks and (thought := openai_request.thought(item)):
                yield thought
            case _:
                pass

    def _end(self, response: object) -> None:
        match payload.text(response, "status"):
            case "completed":
                self.finish = Finish(reason=_reason(response), counted=_counted(response))
            case "incomplete":
                because = payload.text(response, "incomplete_details", "reason")
                reason = "filtered" if because == "content_filter" else "length"
                self.finish = Finish(reason=reason, counted=_counted(response))
            case "cancelled":
                raise AnswerLost
            case _:
                error = (payload.text(response, "error", "code"), payload.text(response, "error", "message"))
                raise told(*error, self._key)


def _reason(response: object) -> Literal["stop", "tools", "filtered"]:
    output = payload.items(response, "output")
    said = [payload.text(part, "type") for item in output for part in payload.items(item, "content")]
    if "refusal" in said:
        return "filtered"
    return "tools" if any(payload.text(item, "type") == "function_call" for item in output) else "stop"


def _arguments(item: object) -> str:
    """Return the arguments of a call; empty where a limit cut it off. Raises `AnswerTruncated` for a broken one."""
    arguments = payload.text(item, "arguments") or "{}"
    try:
        if isinstance(json.loads(arguments), dict):
            return kept(arguments)
    except ValueError:
        if payload.text(item, "status") == "incomplete":
            return ""
    raise AnswerTruncated


def _words(item: object) -> str:
    return "".join(
        payload.text(part, "text") or payload.text(part, "refusal") for part in payload.items(item, "content")
    )


def _counted(response: object) -> Counted | None:
    usage = payload.at(response, "usage")
    return counts.counted(
        input_tokens=payload.number(usage, "input_tokens"),
        output_tokens=payload.number(usage, "output_tokens"),
        cached=payload.number(usage, "input_tokens_details", "cached_tokens"),
        written=payload.number(usage, "input_tokens_details", "cache_write_tokens"),
        written_long=payload.number(usage, "input_tokens_details", "cache_write_tokens_details", "ttl_12h_tokens"),
        reasoning=payload.number(usage, "output_tokens_details", "reasoning_tokens"),
    )
