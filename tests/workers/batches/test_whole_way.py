"""A batch goes its whole way with a real tender and a real worker, and its jobs can be followed as any others."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID

import msgspec

from infra import ground as grounds
from infra import streams
from infra.ground import Ground
from infra.models import Account, Batch
from infra.settings import Settings
from infra.streams import START
from tests.support.batches import assert_exact, batch_of, cancel, flights, put, told
from tests.support.chats import Client, events
from tests.support.vendor import Answer, Vendor
from tests.support.work import working
from workers import tend

SPEC = {"kind": "chat", "input": {"messages": [{"role": "user", "content": "hi"}], "model": "wire-1"}}


async def ended(ground: Ground, batch_id: UUID) -> Batch:
    """Wait until a batch is over."""
    async with asyncio.timeout(30):
        while (over := await batch_of(ground, batch_id)).finished_at is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return over


@asynccontextmanager
async def tending(settings: Settings) -> AsyncGenerator[None]:
    """Run a tender for the length of a block."""
    async with grounds.opened(settings) as ground:
        running = asyncio.create_task(tend.tend(ground))
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_chats_of_a_batch_are_made_and_told_and_each_can_be_followed(
    client: Client, ground: Ground, settings: Settings, account: Account, vendor: Vendor
) -> None:
    hold = asyncio.Event()
    vendor.script = [Answer(hold=hold)]
    batch = await put(ground, account, 3, kind="chat", spec=SPEC, most=500)
    async with tending(msgspec.structs.replace(settings, batch_window=1)), working(settings):
        async with asyncio.timeout(20):
            while not (first := await flights(ground, batch.id)):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        following = asyncio.create_task(client.get(f"/v1/jobs/{first[0]}/events", timeout=30))
        await vendor.speaking.wait()
        hold.set()
        followed = events((await following).text)
        over = await ended(ground, batch.id)
    assert (over.state, over.succeeded) == ("completed", 3)
    assert [followed[place][1]["type"] for place in (0, -1)] == ["started", "succeeded"]
    lines = await told(ground, batch.id)
    again = events((await client.get(f"/v1/jobs/{lines[-1]['job_id']}/events")).text)
    assert again[-1][1] == {"type": "succeeded", "charged": lines[-1]["charged"]}
    assert {line["result"]["model"] for line in lines} == {"wire-1"}
    ((page, _),) = await ground.streams.pages([(streams.account(account.id), START)], entries=100)
    assert {event.kind for event in page} == {"batch"}
    assert msgspec.json.decode(page[-1].data)["state"] == "completed"
    await assert_exact(ground)


async def test_a_cancelled_batch_stops_a_running_chat_and_charges_what_it_said(
    ground: Ground, settings: Settings, account: Account, vendor: Vendor
) -> None:
    vendor.script = [Answer(hold=asyncio.Event())]
    batch = await put(ground, account, 3, kind="chat", spec=SPEC, most=500)
    patient = msgspec.structs.replace(settings, lease_s=600.0)  # so that no checkpoint tells the worker
    async with tending(msgspec.structs.replace(settings, batch_window=1)), working(patient):
        await asyncio.wait_for(vendor.speaking.wait(), 20)
        await asyncio.sleep(0.1)  # until it has said something
        await cancel(ground, batch.id)
        over = await ended(ground, batch.id)
    assert (over.state, over.canceled) == ("canceled", 3)
    running, *waiting = sorted(await told(ground, batch.id), key=lambda line: line["line"])
    assert (running["state"], running["result"]["text"]) == ("canceled", "Hello")
    assert running["charged"]["chat_tokens"] > 0
    assert [(line["state"], line["job_id"]) for line in waiting] == [("canceled", None)] * 2
    await assert_exact(ground)
