"""Lines for vendors' own batches go there in parcels, cost half, and come back once, whatever their vendor does."""

import re
from collections.abc import AsyncGenerator, Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from infra import ground as grounds
from infra.ground import Ground
from infra.models import Account, Batch, Job
from infra.settings import ROOT, Settings
from providers import catalog
from tests.support.batches import METER, USED, assert_exact, batch_of, cancel, close_window, flights, look, told
from tests.support.books import assert_charged_once, balance_of
from tests.support.parcels import ANTHROPIC, MOST, OPENAI, OWN, at, carry_all, carrying, hurry, land, parcels_of, put
from tests.support.serving import free_port
from tests.support.vendor_batches import INPUT_TOKENS, OUTPUT_TOKENS, WRITTEN_TOKENS, VendorBatches
from workers.batches.carrying import Carrier
from workers.batches.feeding import feed

# The vendors' counts weighed and halved; of both models an output token weighs five, and one that is written two.
HALF: dict[str, int] = dict.fromkeys((OPENAI, ANTHROPIC), -(-(INPUT_TOKENS + WRITTEN_TOKENS + 5 * OUTPUT_TOKENS) // 2))


@pytest.fixture
def upstream() -> Generator[VendorBatches]:
    """Both vendors' batches."""
    with VendorBatches.serving() as served:
        yield served


@pytest.fixture
async def near(settings: Settings, upstream: VendorBatches) -> AsyncGenerator[Ground]:
    """A ground on which the vendors are that server."""
    async with grounds.opened(at(settings, upstream)) as opened:
        yield opened


@pytest.fixture
async def carrier(near: Ground) -> AsyncGenerator[Carrier]:
    """Who carries."""
    carrying = Carrier(near)
    yield carrying
    await carrying.close()


async def by_line(ground: Ground, batch: Batch) -> dict[int, dict[str, Any]]:
    """Return what is told of every line, each once."""
    lines = await told(ground, batch.id)
    found = {line["line"]: line for line in lines}
    assert len(found) == len(lines)
    return found


async def states(ground: Ground, batch: Batch) -> list[str]:
    """Return how the parcels of a batch stand."""
    return [parcel.state for parcel in await parcels_of(ground, batch.id)]


async def test_lines_of_our_pools_and_of_both_vendors_have_one_result_each(
    near: Ground, account: Account, carrier: Carrier, upstream: VendorBatches
) -> None:
    models = [OPENAI, ANTHROPIC, OWN] * 4
    batch = await put(near, account, *((model, f"قل {n}") for n, model in enumerate(models, start=1)))
    await carry_all(near, carrier)
    over = await batch_of(near, batch.id)
    assert (over.state, over.succeeded, over.drawn, over.lines) == ("completed", 12, 12, 12)
    lines = await by_line(near, batch)
    assert [lines[n]["custom_id"] for n in range(1, 13)] == [f"سطر-{n}" for n in range(1, 13)]
    # Line 4 is in OpenAI's shape, line 2 in Anthropic's; 9 in our own, but of our own pool; 3 the same.
    assert lines[4]["response"]["body"]["choices"][0]["message"]["content"] == "echo: قل 4"
    assert lines[4]["response"]["body"]["usage"]["total_tokens"] == INPUT_TOKENS + OUTPUT_TOKENS
    assert lines[2]["result"]["message"]["content"] == [{"type": "text", "text": "echo: قل 2"}]
    assert lines[9]["result"]["text"] == "تم"
    assert upstream.asked() == sorted(f"قل {n}" for n, model in enumerate(models, start=1) if model != OWN)
    assert [held.vendor for held in upstream.batches].count("openai") == 1
    assert over.charged == {METER: 4 * HALF[OPENAI] + 4 * HALF[ANTHROPIC] + 4 * USED}
    balance = await balance_of(near, account)
    assert (balance.used, balance.held) == (over.charged[METER], 0)
    await assert_exact(near)
    await assert_charged_once(near)


async def test_a_line_that_lies_at_its_vendor_is_no_job_and_takes_no_room(
    near: Ground, account: Account, carrier: Carrier, upstream: VendorBatches
) -> None:
    upstream.is_quick = False
    batch = await put(near, account, *[(OPENAI, "said")] * 6, *[(OWN, "said")] * 3)
    await look(near)
    await carrier.round()
    assert await states(near, batch) == ["sent"]
    assert len(await flights(near, batch.id)) == 3
    await land(near, await flights(near, batch.id))
    await look(near)
    now = await batch_of(near, batch.id)
    assert (now.state, now.drawn, now.succeeded) == ("running", 3, 3)
    assert (await balance_of(near, account)).held == 6 * MOST
    async with near.database.begin() as session:
        assert len((await session.scalars(select(Job.id))).all()) == 3


async def test_a_job_that_a_vendor_made_is_as_any_other(near: Ground, account: Account, carrier: Carrier) -> None:
    batch = await put(near, account, (OPENAI, "hi"))
    await carry_all(near, carrier)
    async with near.database.begin() as session:
        (job,) = (await session.scalars(select(Job))).all()
    assert (job.state, job.kind, job.batch_id, job.charged) == ("succeeded", "chat", batch.id, {METER: HALF[OPENAI]})
    usage = {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS, "estimated": False}
    assert job.result == {
        "text": "echo: hi",
        "model": OPENAI,
        "reason": None,  # its line was kept without one
        "finish_reason": "stop",
        "content": [{"type": "text", "text": "echo: hi"}],
        "tool_calls": [],
        "usage": usage | {"cached_tokens": 0, "reasoning_tokens": 2},
        "fallback": None,
    }
    assert (await by_line(near, batch))[1]["response"]["request_id"] == f"batch_req_{job.id.hex}"


@pytest.mark.parametrize("model", [OPENAI, ANTHROPIC])
async def test_what_a_vendor_refuses_fails_and_what_it_did_not_come_to_runs_in_our_pools(
    near: Ground, account: Account, carrier: Carrier, model: str
) -> None:
    batch = await put(near, account, *((model, said) for said in ("a", "b", "refuse", "overload", "expire", "vanish")))
    await carry_all(near, carrier)
    over = await batch_of(near, batch.id)
    assert (over.state, over.succeeded, over.failed) == ("completed", 5, 1)
    lines = await by_line(near, batch)
    assert lines[3]["error"]["code"] == "provider_refused"
    assert "it will not be said" in lines[3]["error"]["en"]
    assert over.charged == {METER: 2 * HALF[model] + 3 * USED}
    await assert_exact(near)
    await assert_charged_once(near)


async def test_a_key_that_a_vendor_repeats_in_its_refusal_is_told_to_nobody(
    settings: Settings, account: Account, upstream: VendorBatches
) -> None:
    async with (
        grounds.opened(at(settings, upstream, keys="the-key-of-the-house")) as near,
        carrying(near.settings) as it,
    ):
        batch = await put(near, account, (OPENAI, "refuse the-key-of-the-house"), (ANTHROPIC, "refuse the-key-of-the-"))
        await carry_all(near, it)
        lines = await by_line(near, batch)
        async with near.database.begin() as session:
            kept = [job.error for job in await session.scalars(select(Job))]
    assert len(kept) == len(lines) == 2
    assert "the-key" not in str([*lines.values(), *kept])
    assert str(kept).count("[redacted]") == 4


async def test_a_model_that_is_shut_down_meanwhile_is_charged_as_itself_for_what_it_made(
    near: Ground, account: Account, carrier: Carrier, upstream: VendorBatches, tmp_path: Path
) -> None:
    upstream.is_quick = False
    sent = await put(near, account, (OPENAI, "said"), (ANTHROPIC, "said"))
    await look(near)
    await carrier.round()
    packed = await put(near, account, (OPENAI, "later"))
    await look(near)
    upstream.finish()
    models = (ROOT / "providers/models.toml").read_text(encoding="utf-8")
    for model in (OPENAI, ANTHROPIC):
        models = re.sub(rf'(\[models."?{re.escape(model)}"?\]\n)', r"\1shutdown = 2020-01-01\n", models)
    gone = tmp_path / "models.toml"
    gone.write_text(models, encoding="utf-8")
    async with grounds.opened(msgspec.structs.replace(near.settings, models_file=str(gone))) as late:
        assert not {OPENAI, ANTHROPIC} & catalog.offered(late.settings).keys()
        async with carrying(late.settings) as another:
            await carry_all(late, another)
    assert (await batch_of(near, sent.id)).charged == {METER: HALF[OPENAI] + HALF[ANTHROPIC]}
    assert (await batch_of(near, packed.id)).charged == {METER: USED}, "what takes its place is for our own pools"
    assert upstream.asked() == ["said", "said"]
    await assert_exact(near)


@pytest.mark.parametrize("fault", [400, 404, *(pytest.param(each, marks=pytest.mark.trial) for each in (401, 413))])
async def test_what_a_vendor_does_not_take_runs_in_our_pools_at_once(
    near: Ground, account: Account, carrier: Carrier, upstream: VendorBatches, fault: int
) -> None:
    upstream.faults["POST batches"] = [fault]  # type: ignore[list-item]
    batch = await put(near, account, *[(OPENAI, "said")] * 7)
    await look(near)
    await carrier.round()
    assert await states(near, batch) == ["returning"]
    await look(near)
    assert len(await flights(near, batch.id)) == 4, "they come back as there is room"
    await carry_all(near, carrier)
    assert (await batch_of(near, batch.id)).charged == {METER: 7 * USED}
    assert upstream.batches == []
    await assert_exact(near)


async def test_a_vendor_that_is_away_is_waited_for_and_then_done_without(
    settings: Settings, account: Account, upstream: VendorBatches
) -> None:
    nowhere = msgspec.structs.replace(
        at(settings, upstream, parcel_tries=3), openai_base_url=f"http://127.0.0.1:{free_port()}/v1"
    )
    async with carrying(nowhere) as carrier, grounds.opened(nowhere) as ground:
        batch = await put(ground, account, (OPENAI, "one"), (OPENAI, "two"))
        await look(ground)
        seen = list[tuple[str, str | None]]()
        for _ in range(3):
            await carrier.round()
            seen += [(parcel.state, parcel.reason) for parcel in await parcels_of(ground, batch.id)]
            await hurry(ground)
        assert [state for state, _ in seen] == ["packed", "packed", "returning"]
        assert {reason for _, reason in seen} == {"provider_unavailable"}
        await carry_all(ground, carrier)
        assert (await batch_of(ground, batch.id)).charged == {METER: 2 * USED}
        await assert_exact(ground)


async def test_a_failure_is_not_tried_again_at_once(
    near: Ground, account: Account, carrier: Carrier, upstream: VendorBatches
) -> None:
    upstream.faults["POST files"] = [429]
    batch = await put(near, account, (OPENAI, "one"))
    await look(near)
    for _ in range(3):
        await carrier.round()
    assert upstream.calls["POST files"] == 1
    (parcel,) = await parcels_of(near, batch.id)
    assert (parcel.state, parcel.tries, parcel.reason) == ("packed", 1, "provider_rate_limited")
    assert parcel.held_until is None


async def test_a_batch_that_its_vendor_fails_as_a_whole_runs_in_our_pools(
    near: Ground, account: Account, carrier: Carrier, upstream: VendorBatches
) -> None:
    upstream.fails_whole = True
    batch = await put(near, account, (OPENAI, "one"), (OPENAI, "two"))
    await carry_all(near, carrier)
    assert (await batch_of(near, batch.id)).charged == {METER: 2 * USED}
    assert len(upstream.batches) == 1
    await assert_exact(near)


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        (OPENAI, "after"),
        (ANTHROPIC, 500),
        pytest.param(OPENAI, 500, marks=pytest.mark.trial),
        pytest.param(ANTHROPIC, "after", marks=pytest.mark.trial),
    ],
)
async def test_one_that_may_have_been_taken_is_looked_for_and_not_sent_twice(
    near: Ground, account: Account, carrier: Carrier, upstream: VendorBatches, model: str, fault: Any
) -> None:
    upstream.is_quick = False
    upstream.faults["POST batches"] = [fault]
    batch = await put(near, account, (model, "one"), (model, "two"))
    await look(near)
    for _ in range(4):
        await hurry(near)
        await carrier.round()
    assert upstream.calls["POST batches"] == 1
    assert await states(near, batch) == ["sent" if fault == "after" else "sending"]
    if fault != "after":  # it cannot come any more
        await hurry(near, sent_at=datetime.now(UTC) - timedelta(seconds=301))
    upstream.is_quick = True
    await carry_all(near, carrier)
    assert upstream.asked() == ["one", "two"]
    assert (await batch_of(near, batch.id)).charged == {METER: 2 * HALF[model]}
    await assert_exact(near)


async def test_a_batch_of_somebody_else_is_not_kept_for_ours(
    near: Ground, account: Account, carrier: Carrier, upstream: VendorBatches
) -> None:
    """Of the same size and moment, and through the same key."""
    stranger = [{"custom_id": f"x-{n}", "params": {"model": "m", "messages": [{"content": "x"}]}} for n in range(2)]
    upstream.faults["POST batches"] = [503]
    batch = await put(near, account, (ANTHROPIC, "one"), (ANTHROPIC, "two"))
    await look(near)
    await carrier.round()
    upstream.add("anthropic", stranger)
    for _ in range(4):  # found, over, kept for nobody, looked for again
        await hurry(near)
        await carrier.carry()
    (parcel,) = await parcels_of(near, batch.id)
    assert (parcel.state, parcel.strangers, parcel.upstream_id) == ("sending", ["msgbatch_1"], None)
    await hurry(near, sent_at=datetime.now(UTC) - timedelta(seconds=301))
    await carry_all(near, carrier)
    assert upstream.asked() == ["one", "two", "x", "x"]
    assert (await batch_of(near, batch.id)).charged == {METER: 2 * HALF[ANTHROPIC]}
    await assert_exact(near)


async def test_a_batch_that_is_only_thought_to_be_ours_is_not_stopped(
    near: Ground, account: Account, carrier: Carrier, upstream: VendorBatches
) -> None:
    upstream.is_quick = False
    upstream.faults["POST batches"] = ["after"]
    batch = await put(near, account, (ANTHROPIC, "one"))
    await look(near)
    await carrier.round()
    await hurry(near)
    await carrier.round()
    await cancel(near, batch.id)
    await hurry(near)
    await carrier.round()
    assert await states(near, batch) == ["sent"]
    assert upstream.calls["POST cancel"] == 0
    upstream.is_quick = True
    await carry_all(near, carrier)
    over = await batch_of(near, batch.id)
    assert (over.state, over.succeeded, over.charged) == ("canceled", 1, {METER: HALF[ANTHROPIC]})


async def test_only_one_goes_through_a_door_at_a_time(
    near: Ground, account: Account, carrier: Carrier, upstream: VendorBatches
) -> None:
    """Of two that are in doubt, which of the vendor's batches is whose could not be told."""
    upstream.faults["POST batches"] = [503]
    batches = [await put(near, account, (ANTHROPIC, said)) for said in ("one", "two")]
    await look(near)
    assert await carrier.carry()
    assert await carrier.carry()
    assert sorted([*await states(near, batches[0]), *await states(near, batches[1])]) == ["packed", "sending"]
    assert upstream.calls["POST batches"] == 1


@pytest.mark.parametrize("how", ["cancel", "close"])
async def test_a_batch_that_is_not_wanted_any_more_is_stopped_at_its_vendors(
    near: Ground, account: Account, carrier: Carrier, upstream: VendorBatches, how: str
) -> None:
    upstream.is_quick = False
    batch = await put(near, account, (OPENAI, "made"), (OPENAI, "cancel"), (ANTHROPIC, "cancel"), (OWN, "said"))
    await look(near)
    await carrier.round()
    assert await states(near, batch) == ["sent", "sent"]
    await (cancel if how == "cancel" else close_window)(near, batch.id)
    await carrier.round()
    assert upstream.calls["POST cancel"] == 2, "at once, whenever it was to be looked at next"
    await carry_all(near, carrier)
    over = await batch_of(near, batch.id)
    end = "canceled" if how == "cancel" else "expired"
    assert (over.state, over.succeeded) == (end, 1)
    assert getattr(over, end) == 3
    assert over.charged == {METER: HALF[OPENAI]}, "what was made until then"
    assert upstream.calls["POST cancel"] == 2
    await assert_exact(near)
    await assert_charged_once(near)


@pytest.mark.parametrize("how", ["cancel", "close"])
async def test_what_has_not_been_sent_yet_is_given_up_at_once(
    near: Ground, account: Account, carrier: Carrier, upstream: VendorBatches, how: str
) -> None:
    batch = await put(near, account, *[(OPENAI, "said")] * 3, (OWN, "said"))
    await feed(near, batch.id)
    assert await states(near, batch) == ["packed"]
    await (cancel if how == "cancel" else close_window)(near, batch.id)
    await carry_all(near, carrier, hurries=False)
    over = await batch_of(near, batch.id)
    assert over.charged.get(METER, 0) == 0
    assert upstream.batches == []
    lines = await by_line(near, batch)
    # In the shapes: OpenAI's line 1, Anthropic's line 2.
    assert lines[1]["error"]["code"] == ("batch_cancelled" if how == "cancel" else "batch_expired")
    assert lines[2]["result"]["type"] == ("canceled" if how == "cancel" else "expired")
    await assert_exact(near)


async def test_a_cancelled_batch_whose_lines_are_not_packed_yet_packs_none(near: Ground, account: Account) -> None:
    batch = await put(near, account, (OPENAI, "said"), (OWN, "said"), (ANTHROPIC, "said"))
    await cancel(near, batch.id)
    await look(near)
    over = await batch_of(near, batch.id)
    assert (over.state, over.canceled) == ("canceled", 3)
    assert await parcels_of(near, batch.id) == []
    await assert_exact(near)


async def test_a_vendor_that_never_answers_a_cancel_is_not_waited_for_forever(
    near: Ground, account: Account, carrier: Carrier, upstream: VendorBatches
) -> None:
    upstream.is_quick = False
    batch = await put(near, account, (OPENAI, "said"))
    await look(near)
    await carrier.round()
    upstream.faults |= {"POST cancel": [503] * 9}
    await cancel(near, batch.id)
    await carrier.round()
    assert await states(near, batch) == ["sent"]
    async with near.database.begin() as session:
        row = await session.get_one(Batch, batch.id)
        row.cancel_requested_at = datetime.now(UTC) - timedelta(hours=1, seconds=1)
    await carry_all(near, carrier)
    assert (await batch_of(near, batch.id)).canceled == 1
    await assert_exact(near)


async def test_a_vendor_that_forgets_a_batch_leaves_it_to_our_pools(
    near: Ground, account: Account, carrier: Carrier, upstream: VendorBatches
) -> None:
    upstream.is_quick = False
    batch = await put(near, account, (OPENAI, "said"))
    await look(near)
    await carrier.round()
    upstream.batches.clear()
    await carry_all(near, carrier)
    assert (await batch_of(near, batch.id)).charged == {METER: USED}


async def test_results_that_broke_off_are_read_again_and_nothing_is_kept_twice(
    near: Ground, account: Account, carrier: Carrier, upstream: VendorBatches
) -> None:
    batch = await put(near, account, *[(OPENAI, "said")] * 5)
    upstream.cut_lines = 2
    await look(near)
    await carrier.round()
    for _ in range(2):
        await hurry(near)
        await carrier.round()
    await look(near)
    assert await states(near, batch) == ["landing"]
    upstream.cut_lines = 0
    await carry_all(near, carrier)
    assert (await batch_of(near, batch.id)).charged == {METER: 5 * HALF[OPENAI]}
    await assert_exact(near)
    await assert_charged_once(near)


async def test_a_key_that_is_gone_leaves_what_went_through_it_where_it_is(
    near: Ground, settings: Settings, account: Account, carrier: Carrier, upstream: VendorBatches
) -> None:
    """Through another key nothing is seen of it: to send it again would be to pay twice."""
    upstream.is_quick = False
    batch = await put(near, account, (OPENAI, "said"))
    await look(near)
    await carrier.round()
    async with carrying(at(settings, upstream, keys="other")) as another:
        await hurry(near)
        await another.round()
    assert await states(near, batch) == ["sent"]
    upstream.is_quick = True
    await carry_all(near, carrier)
    assert len(upstream.batches) == 1


async def test_large_batches_go_in_parcels_of_one_model_each(
    settings: Settings, account: Account, upstream: VendorBatches
) -> None:
    few = at(settings, upstream, parcel_lines=4)
    async with carrying(few) as carrier, grounds.opened(few) as ground:
        batch = await put(ground, account, *((OPENAI if n % 2 else ANTHROPIC, f"{n}") for n in range(10)))
        for _ in range(4):
            await feed(ground, batch.id)
        sizes = [(parcel.model, parcel.lines) for parcel in await parcels_of(ground, batch.id)]
        assert sizes == [(ANTHROPIC, 2), (ANTHROPIC, 2), (ANTHROPIC, 1), (OPENAI, 2), (OPENAI, 2), (OPENAI, 1)]
        await carry_all(ground, carrier)
        assert upstream.asked() == sorted(str(n) for n in range(10))
        assert (await batch_of(ground, batch.id)).succeeded == 10
        await assert_exact(ground)


async def test_whoever_was_taken_for_dead_changes_nothing(
    near: Ground, account: Account, carrier: Carrier, upstream: VendorBatches
) -> None:
    upstream.is_quick = False
    batch = await put(near, account, (OPENAI, "one"))
    await look(near)
    await carrier.round()
    upstream.is_quick = True
    async with carrying(near.settings) as other:
        taking = near.database.ask

        async def late(*args: Any) -> Any:
            rows = await taking(*args)
            if rows:  # in hand; but it takes so long that another one has it before anything is done
                near.database.ask = taking  # type: ignore[method-assign]
                await hurry(near)
                await other.carry()
            return rows

        near.database.ask = late  # type: ignore[method-assign]
        await hurry(near)
        assert await carrier.carry()
    assert await states(near, batch) == ["landing"]
    await carry_all(near, carrier)
    assert upstream.asked() == ["one"]
    await assert_exact(near)
