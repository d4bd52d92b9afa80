"""Each guard of the books stands for something: taken away, its check fails."""

from collections.abc import AsyncGenerator

import pytest
from asyncpg import IntegrityConstraintViolationError
from sqlalchemy.exc import IntegrityError

from infra import ground as grounds
from infra.ground import Ground
from infra.settings import Settings
from tests.money import checks
from tests.money.guards import GUARDS, Guard, Statement

#: What the database says of a row that may not be, to whom asks it directly and through SQLAlchemy.
_REFUSED = (IntegrityConstraintViolationError, IntegrityError)


@pytest.fixture
async def slow(settings: Settings) -> AsyncGenerator[Ground]:
    """A ground on which everybody who moves units takes his time."""
    async with grounds.opened(settings) as ground:
        await checks.slow_down(ground)
        yield ground


def _name(each: object) -> str:
    return each.name.replace(" ", "-") if isinstance(each, Guard) else ""


async def test_what_must_never_happen_does_not(slow: Ground) -> None:
    also = [checks.key_is_one_job, checks.id_is_one_job, checks.units_move_together]
    for check in dict.fromkeys([*(guard.check for guard in GUARDS), *also]):
        await check(slow)


@pytest.mark.parametrize("guard", GUARDS, ids=_name)
async def test_without_a_guard_it_happens(slow: Ground, guard: Guard) -> None:
    async with guard.taken_away(slow):
        with pytest.raises((AssertionError, *_REFUSED)):  # a statement that makes no sense would be another one
            await guard.check(slow)


async def test_a_guard_that_is_not_there_is_told(slow: Ground) -> None:
    gone = Guard("nothing", [Statement("quotas.ledger", "_LOCK")], "no such text", "", checks.limit_holds)
    with pytest.raises(AssertionError, match="no such text"):
        async with gone.taken_away(slow):
            pass
