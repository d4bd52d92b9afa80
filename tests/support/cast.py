"""Vendors in this process that answer by a script, so that a test rules what befalls each attempt, and when."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Literal

from msgspec import Struct

from infra.settings import Settings
from providers import types
from providers.catalog import Model, Takes
from providers.deployments import Deployment
from providers.gateway import Gateway, Said, Serving, Turned
from providers.types import Chunk, Finish, Opened, Resumable, TextDelta, Thought, ToolCall
from providers.vendors import Vendors

COUNTED = types.Counted(input_tokens=11, output_tokens=7)
CALL = types.ChatCall(model="", turns=[types.Turn("user", [types.Text("hi")])], output_tokens=5000, resumable=True)
#: Three vendors, of which OpenAI has two keys.
SETTINGS = Settings(
    openai_api_key="key-one,key-two", anthropic_api_key="key-three", google_api_key="key-four", breaker_failures=50
)


def model(name: str, vendor: Any = "openai", *, resumable: bool = False, **takes: bool) -> Model:
    """Return a model."""
    return Model(
        id=name,
        vendor=vendor,
        vendor_id=f"{name}-vendor",
        en=name,
        ar=name,
        context_tokens=100_000,
        output_tokens=4_000,
        tier="medium",
        resumable=resumable,
        takes=Takes(**({"effort": True, "temperature": True} | takes)),
    )


class Cut(Struct, frozen=True):
    """What befalls one attempt after so many chunks: a fact, a clean end, silence, or nothing."""

    after: int = 0
    fault: types.ProviderError | Literal["end", "silence", "none"] = "none"
    #: Seconds before each chunk.
    pause_s: float = 0.0
    limits: types.Limits = types.Limits()


class Asked(Struct, frozen=True):
    """An attempt that came, and when."""

    how: Literal["stream", "resume"]
    deployment: str
    call: types.ChatCall
    at_s: float
    after: str | int | None = None

    @property
    def model(self) -> str:
        """The model's id."""
        return self.call.model.removesuffix("-vendor")


class Cast(Vendors):
    """Every vendor; attempt after attempt takes the next of `cuts`, and goes well when there are none left.

    No two answers have a word in common.
    """

    def __init__(self, cuts: Sequence[Cut] = (), *, words: int = 4, has_tools: bool = False) -> None:
        """Let answers have so many words, and between them a thought and tool calls."""
        super().__init__()
        self.cuts = list(cuts)
        self.words = words
        self.has_tools = has_tools
        self.answers: list[list[Chunk]] = []
        self.asked: list[Asked] = []
        self.abandoned: list[types.Token] = []
        self.lost: set[int] = set()
        self.speaking = 0
        self.counted = COUNTED

    async def load(self, deployment: Deployment) -> None:
        """There is nothing to get ready."""

    def chat(self, deployment: Deployment) -> types.ChatModels:
        """Return the actor behind a deployment."""
        return _Actor(self, deployment)

    async def close(self) -> None:
        """Nothing is open."""

    def compose(self, call: types.ChatCall) -> list[Chunk]:
        """Make a new answer, which is kept."""
        n = len(self.answers)
        made: list[Chunk] = [Resumable(token={"answer": n})] if call.resumable else []
        for word in range(self.words):
            made.append(TextDelta(f"{n}.{word} ", at=len(made) if call.resumable else None))
            if self.has_tools and word == self.words // 2:
                made += [Thought(vendor="cast", data=f"{n}"), ToolCall(id=f"{n}", name="look", arguments="{}")]
        made.append(Finish(reason="stop", counted=self.counted))
        self.answers.append(made)
        return made

    def texts(self) -> list[str]:
        """Return the whole text of every answer that was begun."""
        return ["".join(chunk.text for chunk in made if isinstance(chunk, TextDelta)) for made in self.answers]


class _Actor:
    def __init__(self, cast: Cast, deployment: Deployment) -> None:
        self._cast = cast
        self._deployment = deployment

    async def stream(self, call: types.ChatCall) -> AsyncGenerator[Chunk]:
        self._note("stream", call)
        async with aclosing(self._play(self._cast.compose(call))) as chunks:
            async for chunk in chunks:
                yield chunk

    async def resume(self, call: types.ChatCall, token: types.Token, after: str | int | None) -> AsyncGenerator[Chunk]:
        self._note("resume", call, after)
        number: int = token["answer"]
        if number in self._cast.lost:
            raise types.AnswerLost
        made = self._cast.answers[number]
        assert after is None or isinstance(after, int)
        async with aclosing(self._play(made if after is None else made[after + 1 :])) as chunks:
            async for chunk in chunks:
                yield chunk

    async def abandon(self, token: types.Token) -> None:
        self._cast.abandoned.append(token)

    async def close(self) -> None:
        pass

    def _note(self, how: Literal["stream", "resume"], call: types.ChatCall, after: str | int | None = None) -> None:
        now_s = asyncio.get_running_loop().time()
        self._cast.asked.append(Asked(how, self._deployment.name, call, now_s, after))

    async def _play(self, chunks: Sequence[Chunk]) -> AsyncGenerator[Chunk]:
        cut = self._cast.cuts.pop(0) if self._cast.cuts else Cut()
        self._cast.speaking += 1
        try:
            for n, chunk in enumerate([Opened(limits=cut.limits), *chunks]):
                await asyncio.sleep(cut.pause_s)
                if n == cut.after and cut.fault != "none":
                    if cut.fault == "silence":
                        await asyncio.sleep(1e6)
                    elif cut.fault != "end":
                        raise cut.fault
                    return
                yield chunk
        finally:
            self._cast.speaking -= 1


class Heard(Struct):
    """What is left of an answer for somebody who heeds every `Turned`."""

    said: list[Said] = []
    text: str = ""
    calls: list[str] = []
    served: list[str] = []
    turned: list[Turned] = []
    finish: Finish | None = None
    fact: types.ProviderError | None = None

    def hear(self, said: Said) -> None:
        """Heed one."""
        assert self.finish is None, "nothing comes after the end"
        self.said.append(said)
        match said:
            case Turned():
                self.turned.append(said)
                self.text, self.calls = "", []
            case Serving():
                self.served.append(said.model)
            case TextDelta():
                self.text += said.text
            case ToolCall():
                self.calls.append(said.id)
            case Finish():
                self.finish = said
            case _:
                pass


async def heard(gateway: Gateway, chain: Sequence[Model], call: types.ChatCall = CALL, **options: Any) -> Heard:
    """Return what is heard of one call; its fact, if it has one, is not raised."""
    found = Heard()
    try:
        async for said in gateway.stream(chain, call, **options):
            found.hear(said)
    except types.ProviderError as fact:
        found.fact = fact
    return found


async def played(
    cast: Cast,
    chain: Sequence[Model],
    settings: Settings = SETTINGS,
    deed: Callable[[Gateway], Any] | None = None,
    **options: Any,
) -> Heard:
    """Return what is heard of one call to `cast`, of which nothing goes on afterwards."""
    gateway = Gateway(settings, vendors=cast)
    found = await heard(gateway, chain, **options)
    await gateway.close()
    assert cast.speaking == 0, "somebody speaks to nobody"
    assert not +gateway._doors._calls, "a slot was not given back"  # pyright: ignore[reportPrivateUsage]
    return found
