"""Answers that outlive their connection, through the gateway and on the wire: made once, said once, byte by byte."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from infra.settings import Settings
from providers import patience, types
from providers.catalog import Model
from providers.gateway import Gateway
from providers.types import Resumable, TextDelta
from tests.support.cast import CALL, heard, model
from tests.support.interactions_wire import WORDS, InteractionsWire
from tests.support.openai_wire import OpenAIWire, Script
from tests.support.sse_wire import Fault

#: A surrogate pair cut in two, as models cut them, and Arabic.
_DELTAS = ["مرحبًا", " ", "\ud83d", "\ude00", "\n\n", "end", "\u0000", "!"]
_TEXT = "مرحبًا 😀\n\nend\ufffd!"
_GPT = model("gpt", "openai", resumable=True)
_GEMINI = model("gemini", "google", resumable=True)
#: created, status, start, its words, stop, completed.
_EVENTS = len(WORDS) + 5


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pause for a moment only."""
    monkeypatch.setattr(patience, "_BASE_S", 0.001)


@pytest.fixture
async def openai() -> AsyncGenerator[OpenAIWire]:
    """A small OpenAI."""
    async with OpenAIWire.serving() as served:
        yield served


@pytest.fixture
async def google() -> AsyncGenerator[InteractionsWire]:
    """A small server of Gemini's Interactions."""
    async with InteractionsWire.serving() as served:
        yield served


@pytest.fixture
async def gateways(openai: OpenAIWire, google: InteractionsWire) -> AsyncGenerator[tuple[Gateway, Gateway]]:
    """The gateways of two processes, to both."""
    settings = Settings(openai_base_url=openai.url, openai_api_key="k", google_base_url=google.url, google_api_key="k")
    made = (Gateway(settings), Gateway(settings))
    yield made
    for one in made:
        await one.close()


async def test_openai_dropped_after_any_event_is_gone_on_with(
    gateways: tuple[Gateway, Gateway], openai: OpenAIWire
) -> None:
    openai.scripts = [Script(deltas=_DELTAS)]
    assert (await heard(gateways[0], [_GPT])).text == _TEXT
    events = len(openai.made["resp_0"].events)
    for cut in range(1, events + 1):
        openai.scripts, openai.cuts = [Script(deltas=_DELTAS)], [cut, 1]  # and once more where it is gone on with
        found = await heard(gateways[0], [_GPT])
        assert (found.text, found.turned, found.finish is not None) == (_TEXT, [], True), f"after {cut} of {events}"
        assert sum(isinstance(said, Resumable) for said in found.said) == 1
    assert openai.generations == 1 + events, "every answer is made once"


async def test_google_dropped_after_any_event_is_gone_on_with(
    gateways: tuple[Gateway, Gateway], google: InteractionsWire
) -> None:
    for cut in range(1, _EVENTS + 1):
        google.faults = [Fault(kind="drop", after=cut), Fault(kind="truncate", after=1)]
        found = await heard(gateways[0], [_GEMINI])
        assert (found.text, found.turned) == ("".join(WORDS), []), f"after {cut} of {_EVENTS}"
        assert found.finish
        assert sum(isinstance(said, Resumable) for said in found.said) == 1
    assert len(google.journal) == _EVENTS, "every answer is made once"


async def _left(gateway: Gateway, one: Model) -> types.Token:
    """Begin an answer of a model as a process does that dies after its first words; returns what it kept."""
    token: types.Token = {}
    async with aclosing(gateway.stream([one], CALL)) as chunks:
        async for said in chunks:
            match said:
                case Resumable():
                    token = said.token
                case TextDelta():
                    break
                case _:
                    pass
    return token


async def test_another_process_says_the_answer_of_a_dead_one_from_its_beginning(
    gateways: tuple[Gateway, Gateway], openai: OpenAIWire, google: InteractionsWire
) -> None:
    openai.scripts = [Script(deltas=_DELTAS)]
    for one, text in ((_GPT, _TEXT), (_GEMINI, "".join(WORDS))):
        token = await _left(gateways[0], one)
        found = await heard(gateways[1], [one], token=token)
        assert (found.text, found.turned, found.served) == (text, [], [one.id])
        assert found.finish
    assert (openai.generations, len(google.journal)) == (1, 1)


async def test_an_answer_that_is_lost_is_made_anew_and_that_is_said(
    gateways: tuple[Gateway, Gateway], openai: OpenAIWire, google: InteractionsWire
) -> None:
    for one in (_GPT, _GEMINI):
        token = await _left(gateways[0], one)
        openai.made.clear()
        google.journal.clear()
        found = await heard(gateways[1], [one], token=token)
        assert [turned.because for turned in found.turned] == ["answer_lost"]
        assert found.finish
        kept = [said.token for said in found.said if isinstance(said, Resumable)]
        assert len(kept) == 1, "how the new one is found again"
