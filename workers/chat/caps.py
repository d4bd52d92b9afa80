"""How long a prompt and an answer may be, beside what the model itself can take."""

from infra.errors import PulseError
from infra.settings import Settings
from providers.catalog import Model


class PromptTooLong(PulseError):
    """{field} is about {tokens} tokens, and {limit} are allowed."""

    ar = "{field} في حدود {tokens} رمزًا، والمسموح به {limit}."
    status = 400


def check(settings: Settings, model: Model, tokens: int) -> None:
    """Raise `PromptTooLong` where a conversation of so many tokens, as they are estimated, may not be sent."""
    limit = min(settings.chat_prompt_tokens or model.context_tokens, model.context_tokens)
    if tokens > limit:
        raise PromptTooLong(field="input.messages", tokens=tokens, limit=limit)


def output(settings: Settings, model: Model, wanted: int) -> int:
    """Return how many tokens an answer may have for which `wanted` were asked."""
    return min(wanted, model.output_tokens, settings.chat_output_tokens or wanted)
