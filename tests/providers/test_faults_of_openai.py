"""Both adapters of OpenAI's SDK under llmock's faults: each is a fact after one request, and none of them an end."""

from collections.abc import AsyncGenerator, Awaitable, Callable

import httpx2
import pytest

from providers import types
from providers.compatible import CompatibleChat
from providers.deployments import Vendor
from providers.openai import OpenAIChat
from tests.support.llmock import LLMock
from tests.support.openai_wire import OpenAIWire
from tests.support.serving import free_port

_CALL = types.ChatCall(model="wire-1", turns=[types.Turn("user", [types.Text("hi")])], output_tokens=50)
#: What is waited for where nothing comes; long enough for whatever comes.
_SHORT, _LONG = httpx2.Timeout(0.3), httpx2.Timeout(20.0)
_MODELS = {"openai": OpenAIChat, "compatible": CompatibleChat}

type _Fault = Callable[[LLMock], Awaitable[None]]


@pytest.fixture(params=["openai", "compatible"])
def vendor(request: pytest.FixtureRequest) -> Vendor:
    """Whose adapter it is."""
    return request.param


@pytest.fixture
async def models(vendor: Vendor, llmock: LLMock) -> AsyncGenerator[OpenAIChat | CompatibleChat]:
    """An adapter, talking to llmock."""
    connected = _MODELS[vendor](llmock.deployment(vendor), timeout=_LONG)
    yield connected
    await connected.close()


_FAULTS: dict[str, tuple[_Fault, type[types.ProviderError]]] = {
    "drop": (lambda llmock: llmock.break_stream("disconnect", after_chunks=3), types.AnswerTruncated),
    "drop at once": (lambda llmock: llmock.break_stream("disconnect", after_chunks=0), types.ProviderError),
    "truncate": (lambda llmock: llmock.break_stream("truncate", after_chunks=3), types.AnswerTruncated),
    "truncate at once": (lambda llmock: llmock.break_stream("truncate", after_chunks=0), types.AnswerTruncated),
    "corrupt": (lambda llmock: llmock.break_stream("malformed", after_chunks=3), types.AnswerTruncated),
    "stall": (lambda llmock: llmock.break_stream("stall", after_chunks=3, stall_seconds=30), types.ProviderTimedOut),
    "slow first token": (lambda llmock: llmock.slow_first_token(30), types.ProviderTimedOut),
    "no answer": (lambda llmock: llmock.delay(0.6), types.ProviderTimedOut),
    "400": (lambda llmock: llmock.fail(400), types.ProviderRefused),
    "401": (lambda llmock: llmock.fail(401), types.ProviderMisconfigured),
    "402": (lambda llmock: llmock.fail(402), types.ProviderMisconfigured),
    "403": (lambda llmock: llmock.fail(403), types.ProviderMisconfigured),
    "404": (lambda llmock: llmock.fail(404), types.ProviderMisconfigured),
    "408": (lambda llmock: llmock.fail(408), types.ProviderTimedOut),
    "409": (lambda llmock: llmock.fail(409), types.ProviderUnavailable),
    "413": (lambda llmock: llmock.fail(413), types.ProviderRefused),
    "422": (lambda llmock: llmock.fail(422), types.ProviderRefused),
    "429": (lambda llmock: llmock.fail(429), types.ProviderRateLimited),
    "500": (lambda llmock: llmock.fail(500), types.ProviderUnavailable),
    "502": (lambda llmock: llmock.fail(502), types.ProviderUnavailable),
    "503": (lambda llmock: llmock.fail(503), types.ProviderUnavailable),
    "529": (lambda llmock: llmock.fail(529), types.ProviderUnavailable),
}


@pytest.mark.parametrize("fault", _FAULTS)
async def test_every_fault_is_a_fact_after_one_request_and_no_end(
    models: OpenAIChat | CompatibleChat, llmock: LLMock, vendor: Vendor, fault: str
) -> None:
    break_it, fact = _FAULTS[fault]
    await break_it(llmock)
    chunks: list[types.Chunk] = []
    asked = models if fact is not types.ProviderTimedOut else _MODELS[vendor](llmock.deployment(vendor), timeout=_SHORT)
    with pytest.raises(fact):
        await _all(asked, chunks)
    await asked.close()
    assert not any(isinstance(chunk, types.Finish) for chunk in chunks)
    assert len(await llmock.requests()) == 1, "nothing is tried twice here"


async def test_the_request_after_a_fault_is_answered(models: OpenAIChat | CompatibleChat, llmock: LLMock) -> None:
    for break_it, fact in _FAULTS.values():
        if fact is not types.ProviderTimedOut:
            await break_it(llmock)
            with pytest.raises(fact):
                await _all(models, [])
            chunks: list[types.Chunk] = []
            await _all(models, chunks)
            assert isinstance(chunks[-1], types.Finish)


async def test_a_stream_broken_anywhere_before_its_end_is_never_whole(
    models: OpenAIChat | CompatibleChat, llmock: LLMock
) -> None:
    await llmock.reply("one two three", times=None)
    for kind in ("disconnect", "truncate", "malformed"):
        for place in range(4):
            await llmock.break_stream(kind, after_chunks=place)
            with pytest.raises(types.ProviderError) as told:
                await _all(models, [])
            assert told.value.retryable, f"{kind} after {place} events"


@pytest.mark.parametrize("wish", [1.0, 7.25])
async def test_the_wish_of_retry_after_is_kept(
    models: OpenAIChat | CompatibleChat, llmock: LLMock, wish: float
) -> None:
    for status in (429, 503):
        await llmock.fail(status, retry_after=wish)
        with pytest.raises(types.ProviderError) as told:
            await _all(models, [])
        assert told.value.retry_after_s == wish


async def test_a_refusal_is_told_without_the_key(llmock: LLMock) -> None:
    deployment = llmock.deployment("compatible", "sk-secret")
    connected = CompatibleChat(deployment, timeout=_LONG)
    await llmock.add("fail", status=400, message="Your key sk-secret may not do this", code="nope")
    with pytest.raises(types.ProviderRefused) as told:
        await _all(connected, [])
    await connected.close()
    assert told.value.facts == {"reason": "Your key *** may not do this"}
    assert told.value.__cause__ is None, "the SDK's own error, whose text has it, is not told"


async def test_a_server_that_is_not_there_is_unavailable(vendor: Vendor) -> None:
    deployment = LLMock(f"http://127.0.0.1:{free_port()}").deployment(vendor)
    connected = _MODELS[vendor](deployment, timeout=_LONG)
    with pytest.raises(types.ProviderUnavailable):
        await _all(connected, [])
    await connected.close()


async def test_no_money_is_no_rate_limit() -> None:
    async with OpenAIWire.serving() as wire:
        wire.refusals = [(429, {"retry-after": "20"})]
        models = OpenAIChat(wire.deployment(), timeout=_LONG)
        with pytest.raises(types.ProviderRateLimited) as told:
            await _all(models, [])
        assert told.value.retry_after_s == 20
        wire.refused_as = "insufficient_quota"
        wire.refusals = [(429, {"retry-after": "20"})]
        with pytest.raises(types.ProviderMisconfigured):
            await _all(models, [])
        await models.close()


async def _all(models: types.ChatModels, chunks: list[types.Chunk]) -> None:
    async for chunk in models.stream(_CALL):
        chunks.append(chunk)  # noqa: PERF401  what came before a fault is looked at
