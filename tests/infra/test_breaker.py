"""A breaker: what hangs or fails is left alone for a moment, and a late loop is not taken for a late answer."""

import asyncio
import time

import pytest

from infra.breaker import Breaker


@pytest.fixture
def breaker() -> Breaker:
    """A breaker with little patience."""
    return Breaker("nobody", patience_s=0.05, rest_s=0.2, passing=(OSError,))


async def test_an_answer_is_given(breaker: Breaker) -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 7

    assert [await breaker.ask(answer) for _ in range(3)] == [7, 7, 7]


@pytest.mark.parametrize("how", ["hangs", "fails"])
async def test_what_gives_no_answer_is_asked_again_after_its_rest(breaker: Breaker, how: str) -> None:
    asked: list[str] = []

    async def none() -> None:
        asked.append(how)
        if how == "fails":
            raise ConnectionRefusedError
        await asyncio.Event().wait()

    for _ in range(100):
        assert await breaker.ask(none) is None
    assert len(asked) == 1
    await asyncio.sleep(0.25)
    assert await breaker.ask(none) is None
    assert len(asked) == 2


async def test_any_other_error_is_whose_it_is(breaker: Breaker) -> None:
    async def bug() -> int:
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await breaker.ask(bug)


async def test_a_loop_that_was_busy_still_gets_its_answer(breaker: Breaker) -> None:
    async def answer() -> int:
        for _ in range(3):
            await asyncio.sleep(0)
        return 7

    asking = asyncio.create_task(breaker.ask(answer))
    await asyncio.sleep(0)
    time.sleep(0.2)  # noqa: ASYNC251 (the loop is to stand still)
    assert await asking == 7
