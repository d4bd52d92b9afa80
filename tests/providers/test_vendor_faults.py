"""Every way in which a vendor fails, at each adapter: it is a fact, of the right kind, and never an end."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from typing import Literal, cast

import pytest

from infra.errors import PulseError
from providers import anthropic, google, types
from tests.support.interactions_wire import InteractionsWire
from tests.support.llmock import LLMock, StreamFault
from tests.support.serving import free_port
from tests.support.sse_wire import Break, Fault, deployment

Vendor = Literal["anthropic", "google"]
CALL = types.ChatCall(model="wire-1", turns=[types.Turn("user", [types.Text("tell me of the wire")])], output_tokens=50)
INTERACTING = types.ChatCall(model="wire-1", turns=CALL.turns, output_tokens=50, resumable=True)
SILENCE_S = 0.2
KEY = "a-secret-key"

STATUSES: list[tuple[int, type[types.ProviderError], bool]] = [
    (400, types.ProviderRefused, False),
    (401, types.ProviderMisconfigured, False),
    (402, types.ProviderMisconfigured, False),
    (403, types.ProviderMisconfigured, False),
    (404, types.ProviderMisconfigured, False),
    (408, types.ProviderTimedOut, True),
    (413, types.ProviderRefused, False),
    (422, types.ProviderRefused, False),
    (429, types.ProviderRateLimited, True),
    (500, types.ProviderUnavailable, True),
    (502, types.ProviderUnavailable, True),
    (503, types.ProviderUnavailable, True),
    (504, types.ProviderTimedOut, True),
    (529, types.ProviderUnavailable, True),
]
BREAKS: dict[StreamFault, type[types.ProviderError]] = {
    "disconnect": types.AnswerTruncated,
    "truncate": types.AnswerTruncated,
    "malformed": types.AnswerTruncated,
}
#: llmock's answer has as many events at the least; the fault comes instead of the one after so many.
EVENTS: dict[Vendor, int] = {"anthropic": 8, "google": 4}


@pytest.fixture
async def adapters(llmock: LLMock) -> AsyncGenerator[dict[Vendor, types.ChatModels]]:
    """The adapters, talking to llmock."""
    connected: dict[Vendor, types.ChatModels] = {
        "anthropic": anthropic.connect(llmock.deployment("anthropic", KEY), silence_s=SILENCE_S),
        "google": google.connect(llmock.deployment("google", KEY), silence_s=SILENCE_S),
    }
    yield connected
    for models in connected.values():
        await models.close()


@pytest.fixture(scope="module")
def port() -> int:
    """Where `wire` is."""
    return free_port()


@pytest.fixture
async def wire(port: int) -> AsyncGenerator[InteractionsWire]:
    """A server of interactions."""
    async with InteractionsWire.serving(port) as serving:
        yield serving


@pytest.fixture(scope="module")
def interactions(port: int) -> Generator[types.ChatModels]:
    """The adapter, talking to `wire`."""
    connected = google.connect(deployment("google", port), silence_s=SILENCE_S)
    yield connected
    asyncio.run(connected.close())


async def fact(models: types.ChatModels, call: types.ChatCall) -> types.ProviderError:
    """Return the fact by which an answer ends; no fault may tell the key."""
    chunks: list[types.Chunk] = []
    with pytest.raises(types.ProviderError) as told:
        await _listen(models, call, chunks)
    assert not any(isinstance(chunk, types.Finish) for chunk in chunks)
    assert KEY not in f"{told.value} {told.value.facts}"
    return told.value


async def _listen(models: types.ChatModels, call: types.ChatCall, chunks: list[types.Chunk]) -> None:
    async for chunk in models.stream(call):
        chunks.append(chunk)  # noqa: PERF401


async def test_every_status_is_a_fact_after_one_request(
    llmock: LLMock, adapters: dict[Vendor, types.ChatModels]
) -> None:
    for models in adapters.values():
        for status, kind, retryable in STATUSES:
            await llmock.reset()
            await llmock.fail(status, retry_after=3 if retryable else None)
            error = await fact(models, CALL)
            assert (type(error), error.retryable) == (kind, retryable), status
            assert error.retry_after_s == (3 if retryable else None), status
            assert len(await llmock.requests()) == 1, "only the gateway tries again"


@pytest.mark.parametrize("vendor", ["anthropic", "google"])
async def test_a_stream_that_breaks_after_any_event_is_a_fact(
    llmock: LLMock, adapters: dict[Vendor, types.ChatModels], vendor: Vendor
) -> None:
    for kind, expected in BREAKS.items():
        for after in range(EVENTS[vendor]):
            await llmock.break_stream(kind, after_chunks=after)
            error = await fact(adapters[vendor], CALL)
            assert (type(error), error.retryable) == (expected, True), (kind, after)


@pytest.mark.parametrize("vendor", ["anthropic", "google"])
async def test_a_vendor_that_falls_silent_is_given_up(
    llmock: LLMock, adapters: dict[Vendor, types.ChatModels], vendor: Vendor
) -> None:
    await llmock.break_stream("stall", after_chunks=2, stall_seconds=20)
    assert type(await fact(adapters[vendor], CALL)) is types.ProviderTimedOut
    await llmock.slow_first_token(20)
    assert type(await fact(adapters[vendor], CALL)) is types.ProviderTimedOut
    await llmock.delay(20)
    assert type(await fact(adapters[vendor], CALL)) is types.ProviderTimedOut


async def test_a_vendor_that_is_not_there_is_unavailable(adapters: dict[Vendor, types.ChatModels]) -> None:
    nowhere = free_port()
    for models in (anthropic.connect(deployment("anthropic", nowhere)), google.connect(deployment("google", nowhere))):
        assert type(await fact(models, CALL)) is types.ProviderUnavailable
        if isinstance(models, google.Gemini):
            assert type(await fact(models, INTERACTING)) is types.ProviderUnavailable
        await models.close()


async def test_every_status_of_an_interaction_is_a_fact_after_one_request(
    interactions: types.ChatModels, wire: InteractionsWire
) -> None:
    for status, kind, retryable in STATUSES:
        wire.requests.clear()
        wire.faults = [Fault(status=status, headers={"retry-after": "3"} if retryable else {})]
        error = await fact(interactions, INTERACTING)
        assert (type(error), error.retryable) == (kind, retryable), status
        assert error.retry_after_s == (3 if retryable else None), status
        assert len(wire.requests) == 1, "the SDK alone would try five times"
    assert wire.journal == []


async def test_an_interaction_that_breaks_after_any_event_is_a_fact(
    interactions: types.ChatModels, wire: InteractionsWire
) -> None:
    _ = [chunk async for chunk in interactions.stream(INTERACTING)]
    kinds: list[tuple[Break, type[PulseError]]] = [
        ("drop", types.AnswerTruncated),
        ("truncate", types.AnswerTruncated),
        ("corrupt", types.AnswerTruncated),
    ]
    for kind, expected in kinds:
        for after in range(0, len(wire.journal[0].events), 3):
            wire.faults = [Fault(kind=kind, after=after)]
            error = await fact(interactions, INTERACTING)
            assert (type(error), error.retryable) == (expected, True), (kind, after)


async def test_an_interaction_that_falls_silent_is_given_up(
    interactions: types.ChatModels, wire: InteractionsWire
) -> None:
    for after in (0, 4):
        wire.faults = [Fault(kind="stall", after=after)]
        assert type(await fact(interactions, INTERACTING)) is types.ProviderTimedOut


async def test_a_whole_answer_is_no_fault(llmock: LLMock, adapters: dict[Vendor, types.ChatModels]) -> None:
    for vendor, models in adapters.items():
        await llmock.reset()
        chunks = [chunk async for chunk in models.stream(CALL)]
        assert isinstance(chunks[-1], types.Finish)
        (request,) = await llmock.requests()
        assert cast("int", request["chunks_sent"]) >= EVENTS[vendor], "or the faults above would come too late"
