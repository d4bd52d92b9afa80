"""A chat that a vendor's own batch answers: what is asked there, and what it comes to then, for half of the units."""

from collections.abc import Sequence

import msgspec

from infra.settings import Settings
from providers import catalog
from providers.types import ChatCall, Chunk, Finish, TextDelta
from workers.chat import measure, turns
from workers.chat.answer import Answer
from workers.chat.spec import Chat
from workers.context import Made


def call(settings: Settings, asked: Chat) -> ChatCall:
    """Return what is asked of the chat's model."""
    model = catalog.resolve(settings, asked.input.model, field="input.model")
    built = turns.call(asked.input, {}, output_tokens=asked.input.max_output_tokens or model.output_tokens)
    return msgspec.structs.replace(
        built,
        model=model.name,
        temperature=built.temperature if model.takes.temperature else None,
        effort=built.effort if model.takes.effort else None,
        resumable=False,
    )


def made(settings: Settings, asked: Chat, said: Sequence[Chunk]) -> Made:
    """Return the result of a whole answer, in the shape of every chat's, and the units that it is charged."""
    model = catalog.known(settings, asked.input.model)
    assert model is not None, "looked for before"
    answer = Answer(settings, asked.input, [model], lambda model: measure.likely(model, asked.input, {}))
    for chunk in said:
        if isinstance(chunk, TextDelta):
            answer.add(chunk.text)
    (finish,) = (chunk for chunk in said if isinstance(chunk, Finish))
    return answer.finished(finish, batch=True)
