"""How a conversation is continued: the model's deltas are said as they come, and its own count is what is charged."""

from infra.settings import Settings
from providers import catalog, moderation, tokens
from providers.gateway import Turned
from providers.types import ChatCall, Counted, Finish, Text, TextDelta, Turn
from workers import events
from workers.chat import costs
from workers.chat.spec import Chat
from workers.context import Made, Run


def timeout_s(settings: Settings) -> float:
    """Return the longest that one try may run."""
    return settings.chat_timeout_s


async def make(request: Chat, run: Run) -> Made:
    """Ask the model and return its whole answer; raises `ProviderError` and `ContentRefused`.

    A second attempt starts over and says so: what a model would have said next cannot be known.
    """
    asked = request.input
    model = catalog.resolve(run.settings, asked.model, field="input.model")
    if run.job.attempt > 1:
        await run.say(events.Restarted(attempt=run.job.attempt))
    await moderation.ask(run.settings, [message.content for message in asked.messages], field="input.messages")
    likely_input = tokens.estimate(model, *(message.content for message in asked.messages))
    text, tally, finish = "", tokens.Tally(model), None
    call = ChatCall(
        model=model.id,
        turns=[Turn(message.role, [Text(message.content)]) for message in asked.messages],
        output_tokens=asked.max_output_tokens or model.output_tokens,
        temperature=asked.temperature,
    )
    async for said in run.gateway.stream([model], call):
        match said:
            case TextDelta(text=piece):
                text += piece
                tally.add(piece)
                await run.say(events.Delta(text=piece))
                run.record(_made(run.settings, model, text, _estimate(model, likely_input, tally, "canceled")))
            case Turned():
                text, tally = "", tokens.Tally(model)
                await run.say(events.Restarted(attempt=run.job.attempt))
            case Finish():
                finish = said
            case _:
                pass
    assert finish is not None, "a vendor's stream ends with Finish or raises"
    usage = _estimate(model, likely_input, tally, finish.reason)
    if finish.counted is not None:
        usage = events.Usage(
            model=model.id,
            input_tokens=finish.counted.input_tokens,
            output_tokens=finish.counted.output_tokens,
            finish_reason=finish.reason,
        )
    await run.say(usage)
    return _made(run.settings, model, text, usage)


def _estimate(model: catalog.Model, input_tokens: int, tally: tokens.Tally, reason: str) -> events.Usage:
    return events.Usage(
        model=model.id,
        input_tokens=input_tokens,
        output_tokens=tally.tokens,
        finish_reason=reason,
        estimated=True,
    )


def _made(settings: Settings, model: catalog.Model, text: str, usage: events.Usage) -> Made:
    counted = Counted(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)
    return Made(
        result={
            "text": text,
            "model": model.id,
            "finish_reason": usage.finish_reason,
            "usage": {
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "estimated": usage.estimated,
            },
        },
        used=costs.used(settings, model, counted),
    )
