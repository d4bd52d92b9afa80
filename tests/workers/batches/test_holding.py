"""What a batch may cost is held once; of one that goes as far as it goes, the lines that fit, in their order."""

import asyncio
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import func, select

from infra import streams
from infra.ground import Ground
from infra.models import Account, Batch, BatchResult, Hold
from tests.support import readings
from tests.support.books import assert_even
from tests.support.readings import jsonl, line
from workers.batches import holding

# What a line of the tests costs beside its text: the prompt, the message, and the answer's cap, weighed.
COST = 64 + 16 + 16 * 5


def costing(custom_id: str, units: int) -> dict[str, Any]:
    """Return a line that holds so many chat tokens, about half of its letters being Arabic."""
    room = units - COST
    assert room > 0
    return line(custom_id, "س" * (room // 4) + "x" * (room - room // 4 * 2))


async def _refused(ground: Ground, batch: Batch) -> list[tuple[int, ...]]:
    """Return the lines that did not fit: number, what each needs, and what there was then."""
    told = await readings.told_of(ground, batch.id)
    flagged = [it.line for it in await readings.lines_of(ground, batch.id) if it.refused]
    assert flagged == [it["line"] for it in told if it["error"]["code"] == "quota_exceeded"]
    return [
        (it["line"], *(int(part) for part in it["error"]["en"].split() if part.isdigit()))
        for it in told
        if it["line"] in flagged
    ]


async def test_all_lines_are_held_at_once_where_there_is_enough(ground: Ground, account: Account) -> None:
    for mode in ("each", "all"):
        before = await readings.held_of(ground, account)
        batch = await readings.read_all(ground, account, jsonl(costing("a", 200), costing("b", 301)), mode=mode)
        assert (batch.state, batch.needs, batch.fitted_line) == ("running", {"chat_tokens": 501}, 2)
        assert await readings.held_of(ground, account) == before + 501
    await assert_even(ground)


async def test_a_batch_may_take_the_very_last_unit(ground: Ground, account: Account) -> None:
    await readings.allow(ground, account, 501)
    data = jsonl(costing("a", 200), costing("b", 301))
    assert (await readings.read_all(ground, account, data, mode="all")).state == "running"
    assert await readings.held_of(ground, account) == 501
    await assert_even(ground)


async def test_all_or_nothing_fails_where_one_unit_is_missing(ground: Ground, account: Account) -> None:
    await readings.allow(ground, account, 500)
    batch = await readings.read_all(ground, account, jsonl(costing("a", 200), costing("b", 301)), mode="all")
    assert (batch.state, batch.rejected, await readings.told_of(ground, batch.id)) == ("failed", 0, [])
    assert batch.error is not None
    facts = {name: batch.error[name] for name in ("code", "meter", "needed", "remaining")}
    assert facts == {"code": "quota_exceeded", "meter": "chat_tokens", "needed": 501, "remaining": 500}
    assert "resets_at" in batch.error
    assert "رموز المحادثة" in batch.error["ar"]
    assert await readings.held_of(ground, account) == 0
    await assert_even(ground)


async def test_all_or_nothing_fails_for_one_line_that_is_wrong_and_tells_each(ground: Ground, account: Account) -> None:
    data = jsonl(costing("a", 200), b"[]", line("a"), costing("c", 200))
    batch = await readings.read_all(ground, account, data, mode="all")
    assert (batch.state, batch.lines, batch.rejected) == ("failed", 4, 2)
    assert batch.error == {
        "code": "batch_has_errors",
        "en": "2 of 4 lines are wrong, and nothing was to be done unless all are right.",
        "ar": "في الدفعة أسطر خاطئة عددها 2 من أصل 4، وقد طُلب ألا يُنفَّذ شيء ما لم تصح كلها.",
        "errors": 2,
        "lines": 4,
    }
    told = readings.reasons(await readings.told_of(ground, batch.id))
    assert told == [(2, None, "line_not_an_object"), (3, "a", "duplicate_custom_id")]
    assert await readings.held_of(ground, account) == 0


async def test_as_far_as_it_goes_a_line_that_does_not_fit_leaves_smaller_ones_their_room(
    ground: Ground, account: Account
) -> None:
    await readings.allow(ground, account, 1061)
    data = jsonl(b"x", *(costing(f"{n}", cost) for n, cost in enumerate([400, 500, 300, 162, 161, 170])))
    batch = await readings.read_all(ground, account, data)
    assert (batch.state, batch.lines, batch.rejected, batch.fitted_line) == ("running", 7, 4, 7)
    assert await _refused(ground, batch) == [(4, 300, 161), (5, 162, 161), (7, 170, 0)]
    assert await readings.held_of(ground, account) == 1061
    await assert_even(ground)


async def test_as_far_as_it_goes_what_no_line_needs_is_given_back(
    ground: Ground, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "_AT_ONCE", 2)
    await readings.allow(ground, account, 1000)
    batch = await readings.read_all(ground, account, jsonl(*(costing(f"{n}", n) for n in (400, 700, 500, 200, 300))))
    assert (batch.state, batch.rejected) == ("running", 3)
    assert await _refused(ground, batch) == [(2, 700, 600), (4, 200, 100), (5, 300, 100)]
    assert await readings.held_of(ground, account) == 900
    await assert_even(ground)
    # What was given back is there for the next one.
    other = await readings.read_all(ground, account, jsonl(costing("a", 201), costing("b", 200)))
    assert (other.state, other.rejected, await readings.held_of(ground, account)) == ("running", 2, 900)
    assert await _refused(ground, other) == [(1, 201, 100), (2, 200, 100)]
    await assert_even(ground)


async def test_the_fitting_goes_on_where_it_stopped(
    ground: Ground, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "_AT_ONCE", 2)
    await readings.allow(ground, account, 1000)
    data = jsonl(*(costing(f"{n}", cost) for n, cost in enumerate((400, 700, 500, 200, 300))))
    batch_id = await readings.hand_over(ground, account, data)
    with monkeypatch.context() as patched:
        patched.setattr(holding, "hold", _die)
        await readings.read(ground, account, batch_id)
    assert (await readings.look(ground, batch_id)).read_lines == 5
    assert not (await holding.hold(ground, batch_id)).is_all
    await readings.allow(ground, account, 1500)
    assert not (await holding.hold(ground, batch_id)).is_all, "it is held once, also where there is more by now"
    assert await readings.held_of(ground, account) == 1000
    first = await holding.fit(ground, batch_id, None)
    assert first == holding.Place(2, {"chat_tokens": 600})
    stale = holding.Place(0, {"chat_tokens": 1000})
    assert await holding.fit(ground, batch_id, stale) == holding.Place(4, {"chat_tokens": 100})
    assert not (await holding.hold(ground, batch_id)).is_all
    batch = await readings.read(ground, account, batch_id)
    assert (batch.state, await readings.held_of(ground, account)) == ("running", 900)
    assert await _refused(ground, batch) == [(2, 700, 600), (4, 200, 100), (5, 300, 100)]
    await assert_even(ground)


async def _die(_ground: Ground, _batch_id: UUID) -> holding.Taken:
    raise RuntimeError


async def test_where_nothing_is_left_every_line_is_refused_and_may_be_asked_again(
    ground: Ground, account: Account
) -> None:
    await readings.allow(ground, account, 0)
    batch = await readings.read_all(ground, account, jsonl(costing("a", 200), costing("b", 300)))
    assert (batch.state, batch.lines, batch.rejected) == ("running", 2, 2)
    assert await _refused(ground, batch) == [(1, 200, 0), (2, 300, 0)]
    async with ground.database.begin() as session:
        assert set(await session.scalars(select(BatchResult.is_kept))) == {True}
        assert await session.scalar(select(func.count()).select_from(Hold)) == 0
    await assert_even(ground)


async def test_two_batches_at_the_same_time_never_hold_more_than_there_is(ground: Ground, account: Account) -> None:
    await readings.allow(ground, account, 1000)
    handed = [
        await readings.hand_over(ground, account, jsonl(costing("a", 300), costing("b", 300)), mode=mode)
        for mode in ("each", "all", "each", "all")
    ]
    told = await asyncio.gather(*(readings.read(ground, account, batch_id) for batch_id in handed))
    assert {it.state for it in told} <= {"running", "failed"}
    fitted = sum(it.lines - it.rejected for it in told if it.state == "running")
    assert (fitted, await readings.held_of(ground, account)) == (3, 900)
    await assert_even(ground)


async def test_the_account_is_warned_when_a_batch_takes_most_of_its_quota(ground: Ground, account: Account) -> None:
    lines = jsonl(line("a"), line("b"))
    needs = (await readings.read_all(ground, account, lines)).needs["chat_tokens"]
    await readings.allow(ground, account, 2 * needs)
    await readings.read_all(ground, account, lines)
    subject = streams.account(account.id)
    ((said, _),) = await ground.streams.pages([(subject, streams.START)], entries=100)
    warned = [event["detail"]["meter"] + event["code"] for event in map(_decoded, said) if event["type"] == "warning"]
    assert warned == ["chat_tokensquota_80", "chat_tokensquota_100"]


def _decoded(event: streams.Event) -> dict[str, Any]:
    return msgspec.json.decode(event.data)
