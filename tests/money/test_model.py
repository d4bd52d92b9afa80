"""The books are right to the unit, whatever is asked in whatever order, alone or at the same time.

To have a failure shortened, give `_FIXED` the phase `shrink`.
"""

import asyncio
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as runs
from hypothesis.stateful import run_state_machine_as_test

from infra import ground as grounds
from infra.settings import Settings
from tests.money.machine import Machine
from tests.money.world import World

_FIXED = runs(
    max_examples=10,
    stateful_step_count=25,
    phases=[Phase.generate],
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
_LONG = runs(_FIXED, max_examples=300, stateful_step_count=40, derandomize=False)


@pytest.fixture
def runner() -> Generator[asyncio.Runner]:
    """The loop in which the connections live, from one run to the next."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def world(runner: asyncio.Runner, settings: Settings) -> Generator[World]:
    """A world on a database of its own."""
    ground = grounds.lay(settings)
    yield World(ground)
    runner.run(grounds.leave(ground))


@pytest.mark.parametrize("how", [_FIXED, pytest.param(_LONG, marks=pytest.mark.trial)], ids=["short", "long"])
def test_the_books_are_right_to_the_unit_whatever_is_asked(runner: asyncio.Runner, world: World, how: runs) -> None:
    class In(Machine):
        def __init__(self) -> None:
            super().__init__(runner, world)

    run_state_machine_as_test(In, settings=how)
