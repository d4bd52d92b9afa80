"""An answer while it comes: what was said of it, by which model, and what it would cost if it ended now."""

from collections.abc import Callable, Sequence

import msgspec

from infra.settings import Settings
from providers import tokens
from providers.catalog import Model
from providers.types import Counted, Finish, Thought, ToolCall
from workers import events
from workers.chat import costs, parts
from workers.chat.parts import Part, TextPart, ThoughtPart, ToolCallPart
from workers.chat.shape import ChatInput
from workers.context import Made


class Answer:
    """What one attempt has of the answer."""

    def __init__(
        self, settings: Settings, asked: ChatInput, chain: Sequence[Model], likely: Callable[[Model], int]
    ) -> None:
        """Begin; `likely` estimates the tokens that a model of `chain` reads, for where its vendor counts nothing."""
        self.model = chain[0]
        self._settings = settings
        self._chosen = chain[0].id
        self._why = None if asked.routing is None else msgspec.to_builtins(asked.routing.reason)
        self._known = {model.id: model for model in chain}
        self._likely = likely
        self._most_tokens = asked.max_output_tokens
        self._because: str | None = None
        self.clear()

    def clear(self) -> None:
        """Take back what was said: it is void."""
        self._parts: list[Part] = []
        self._text: list[str] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing was said."""
        return not (self._parts or self._text)

    def turn(self, model: str, because: str | None = None) -> events.Warning | None:
        """Go on with another model; returns what is said of that where it is none of those before."""
        self._because = because or self._because
        if model == self.model.id or model not in self._known:
            return None
        self.model = self._known[model]
        detail = {"model": model} | ({"because": self._because} if self._because else {})
        return events.Warning(code="fallback", detail=detail)

    def add(self, chunk: str | Thought | ToolCall) -> None:
        """Add a piece of text, a thought, or a tool call."""
        if isinstance(chunk, str):
            self._text.append(chunk)
            return
        self._parts = self._all()
        self._text = []
        if isinstance(chunk, Thought):
            self._parts.append(ThoughtPart(vendor=chunk.vendor, data=chunk.data))
        else:
            self._parts.append(ToolCallPart(id=chunk.id, name=chunk.name, arguments=chunk.arguments))

    def finished(self, finish: Finish, *, batch: bool = False) -> Made:
        """Return the whole answer; what it cost is the vendor's count, and an estimate where that counted nothing.

        What was made in a `batch` of the vendor's costs less.
        """
        counted, is_estimate = finish.counted or self._estimated(), finish.counted is None
        return self._made(finish.reason, counted, estimated=is_estimate, batch=batch)

    def stopped(self) -> Made:
        """Return what there is of an answer that is stopped now."""
        return self._made("canceled", self._estimated(), estimated=True)

    def _all(self) -> list[Part]:
        text = "".join(self._text)
        return [*self._parts, TextPart(text=text)] if text else self._parts

    def _estimated(self) -> Counted:
        made = 0
        for part in self._all():
            match part:
                case TextPart():
                    made += tokens.estimate(self.model, part.text)
                case ToolCallPart():
                    made += tokens.estimate(self.model, part.name + part.arguments)
                case _:
                    pass
        made = min(made, self._most_tokens or made)  # the vendor keeps to the cap, whatever our estimate says
        return Counted(input_tokens=self._likely(self.model), output_tokens=made)

    def _made(self, reason: str, counted: Counted, *, estimated: bool, batch: bool = False) -> Made:
        content = [parts.kept(part) for part in self._all()]
        told = {
            "text": "".join(part["text"] for part in content if part["type"] == "text"),
            "model": self.model.id,
            "reason": self._why,
            "finish_reason": reason,
            "content": content,
            "tool_calls": [
                {name: part[name] for name in ("id", "name", "arguments")}
                for part in content
                if part["type"] == "tool_call"
            ],
            "usage": {
                "input_tokens": counted.input_tokens,
                "cached_tokens": counted.cached_tokens,
                "output_tokens": counted.output_tokens,
                "reasoning_tokens": counted.reasoning_tokens,
                "estimated": estimated,
            },
            "fallback": self._fallback(),
        }
        return Made(result=told, used=costs.used(self._settings, self.model, counted, batch=batch))

    def _fallback(self) -> dict[str, str | None] | None:
        if self.model.id == self._chosen:
            return None
        return {"from": self._chosen, "to": self.model.id, "because": self._because}


def usage(made: Made) -> events.Usage:
    """Return what is said of an answer's tokens."""
    return events.Usage(model=made.result["model"], finish_reason=made.result["finish_reason"], **made.result["usage"])
