"""The way of one call through a chain of models: what is tried, what is waited for, what is void, and when it fails.

    admitted at a door ──> attempt ──> chunks ──> Finish
          ^                   │ fault
          │                   ├── the vendor still makes the answer: it is taken up again after what was said last
          └── pause, another ─┴── else another attempt, which says `Turned` first where something had been said
              key or model

Nothing is said twice, and nothing of two answers is mixed: what stands after the last `Turned` is of one answer.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence

import msgspec
import structlog
from msgspec import Struct

from infra.settings import Settings
from providers import patience, types
from providers.attempt import Attempt, Deadlines
from providers.catalog import Model
from providers.deployments import Deployment, Vendor
from providers.doors import Closed, Door, Doors, Lease
from providers.health import CROWDED, NEITHER, SHUT
from providers.tally import Tally, What
from providers.types import Alive, ChatCall, Chunk, Finish, Opened, Resumable, TextDelta, Thought, Token, ToolCall
from providers.vendors import Vendors

log = structlog.stdlib.get_logger()

#: What the gateway adds to a vendor's token.
_OURS = ("deployment", "model")
_LONG_TOKENS = 2000


class Turned(Struct, frozen=True, kw_only=True):
    """The answer is made anew by `model`, because of the fact of this code; what was said before it is void."""

    model: str
    because: str


class Serving(Struct, frozen=True, kw_only=True):
    """A model begins to answer: what comes from here on is of it and its to charge. It may come again before text."""

    model: str
    deployment: str


#: What a call through the gateway says: a vendor's chunks, whose they are, and when it begins again.
type Said = Chunk | Serving | Turned


class Means(Struct, frozen=True, kw_only=True):
    """What the calls of a process go through."""

    settings: Settings
    deployments: dict[Vendor, list[Deployment]]
    vendors: Vendors
    doors: Doors
    tally: Tally
    #: Has an answer stopped that nobody will listen to, without being waited for.
    forsake: Callable[[Deployment, Token], None]


class _Answer:
    """An answer that is being made, and what has been said of it."""

    def __init__(self, model: Model, door: Door, token: Token | None = None) -> None:
        self.model = model
        self.door = door
        #: The vendor's own; None where the answer cannot be found again.
        self.token = token
        #: Whether an earlier call may have said some of it.
        self.is_old = token is not None
        self.is_open = False
        #: Whether any of it was said, and whether words were; these have places.
        self.spoke = False
        self.wrote = False
        self.is_whole = False
        self.at: str | int | None = None
        self.said: set[str] = set()
        self.breaks = 0

    @property
    def can_go_on(self) -> bool:
        """Whether what was not said yet can be told from what was."""
        return self.token is not None and (not self.wrote or self.at is not None)

    def write(self, chunk: TextDelta) -> None:
        """Note words that are said."""
        self.spoke = self.wrote = True
        self.at = chunk.at

    def hears(self, chunk: ToolCall | Thought) -> bool:
        """Note a chunk that has no place of its own; tells whether it is new, and not one from before a break."""
        name = f"{chunk.id} {chunk.name} {chunk.arguments}" if isinstance(chunk, ToolCall) else chunk.data
        is_new = self.breaks == 0 or name not in self.said
        self.said.add(name)
        return is_new


class Passage:
    """One call."""

    def __init__(
        self, means: Means, chain: Sequence[Model], call: ChatCall, *, left_s: float | None, old: Token | None
    ) -> None:
        """Ask the models of `chain` in order, for `left_s` seconds at most; first for the answer of the token `old`."""
        self._means = means
        self._settings = means.settings
        self._chain = chain
        self._call = call
        self._clock = asyncio.get_running_loop()
        self._ends = None if left_s is None else self._clock.time() + left_s
        self._tokens = _tokens(call)
        self._place = 0
        self._failures = 0
        self._tries: Counter[str] = Counter()
        self._shut: set[str] = set()
        self._pause_s = 0.0
        #: The fact to raise when nobody is left to ask, and the code of the one that made what was said void.
        self._fact: types.ProviderError | None = None
        self._void: str | None = None
        self._turns = 0
        self._answer: _Answer | None = self._found(old) if old is not None else None

    async def said(self) -> AsyncGenerator[Said]:
        """Yield what is said, ended by one `Finish`; raises `ProviderError`."""
        while True:
            attempt, answer = await self._next()
            try:
                while True:
                    chunk = await attempt.next()
                    if isinstance(chunk, TextDelta) and answer.is_open:
                        answer.write(chunk)
                        yield chunk
                        continue
                    for one in self._passed(answer, chunk):
                        yield one
                    if answer.is_whole:
                        return
            except types.ProviderError as error:
                self._failed(attempt, answer, error)
            except (asyncio.CancelledError, GeneratorExit):
                if not answer.is_whole:
                    self._count("left", answer)
                raise
            finally:
                await attempt.leave()

    def _passed(self, answer: _Answer, chunk: Chunk) -> list[Said]:
        """Return what the caller is told of a chunk."""
        said: list[Said] = []
        if not answer.is_open:
            answer.is_open = True
            if self._void is not None:
                said.append(Turned(model=answer.model.id, because=self._void))
                self._count("turned", answer, self._void)
                self._void = None
            said.append(Serving(model=answer.model.id, deployment=answer.door.deployment.name))
        elif isinstance(chunk, Opened):
            return []  # the same answer goes on
        match chunk:
            case Alive():
                return said
            case Resumable():
                if answer.token is not None and not answer.is_old:
                    return said
                answer.token = chunk.token
                ours = {"deployment": answer.door.deployment.name, "model": answer.model.id}
                return [*said, Resumable(token=chunk.token | ours)]
            case ToolCall() | Thought():
                answer.spoke = True
                return [*said, chunk] if answer.hears(chunk) else said
            case TextDelta():
                answer.write(chunk)
            case Finish():
                answer.is_whole = True
                self._count("answered", answer)
            case Opened():
                pass
        return [*said, chunk]

    async def _next(self) -> tuple[Attempt, _Answer]:
        """Return the next attempt; raises the most telling fact where there is nobody left to ask."""
        answer = self._answer
        if answer is not None:
            await self._rest()
            self._count("resumed", answer)
            return await self._attempt(self._means.doors.enter(answer.door), answer), answer
        while self._place < len(self._chain):
            model = self._chain[self._place]
            lease = await self._admitted(model)
            if lease is not None:
                answer = self._answer = _Answer(model, lease.door)
                self._tries[lease.door.deployment.name] += 1
                self._count("tried", answer)
                return await self._attempt(lease, answer), answer
            self._step()
        raise self._fact or types.ProviderMisconfigured

    async def _attempt(self, lease: Lease, answer: _Answer) -> Attempt:
        """Return an attempt at an answer, or at the rest of it."""
        settings, call = self._settings, self._asked(answer.model)
        try:
            await self._means.vendors.load(answer.door.deployment)
            models = self._means.vendors.chat(answer.door.deployment)
            chunks = models.stream(call) if answer.token is None else models.resume(call, answer.token, answer.at)
        except BaseException:
            lease.end(NEITHER)
            raise
        first_token_s = patience.first_token_s(call, answer.model, usual_s=settings.first_token_s)
        deadlines = Deadlines(first_token_s=first_token_s, idle_s=settings.idle_s, whole_s=settings.answer_s)
        return Attempt(lease, chunks, deadlines)

    async def _admitted(self, model: Model) -> Lease | None:
        """Return a slot at one of a model's doors; None where none opens in time."""
        await self._rest()
        is_last = self._place == len(self._chain) - 1
        waited_s = 0.0
        while doors := self._wanted(model):
            found = await self._means.doors.admit(doors, self._tokens)
            if isinstance(found, Lease):
                return found
            wait_s = patience.spread_s(found.wait_s)
            waited_s += wait_s
            if waited_s > self._most_s(found, is_last=is_last) or not self._has(wait_s):
                self._learn(found)
                return None
            self._means.tally.add("waited", model.id, "")
            await asyncio.sleep(wait_s)
        return None

    def _most_s(self, closed: Closed, *, is_last: bool) -> float:
        """Return how long to wait for a door before going on to the next model."""
        if closed.why == SHUT and not is_last:
            return 0.0  # nobody knows whether it will open
        if closed.why == CROWDED and is_last:
            return self._settings.first_token_s  # a matter of our own, and others' answers end
        return patience.LAST_S if is_last else patience.FURTHER_S

    def _wanted(self, model: Model) -> list[Door]:
        """Return a model's doors: those least tried in this call first, and among them by chance and weight."""
        found = [one for one in self._means.deployments.get(model.vendor, []) if one.name not in self._shut]
        found.sort(key=lambda one: (self._tries[one.name], random.expovariate(one.weight)))
        return [Door(deployment, model.name) for deployment in found]

    def _failed(self, attempt: Attempt, answer: _Answer, error: types.ProviderError) -> None:
        """Decide what follows a fault; raises it where nothing may."""
        attempt.fail(error, rest_s=self._settings.breaker_rest_s)
        self._count("failed", answer, error.code)
        log.info("a vendor failed", door=answer.door.name, code=error.code, spoke=answer.spoke)
        is_passing = isinstance(error, patience.PASSING) or type(error) is types.ProviderError
        if is_passing and answer.can_go_on and answer.breaks < self._settings.vendor_tries:
            answer.breaks += 1
            self._pause(answer.breaks, error)
            return
        self._answer = None
        if answer.token is not None and not isinstance(error, types.AnswerLost):
            self._means.forsake(answer.door.deployment, answer.token)
        if answer.spoke or answer.is_old:
            self._void = error.code
        if answer.spoke:
            self._turns += 1
            if self._turns >= self._settings.vendor_tries or (attempt.is_over_time and not answer.is_old):
                raise error
        if answer.is_old:
            return  # what another answer needs was not tried yet
        if isinstance(error, types.ProviderRefused):
            raise error
        self._fact = patience.more_telling(self._fact, error)
        self._failures += 1
        if self._failures >= self._settings.vendor_tries:
            self._step()
        elif isinstance(error, types.ProviderMisconfigured):
            self._shut.add(answer.door.deployment.name)
        elif not isinstance(error, types.ProviderRateLimited):  # its door rests, and another key may be free
            self._pause(self._failures, error)

    def _step(self) -> None:
        """Go on to the next model."""
        self._place += 1
        self._failures, self._pause_s = 0, 0.0
        self._tries.clear()
        self._shut.clear()

    def _pause(self, failures: int, error: types.ProviderError) -> None:
        wish_s = min(error.retry_after_s or 0.0, patience.LAST_S)
        self._pause_s = max(patience.pause_s(failures), patience.spread_s(wish_s))

    async def _rest(self) -> None:
        """Wait before a further try; raises the fact where the call has no time for that."""
        pause_s, self._pause_s = self._pause_s, 0.0
        if pause_s and not self._has(pause_s) and self._fact is not None:
            raise self._fact
        await asyncio.sleep(pause_s)

    def _has(self, wait_s: float) -> bool:
        return self._ends is None or self._clock.time() + wait_s < self._ends

    def _learn(self, closed: Closed) -> None:
        self._fact = patience.more_telling(self._fact, closed.fact)

    def _found(self, token: Token) -> _Answer | None:
        """Return the answer that a token of ours is about; where its door is gone, the next one is another one."""
        for model in self._chain:
            for deployment in self._means.deployments.get(model.vendor, []):
                if (token.get("deployment"), token.get("model")) == (deployment.name, model.id):
                    return _Answer(model, Door(deployment, model.name), own(token))
        self._void = types.AnswerLost.code
        return None

    def _asked(self, model: Model) -> ChatCall:
        """Return the call as this model is asked."""
        wanted = self._settings.resumable
        is_long = min(self._call.output_tokens, model.output_tokens) > _LONG_TOKENS
        return msgspec.structs.replace(
            self._call,
            model=model.name,
            output_tokens=min(self._call.output_tokens, model.output_tokens),
            temperature=self._call.temperature if model.temperature else None,
            effort=self._call.effort if model.takes.effort else None,
            resumable=self._call.resumable
            and model.resumable
            and (wanted == "always" or (wanted == "long" and is_long)),
        )

    def _count(self, what: What, answer: _Answer, code: str = "") -> None:
        self._means.tally.add(what, answer.model.id, answer.door.deployment.name, code)


def own(token: Token) -> Token:
    """Return a token as its vendor's adapter knows it."""
    return {key: value for key, value in token.items() if key not in _OURS}


def _tokens(call: ChatCall) -> int:
    """Return about how many tokens a call sends, for what is left of a key's allowance: three characters are one."""
    words = sum(len(turn.words) for turn in call.turns)
    return words // 3 + 1
