"""The gateway on a real wire: what others' gateways got wrong when a stream broke, was counted, or was stopped."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from infra.settings import Settings
from providers import catalog, patience, types
from providers.catalog import Model
from providers.gateway import Gateway, Turned
from providers.types import TextDelta
from tests.support.cast import CALL, Heard, heard
from tests.support.vendor import Answer, Vendor

COUNTED = types.Counted(input_tokens=11, output_tokens=7)


@pytest.fixture
def settings(vendor: Vendor) -> Settings:
    """Settings of the vendor's models `wire-1` and `wire-2`, without Redis."""
    return Settings(
        compatible_url=vendor.url,
        compatible_models="wire-2,wire-1",
        compatible_api_key="key-one",
        idle_s=0.5,
        first_token_s=1.0,
    )


@pytest.fixture
async def gateway(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Gateway]:
    """The gateway to them, which pauses for a moment only."""
    monkeypatch.setattr(patience, "_BASE_S", 0.01)
    made = Gateway(settings)
    yield made
    await made.close()


@pytest.fixture
def chain(settings: Settings) -> list[Model]:
    """`wire-1`, then `wire-2`."""
    offered = catalog.offered(settings)
    return [offered["wire-1"], offered["wire-2"]]


def asked(vendor: Vendor) -> list[str]:
    """Return which models the vendor was asked for."""
    return [request["model"] for request in vendor.requests]


def by_model(**answers: Answer) -> Any:
    """Return what answers each model in its own way."""

    def answer(request: dict[str, Any]) -> Answer:
        return answers[request["model"].replace("-", "_")]

    return answer


@pytest.mark.parametrize("end", ["cut", "drop", "garbage", "error event"])
async def test_a_stream_that_breaks_after_its_first_words_falls_back_and_says_so(
    gateway: Gateway, chain: list[Model], vendor: Vendor, end: Any
) -> None:
    """Others did not fall back at all once a stream had begun: BerriAI/litellm #6957, #28216."""
    vendor.otherwise = by_model(wire_1=Answer(deltas=["half ", "an "], end=end), wire_2=Answer(deltas=["whole"]))
    vendor.script = [Answer(deltas=["half ", "an "], end=end)] + [Answer(status=503)] * 2
    found = await heard(gateway, chain)
    assert (found.text, [turned.model for turned in found.turned]) == ("whole", ["wire-2"])
    assert asked(vendor) == ["wire-1", "wire-1", "wire-1", "wire-2"]
    assert found.finish == types.Finish(reason="stop", counted=COUNTED)


async def test_a_stream_that_breaks_is_tried_again_and_not_only_before_its_first_word(
    gateway: Gateway, chain: list[Model], vendor: Vendor
) -> None:
    """Others' retries never apply once a stream has begun: BerriAI/litellm #29808."""
    vendor.script = [Answer(deltas=["one "], end="drop"), Answer(deltas=["two "], end="cut")]
    found = await heard(gateway, chain[:1])
    assert found.text == "Hello from the wire."
    assert [turned.model for turned in found.turned] == ["wire-1", "wire-1"]


@pytest.mark.parametrize("end", ["cut", "drop"])
async def test_a_chain_of_one_falls_back_to_nobody(
    gateway: Gateway, chain: list[Model], vendor: Vendor, end: Any
) -> None:
    """Others fell back although that was switched off: BerriAI/litellm #19077."""
    vendor.otherwise = lambda _request: Answer(deltas=["half"], end=end)
    found = await heard(gateway, chain[:1])
    assert isinstance(found.fact, (types.AnswerTruncated, types.ProviderUnavailable))
    assert found.finish is None
    assert set(asked(vendor)) == {"wire-1"}


@pytest.mark.parametrize("deltas", [[], [""], ["Hello", " from"]])
async def test_whatever_was_said_before_a_fallback_is_there_once(
    gateway: Gateway, chain: list[Model], vendor: Vendor, deltas: list[str]
) -> None:
    """Others said it twice where they believed that nothing had been said: BerriAI/litellm PR #32835."""
    vendor.script = [Answer(deltas=deltas, end="drop")]
    said: list[Any] = []
    async with aclosing(gateway.stream(chain, CALL)) as chunks:
        said = [one async for one in chunks]
    turns = [place for place, one in enumerate(said) if isinstance(one, Turned)]
    assert len(turns) == (1 if "".join(deltas) else 0), "what had no words needs not be void"
    valid = said[turns[0] :] if turns else said
    assert "".join(one.text for one in valid if isinstance(one, TextDelta)) == "Hello from the wire."


@pytest.mark.parametrize("end", ["usage on the last choice", "whole"])
async def test_usage_is_read_from_whichever_chunk_it_rides_on(
    gateway: Gateway, chain: list[Model], vendor: Vendor, end: Any
) -> None:
    """Others dropped it where the last chunk had choices, and charged four times as much: BerriAI/litellm #36168."""
    vendor.script = [Answer(end=end)]
    found = await heard(gateway, chain)
    assert found.finish == types.Finish(reason="stop", counted=COUNTED)


async def test_what_is_charged_is_the_answer_s_own_count_and_not_that_of_the_one_that_broke(
    gateway: Gateway, chain: list[Model], vendor: Vendor
) -> None:
    vendor.script = [Answer(deltas=["x"] * 50, end="drop"), Answer(input_tokens=20, output_tokens=3)]
    found = await heard(gateway, chain)
    assert found.finish
    assert found.finish.counted == types.Counted(input_tokens=20, output_tokens=3)


@pytest.mark.parametrize("how", ["closed", "canceled", "left"])
async def test_who_stops_an_answer_stops_its_making(
    gateway: Gateway, chain: list[Model], vendor: Vendor, how: str
) -> None:
    """Others' stop left the vendor generating, and paid for: vercel/ai #6502, #7665."""
    vendor.otherwise = lambda _request: Answer(deltas=["word "] * 100_000, pause_s=0.001)
    found = Heard()

    async def read() -> None:
        async with aclosing(gateway.stream(chain, CALL)) as chunks:
            async for said in chunks:
                found.hear(said)
                if how == "closed" and found.text:
                    return
                if how == "left" and found.text:
                    raise LookupError

    reading = asyncio.create_task(read())
    await vendor.speaking.wait()
    if how == "canceled":
        reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    async with asyncio.timeout(5):
        await vendor.left()
    assert found.finish is None
    assert len(vendor.requests) == 1
    vendor.otherwise = lambda _request: Answer()
    assert (await heard(gateway, chain)).finish, "and its place is free"


async def test_no_connection_and_no_task_is_left_after_many_that_stopped_early(
    gateway: Gateway, chain: list[Model], vendor: Vendor
) -> None:
    vendor.otherwise = lambda _request: Answer(deltas=["word "] * 1000, pause_s=0.01)
    before = asyncio.all_tasks()

    async def stop() -> None:
        async with aclosing(gateway.stream(chain, CALL)) as chunks:
            async for said in chunks:
                if isinstance(said, TextDelta):
                    return

    await asyncio.gather(*(stop() for _ in range(40)))
    async with asyncio.timeout(5):
        await vendor.left()
    await asyncio.sleep(0.05)
    assert {task for task in asyncio.all_tasks() - before if not task.done()} == set()
    assert not +gateway._doors._calls  # pyright: ignore[reportPrivateUsage]


async def test_a_vendor_that_falls_silent_is_left_for_another_try(
    gateway: Gateway, chain: list[Model], vendor: Vendor
) -> None:
    vendor.script = [Answer(hold=asyncio.Event())]
    found = await heard(gateway, chain)
    assert found.turned == [Turned(model="wire-1", because="provider_timed_out")]
    assert found.text == "Hello from the wire."


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_request_that_is_at_fault_itself_is_sent_once(
    gateway: Gateway, chain: list[Model], vendor: Vendor, status: int
) -> None:
    vendor.otherwise = lambda _request: Answer(status=status)
    found = await heard(gateway, chain)
    assert isinstance(found.fact, types.ProviderRefused)
    assert len(vendor.requests) == 1


async def test_a_wrong_key_is_passed_over_for_the_right_one(settings: Settings, vendor: Vendor) -> None:
    gateway = Gateway(msgspec.structs.replace(settings, compatible_api_key="key-one,key-two"))
    chain = [catalog.offered(settings)["wire-1"]]
    vendor.script = [Answer(status=401)]
    for _ in range(5):
        assert (await heard(gateway, chain)).finish
    assert len(vendor.requests) == 6, "the wrong one was asked once"
    await gateway.close()
