"""One timer for many waits: each is ended in its own time, and no other one's end is taken for it."""

import asyncio

import pytest

from providers.alarm import Alarm
from tests.support.hasty import hastily


async def _after(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "came"


def _now() -> float:
    return asyncio.get_running_loop().time()


def test_each_wait_has_its_own_end_whether_earlier_or_later_than_the_last() -> None:
    async def waits() -> None:
        alarm = Alarm()
        for due_s in (50, 10, 30):
            assert await alarm.wait(_after(1), _now() + due_s) == "came"
        for due_s in (20, 5, 40):
            began_s = _now()
            with pytest.raises(TimeoutError):
                await alarm.wait(_after(100), began_s + due_s)
            assert due_s <= _now() - began_s <= due_s + 0.1
        assert await alarm.wait(_after(1), _now() + 2) == "came", "nothing is left of the ends before"
        await asyncio.sleep(60)  # in which nobody waits, so that nobody is woken
        alarm.stop()

    hastily(waits())


def test_whoever_is_stopped_is_stopped_and_not_late() -> None:
    async def stopped(due_s: float, *, after_s: float) -> str:
        alarm = Alarm()
        waiting = asyncio.create_task(alarm.wait(_after(100), _now() + due_s))
        asyncio.get_running_loop().call_at(_now() + after_s, waiting.cancel)
        await asyncio.wait([waiting])
        alarm.stop()
        return "canceled" if waiting.cancelled() else type(waiting.exception()).__name__

    assert hastily(stopped(20, after_s=10)) == "canceled"
    assert hastily(stopped(10, after_s=10)) == "canceled", "both at once"
    assert hastily(stopped(10, after_s=20)) == "TimeoutError"


def test_what_comes_although_it_is_late_leaves_no_stop_behind() -> None:
    async def stubborn() -> str:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            return "came"
        return "late"

    async def waits() -> None:
        alarm = Alarm()
        assert await alarm.wait(stubborn(), _now() + 5) == "came"
        task = asyncio.current_task()
        assert task
        assert task.cancelling() == 0
        async with asyncio.timeout(3):  # which counts the stops of its task
            await asyncio.sleep(1)
        alarm.stop()

    hastily(waits())
