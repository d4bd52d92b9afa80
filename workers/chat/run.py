"""How a conversation is continued: the model's deltas are said as they come, and its own count is what is charged."""

import asyncio
import contextlib
from contextlib import aclosing
from functools import cache

import structlog

from infra.database import DatabaseUnavailable
from infra.settings import Settings
from providers import moderation
from providers.catalog import Model
from providers.gateway import Serving, Turned
from providers.types import Finish, ProviderError, Resumable, TextDelta, Thought, Token, ToolCall
from quotas import ledger
from workers import events
from workers.chat import answer, measure, parts, routing, turns
from workers.chat.answer import Answer
from workers.chat.spec import Chat
from workers.context import Made, Run
from workers.files import attached
from workers.request import Asking

log = structlog.stdlib.get_logger()
# How long a cancelled job waits for a vendor to be told that its answer is not wanted any more.
_PATIENCE_S = 5.0


def timeout_s(settings: Settings) -> float:
    """Return the longest that one try may run."""
    return settings.chat_timeout_s


async def make(request: Chat, run: Run) -> Made:
    """Ask the model and return its whole answer; raises `ProviderError`, `AttachmentGone` and `ContentRefused`.

    A second attempt says the answer from its beginning: the same one, where the first kept how to find it again at its
    vendor, and another one otherwise.
    """
    asked = request.input
    chain = routing.models(run.settings, asked)
    most_s = timeout_s(run.settings)
    left_s = min(most_s, run.job.timeout_s or most_s)
    if run.job.attempt > 1:
        await run.say(events.Restarted(attempt=run.job.attempt))
    texts = [text for _, text in parts.texts(asked.messages)]
    await moderation.ask(run.settings, texts, field="input.messages")
    loaded = await attached.load(run.ground, run.job.account_id, request.file_ids())
    files = {file_id: file for file_id, (file, _) in loaded.items()}

    @cache
    def likely(model: Model) -> int:
        return measure.likely(model, asked, files)

    saying = _Saying(run, Answer(run.settings, asked, chain, likely), run.resume.get("token"))
    call = turns.call(asked, loaded, output_tokens=asked.max_output_tokens or chain[0].output_tokens)
    try:
        async with aclosing(run.gateway.stream(chain, call, token=saying.token, left_s=left_s)) as stream:
            async for said in stream:
                await saying.hear(said)
    except asyncio.CancelledError:
        if run.cancel_requested and saying.token is not None:
            await _abandon(run, saying.token)
        raise
    assert saying.finish is not None, "a vendor's stream ends with Finish or raises"
    made = saying.answer.finished(saying.finish)
    await run.say(answer.usage(made))
    await _tell_overage(run, request.most(Asking(settings=run.settings, plan="", files=files)), made)
    return made


class _Saying:
    """Passes on what the gateway says, and remembers what is needed to go on or to stop."""

    def __init__(self, run: Run, answer: Answer, token: Token | None) -> None:
        self.answer = answer
        self.token = token
        self.finish: Finish | None = None
        self._run = run

    async def hear(self, said: object) -> None:
        """Take one of `gateway.Said`."""
        match said:
            case TextDelta(text=piece):
                self.answer.add(piece)
                await self._run.say(events.Delta(text=piece))
                self._run.record(self.answer.stopped)
            case ToolCall():
                self.answer.add(said)
                await self._run.say(events.ToolCall(id=said.id, name=said.name, arguments=said.arguments))
                self._run.record(self.answer.stopped)
            case Thought():
                self.answer.add(said)
            case Resumable(token=token):
                self.token = token
                await self._run.checkpoint({"token": token})
            case Serving(model=model):
                await self._warn(self.answer.turn(model))
            case Turned():
                await self._start_over(said)
            case Finish():
                self.finish = said
            case _:
                pass

    async def _start_over(self, turned: Turned) -> None:
        """Forget what was said, and where it was to be found again."""
        if self.token is not None:
            self.token = None
            await self._run.checkpoint({})
        if not self.answer.is_empty:
            self.answer.clear()
            await self._run.say(events.Restarted(attempt=self._run.job.attempt))
        await self._warn(self.answer.turn(turned.model, turned.because))

    async def _warn(self, warning: events.Warning | None) -> None:
        if warning is not None:
            await self._run.say(warning)


async def _abandon(run: Run, token: Token) -> None:
    """Have the vendor stop an answer that its account does not want any more."""
    with contextlib.suppress(ProviderError, TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            await run.gateway.abandon(token)
            return
    log.warning("an answer that nobody wants may still be made", job=str(run.job.id))


async def _tell_overage(run: Run, held: dict[str, int], made: Made) -> None:
    """Say where the vendor counted more than was held: that is charged, and what is above it recorded.

    `held` is as it would be held now; another process may have estimated a long text otherwise, on another day's price.
    """
    if all(used * 2 <= held.get(meter, 0) for meter, used in made.used.items()):
        return
    with contextlib.suppress(DatabaseUnavailable):
        async with run.ground.database.begin() as session:
            held = await ledger.held(session, run.job.id)
    for meter, used in made.used.items():
        if used > held.get(meter, 0):
            log.warning("more was used than was held", job=str(run.job.id), meter=meter, used=used, held=held)
            detail = {"meter": meter, "held": held.get(meter, 0), "used": used}
            await run.say(events.Warning(code="overage", detail=detail))
