"""The guards that stand between two who act at the same time, each with the check that fails where it is taken away.

A guard is text of a statement that Python holds, or of a function that PostgreSQL holds. It is taken away in a scratch
database and a running process, never in a file.
"""

import importlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from unittest.mock import patch

from msgspec import Struct
from sqlalchemy import TextClause, text

from infra.ground import Ground
from tests.money import checks
from tests.money.checks import Check


class Statement(Struct, frozen=True):
    """A statement, by its module and its name there."""

    module: str
    name: str

    @asynccontextmanager
    async def without(self, _ground: Ground, right: str, wrong: str) -> AsyncGenerator[None]:
        """Have the process use it with other text, for the length of a block."""
        module: Any = importlib.import_module(self.module)
        sound: TextClause = getattr(module, self.name)
        with patch.object(module, self.name, text(_replaced(self.name, sound.text, right, wrong))):
            yield


class Function(Struct, frozen=True):
    """A function of the database's, by its name."""

    name: str

    @asynccontextmanager
    async def without(self, ground: Ground, right: str, wrong: str) -> AsyncGenerator[None]:
        """Have the database use it with other text; it is a scratch database, so that nothing is put back."""
        async with ground.database.engine.begin() as connection:
            found = await connection.exec_driver_sql(
                "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = $1", (self.name,)
            )
            definition: str = found.scalar_one()
            await connection.exec_driver_sql(_replaced(self.name, definition, right, wrong))
        yield


class Guard(Struct, frozen=True):
    """Text that guards something in each of some places, what stands there when it does not, and who notices."""

    name: str
    places: Sequence[Statement | Function]
    right: str
    wrong: str
    check: Check

    @asynccontextmanager
    async def taken_away(self, ground: Ground) -> AsyncGenerator[None]:
        """Act without it for the length of a block; fails where there is no such text any more."""
        async with AsyncExitStack() as stack:
            for place in self.places:
                await stack.enter_async_context(place.without(ground, self.right, self.wrong))
            yield


def _replaced(name: str, sound: str, right: str, wrong: str) -> str:
    assert sound.count(right) == 1, f"{name} has not once: {right}"
    return sound.replace(right, wrong)


_ADMIT = Function("admit_jobs")
_FINISH = Statement("workers.lifecycle.ends", "_FINISH")
_SETTLE = Statement("quotas.ledger", "_SETTLE")

GUARDS = [
    Guard(
        "the lock of the balances before jobs draw on them",
        [_ADMIT],
        "ORDER BY b.id FOR NO KEY UPDATE OF b",
        "",
        checks.limit_holds,
    ),
    Guard(
        "the lock of the balances before files draw on them",
        [Statement("quotas.ledger", "_LOCK")],
        "FOR NO KEY UPDATE OF b",
        "",
        checks.limit_holds_for_files,
    ),
    Guard(
        "the lock of the names",
        [_ADMIT],
        "PERFORM pg_advisory_xact_lock(n.name) FROM",
        "PERFORM n.name FROM",
        checks.key_is_one_of_many_requests,
    ),
    Guard(
        "the lock of the names, of unique jobs",
        [_ADMIT],
        "PERFORM pg_advisory_xact_lock(n.name) FROM",
        "PERFORM n.name FROM",
        checks.unique_is_one_job,
    ),
    Guard(
        "the lock of a failed job",
        [_ADMIT],
        "WHERE j.id = ANY(failed) ORDER BY j.id FOR NO KEY UPDATE",
        "WHERE j.id = ANY(failed)",
        checks.retry_is_one_job,
    ),
    Guard(
        "the look for a key that is known",
        [_ADMIT],
        "LEFT JOIN idempotency_keys k ON k.account_id = n.account AND k.key = n.name",
        "LEFT JOIN idempotency_keys k ON false",
        checks.key_is_one_request,
    ),
    Guard(
        "the print of the request under a key",
        [_ADMIT],
        "CASE WHEN key_prints[keys[job]] = fingerprints[job] THEN",
        "CASE WHEN true THEN",
        checks.key_is_one_request,
    ),
    Guard(
        "the look for an id that is there",
        [_ADMIT],
        "IF ids[job] = ANY(there) THEN",
        "IF false THEN",
        checks.id_is_one_job,
    ),
    Guard(
        "the lock of a job that ends",
        [_FINISH],
        "ORDER BY j.id FOR NO KEY UPDATE OF j",
        "",
        checks.job_ends_once,
    ),
    Guard("the state of a job that ends", [_FINISH], "AND g.was = j.state", "", checks.end_stays),
    Guard("the attempt of an end", [_FINISH], "AND g.attempt = j.attempt", "", checks.zombie_ends_nothing),
    Guard(
        "the attempt of what is kept",
        [Statement("workers.lifecycle.attempts", "_KEEP")],
        "AND g.attempt = j.attempt",
        "",
        checks.zombie_keeps_nothing,
    ),
    Guard(
        "the attempt of a job that is given back",
        [Statement("workers.lifecycle.attempts", "_GIVE_BACK")],
        "AND g.attempt = j.attempt",
        "",
        checks.zombie_gives_nothing_back,
    ),
    Guard(
        "the state of a hold that ends",
        [_SETTLE],
        "WHERE h.state = 'held'\n    ), sums",
        "), sums",
        checks.hold_ends_once,
    ),
    Guard(
        "the lock of the balances before they are settled",
        [_FINISH],
        "ORDER BY id FOR NO KEY UPDATE\n    ), moving",
        "), moving",
        checks.ends_do_not_meet,
    ),
]
