"""Vendors' own batches: what goes there, what of it comes back, and what is known of it when an answer is lost."""

import json
from collections.abc import AsyncGenerator, Generator
from datetime import UTC, datetime, timedelta

import anthropic
import httpx2
import openai
import pytest

from providers import anthropic_batches, openai_batches
from providers.batches import Answer, Ask, Batches, BatchInDoubt, Mark
from providers.deployments import Deployment, Vendor
from providers.types import (
    AnswerLost,
    AnswerTruncated,
    ChatCall,
    Counted,
    Finish,
    ProviderMisconfigured,
    ProviderRateLimited,
    ProviderRefused,
    ProviderUnavailable,
    Text,
    TextDelta,
    Turn,
)
from tests.support.serving import free_port
from tests.support.vendor_batches import INPUT_TOKENS, OUTPUT_TOKENS, WRITTEN_TOKENS, VendorBatches

_PATHS = {"openai": "/v1", "anthropic": "/anthropic"}


@pytest.fixture
def upstream() -> Generator[VendorBatches]:
    """Both vendors' batches."""
    with VendorBatches.serving() as served:
        yield served


def connect(vendor: Vendor, url: str) -> Batches:
    """Return a vendor's batches at a server of ours."""
    deployment = Deployment(name="d", vendor=vendor, base_url=url + _PATHS[vendor], key="sk-secret")
    return (openai_batches if vendor == "openai" else anthropic_batches).connect(deployment)


@pytest.fixture(params=["openai", "anthropic"])
async def door(request: pytest.FixtureRequest, upstream: VendorBatches) -> AsyncGenerator[Batches]:
    """The batches of each of the vendors."""
    batches = connect(request.param, upstream.url)
    yield batches
    await batches.close()


def ask(number: int, said: str) -> Ask:
    """Return a request that says something."""
    turns = [Turn("system", [Text("كن موجزا")]), Turn("user", [Text(said)])]
    return Ask(custom_id=f"name-{number}", call=ChatCall(model="m-1", turns=turns, output_tokens=50))


async def sent(door: Batches, *said: str, name: str = "name") -> str:
    """Hand requests over."""
    return await door.submit(name, await door.upload(name, [ask(n, each) for n, each in enumerate(said)]))


async def answers(door: Batches, batch_id: str) -> dict[str, Answer]:
    """Return the answers of a batch that is over."""
    assert await door.is_over(batch_id)
    return {answer.custom_id: answer async for answer in door.answers(batch_id)}


async def test_every_request_comes_back_under_its_name(door: Batches) -> None:
    told = await answers(door, await sent(door, "مرحبا\u2028بك", "refuse", "overload", "expire", "cancel"))
    assert {name: answer.outcome for name, answer in told.items()} == {
        "name-0": "succeeded",
        "name-1": "refused",
        "name-2": "undone",
        "name-3": "undone",
        "name-4": "canceled",
    }
    counted = Counted(
        input_tokens=INPUT_TOKENS,
        output_tokens=OUTPUT_TOKENS,
        written_tokens=WRITTEN_TOKENS,
        written_long_tokens=0 if isinstance(door, openai_batches.OpenAIBatches) else 1,
        reasoning_tokens=2,
    )
    assert list(told["name-0"].said) == [TextDelta("echo: مرحبا\u2028بك"), Finish(reason="stop", counted=counted)]
    assert isinstance(told["name-1"].error, ProviderRefused)
    assert "it will not be said" in str(told["name-1"].error)


async def test_a_batch_whose_answer_was_lost_is_found(door: Batches, upstream: VendorBatches) -> None:
    before = datetime.now(UTC)
    other = await sent(door, "another", "one", name="other")
    mark = Mark(name="name", requests=2, sent_at=before, others=[other])
    assert await door.find(mark) is None
    upstream.faults["POST batches"] = ["after"]
    with pytest.raises(BatchInDoubt):
        await sent(door, "one", "two")
    found = await door.find(mark)
    assert found is not None
    assert found.id == upstream.batches[-1].id != other
    assert found.is_sure is isinstance(door, openai_batches.OpenAIBatches)


async def test_a_batch_of_another_time_or_size_is_not_taken_for_ours(upstream: VendorBatches) -> None:
    door = connect("anthropic", upstream.url)
    await sent(door, "one", "two")
    now = datetime.now(UTC)
    assert await door.find(Mark(name="name", requests=3, sent_at=now)) is None
    assert await door.find(Mark(name="name", requests=2, sent_at=now + timedelta(minutes=5))) is None
    assert await door.find(Mark(name="name", requests=2, sent_at=now - timedelta(hours=1))) is None
    assert await door.find(Mark(name="name", requests=2, sent_at=now)) is not None
    await door.close()


async def test_it_is_looked_for_through_all_pages(door: Batches, upstream: VendorBatches) -> None:
    batch_id = await sent(door, "mine")
    for _ in range(120):
        upstream.add(upstream.batches[0].vendor, [{"custom_id": "x"}, {"custom_id": "y"}], key="Bearer sk-secret")
    found = await door.find(Mark(name="name", requests=1, sent_at=datetime.now(UTC)))
    assert found is not None
    assert found.id == batch_id


@pytest.mark.parametrize(
    ("fault", "fact"),
    [
        ("before", BatchInDoubt),
        ("after", BatchInDoubt),
        (500, BatchInDoubt),
        (529, BatchInDoubt),
        (408, BatchInDoubt),
        (429, ProviderRateLimited),
        (400, ProviderRefused),
        (413, ProviderRefused),
        (401, ProviderMisconfigured),
        (404, ProviderMisconfigured),
    ],
)
async def test_only_what_cannot_have_been_taken_is_no_doubt(
    door: Batches, upstream: VendorBatches, fault: str | int, fact: type[Exception]
) -> None:
    upstream.faults["POST batches"] = [fault]  # type: ignore[list-item]
    with pytest.raises(fact) as caught:
        await sent(door, "one")
    assert type(caught.value) is fact
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
async def test_a_vendor_that_is_not_there_has_taken_nothing(vendor: Vendor) -> None:
    door = connect(vendor, f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ProviderUnavailable):
        await door.submit("name", "file-1" if vendor == "openai" else [])
    await door.close()


async def test_a_batch_that_is_gone_is_lost(door: Batches) -> None:
    with pytest.raises(AnswerLost):
        await door.is_over("msgbatch_9")


async def test_results_that_end_too_early_are_not_taken_for_all(door: Batches, upstream: VendorBatches) -> None:
    batch_id = await sent(door, "one", "two", "three")
    upstream.cut_lines = 1
    with pytest.raises(AnswerTruncated):
        await answers(door, batch_id)


async def test_a_batch_is_stopped_once(door: Batches, upstream: VendorBatches) -> None:
    upstream.is_quick = False
    batch_id = await sent(door, "one")
    await door.cancel(batch_id)
    assert upstream.batches[0].state == "canceling"
    assert await door.is_over(batch_id)
    await door.cancel(batch_id)
    assert upstream.calls["POST cancel"] == 1


async def test_a_batch_that_failed_as_a_whole_has_no_answers(upstream: VendorBatches) -> None:
    upstream.fails_whole = True
    door = connect("openai", upstream.url)
    assert await answers(door, await sent(door, "one")) == {}
    await door.close()


async def test_the_official_clients_speak_with_the_stand_in(upstream: VendorBatches) -> None:
    """What is tested against it is worth as much as it is like the vendors."""
    async with openai.AsyncOpenAI(
        base_url=f"{upstream.url}/v1", api_key="k", _strict_response_validation=True
    ) as client:
        body = {"model": "m", "input": [{"content": "x"}]}
        line = json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body})
        file = await client.files.create(file=("a.jsonl", line.encode()), purpose="batch")
        batch = await client.batches.create(
            input_file_id=file.id, endpoint="/v1/responses", completion_window="24h", metadata={"a": "b"}
        )
        assert [each.id async for each in client.batches.list(limit=1)] == [batch.id]
        batch = await client.batches.retrieve(batch.id)
        assert (batch.status, batch.metadata) == ("completed", {"a": "b"})
        assert batch.output_file_id is not None
        assert '"custom_id": "a"' in (await client.files.content(batch.output_file_id)).text
        with pytest.raises(openai.NotFoundError):
            await client.batches.retrieve("batch_9")
    async with anthropic.AsyncAnthropic(
        base_url=f"{upstream.url}/anthropic", api_key="k", _strict_response_validation=True
    ) as client:
        made = await client.messages.batches.create(
            requests=[
                {
                    "custom_id": "a",
                    "params": {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]},
                }
            ]
        )
        assert (await client.messages.batches.retrieve(made.id)).processing_status == "ended"
        assert [each.id async for each in client.messages.batches.list(limit=1)] == [made.id]
        results = [each async for each in await client.messages.batches.results(made.id)]
        assert [(each.custom_id, each.result.type) for each in results] == [("a", "succeeded")]
        assert (await client.messages.batches.cancel(made.id)).id == made.id


async def test_no_reply_in_another_vendors_shape_is_taken(upstream: VendorBatches) -> None:
    async with httpx2.AsyncClient() as client:
        assert (await client.get(f"{upstream.url}/v1/nothing")).status_code == 404
