"""The queue's laws hold in whatever order things happen, and each of the planted defects breaks one.

A failure names its law and tells the deeds that led to it. To have them shortened, give `_FIXED` the phase `shrink`.
"""

from collections.abc import Generator
from contextlib import AbstractContextManager
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from infra.settings import Settings
from tests.simulation.laws import Broken, Law
from tests.simulation.machine import Simulation
from tests.simulation.planted import DEFECTS, Defect
from tests.simulation.truth import Row, Truth
from tests.simulation.valkey import Valkey
from tests.simulation.world import World

_RUNS = 25
_FIXED = settings(
    max_examples=_RUNS,
    stateful_step_count=40,
    phases=[Phase.generate],
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
_UNTIL_BROKEN = settings(_FIXED, max_examples=400)


@pytest.fixture(scope="module")
def valkey(servers: Settings) -> Generator[Valkey]:
    """The real server, at a virtual time."""
    valkey = Valkey(servers)
    yield valkey
    valkey.close()


def _run(valkey: Valkey, how: settings) -> None:
    class On(Simulation):
        def __init__(self) -> None:
            super().__init__(valkey)

    run_state_machine_as_test(On, settings=how)


def test_the_laws_of_the_queue_hold_whatever_happens(valkey: Valkey) -> None:
    _run(valkey, _FIXED)


@pytest.mark.chaos
def test_the_laws_of_the_queue_hold_whatever_happens_for_long(valkey: Valkey) -> None:
    _run(valkey, settings(_FIXED, max_examples=20 * _RUNS, derandomize=False))


def _assert_breaks(valkey: Valkey, defect: AbstractContextManager[object], *laws: Law) -> None:
    with defect, pytest.raises(Broken) as caught:
        _run(valkey, _UNTIL_BROKEN)
    assert caught.value.law in laws, "\n".join([str(caught.value), *caught.value.__notes__])


@pytest.mark.parametrize(
    "defect",
    [pytest.param(it, id=it.name.replace(" ", "-"), marks=[pytest.mark.chaos] if it.rare else []) for it in DEFECTS],
)
def test_a_defect_of_a_script_breaks_a_law(valkey: Valkey, defect: Defect) -> None:
    _assert_breaks(valkey, defect.planted(), *defect.caught_by)


def test_jobs_are_lost_without_the_tender(valkey: Valkey) -> None:
    def rest(world: World) -> None:
        pass

    _assert_breaks(valkey, patch.object(World, "tend", rest), Law.NOTHING_LOST)


def test_jobs_end_twice_without_the_fencing_token(valkey: Valkey) -> None:
    def believe(_truth: Truth, _row: Row, attempt: int) -> bool:
        return attempt > 0

    _assert_breaks(valkey, patch.object(Truth, "_has", believe), Law.ENDED_ONCE)


def test_a_defect_that_cannot_be_planted_is_told() -> None:
    gone = Defect("nothing", "claim.lua", "no such text", "", (Law.GONE,))
    with pytest.raises(AssertionError, match="no such text"), gone.planted():
        pass
