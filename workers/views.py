"""Jobs as those see them who ask often: what many ask at the same time is one statement, without the ORM."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import text

from infra.coalesce import Coalescer
from infra.database import DatabaseUnavailable
from infra.ground import Ground
from infra.models import LIVE
from quotas import ledger
from quotas.ledger import Standing
from workers.jobs import JobNotFound
from workers.lifecycle import Admitted

_PASSING = (DatabaseUnavailable,)
_MOST_AT_ONCE = 200
# Of those who wait only a word is read for each.
_MOST_WAITING = 2_000
_COLUMNS = (
    "id", "account_id", "kind", "labels", "created_at", "run_at", "lane", "start_by", "unique_key", "replay_of",
    "state", "attempt", "tries", "replayed_as", "started_at", "finished_at", "cancel_requested_at", "result", "error",
    "charged", "timeout_s", "cancel_by", "webhook", "batch_id",
)  # fmt: skip
_LOOK = text(
    f"SELECT CAST(spec -> 'input' AS text), {', '.join(_COLUMNS)} FROM jobs WHERE id = ANY(CAST(:ids AS uuid[]))"  # noqa: S608
)
_OVER = text(f"SELECT id FROM jobs WHERE id = ANY(CAST(:ids AS uuid[])) AND state NOT IN {LIVE}")  # noqa: S608


class Views:
    """What one process looks up. Every call raises `DatabaseUnavailable`; it may be asked again then."""

    def __init__(self, ground: Ground) -> None:
        """Look into the database of `ground`."""
        self._ground = ground
        self._jobs = Coalescer(self._look, most=_MOST_AT_ONCE, passing=_PASSING)
        self._overs = Coalescer(self._look_over, most=_MOST_WAITING, passing=_PASSING)
        self._standings = Coalescer(self._look_up_standings, most=_MOST_AT_ONCE, passing=_PASSING)

    async def job(self, account_id: UUID, job_id: UUID) -> Admitted:
        """Return the account's job as it stands; raises `JobNotFound`, also for somebody else's job.

        Of its spec there is the input only, as the JSON that it is kept as.
        """
        job = await self._jobs.ask(job_id)
        if job is None or job.account_id != account_id:
            raise JobNotFound
        return job

    async def is_over(self, job_id: UUID) -> bool:
        """Tell whether a job has ended."""
        return await self._overs.ask(job_id)

    async def quota(self, account_id: UUID, meters: Sequence[str]) -> dict[str, Standing]:
        """Return how meters of an account stand; one whose period is not open is left out."""
        told = await asyncio.gather(*(self._standings.ask((account_id, meter)) for meter in meters))
        return {meter: standing for meter, standing in zip(meters, told, strict=True) if standing is not None}

    async def _look(self, job_ids: Sequence[UUID]) -> list[Admitted | None]:
        rows = await self._ground.database.ask(_LOOK, {"ids": list(set(job_ids))})
        found = {job.id: job for job in map(_read, rows)}
        return [found.get(job_id) for job_id in job_ids]

    async def _look_over(self, job_ids: Sequence[UUID]) -> list[bool]:
        over = {job_id for (job_id,) in await self._ground.database.ask(_OVER, {"ids": list(set(job_ids))})}
        return [job_id in over for job_id in job_ids]

    async def _look_up_standings(self, pairs: Sequence[tuple[UUID, str]]) -> list[Standing | None]:
        async with self._ground.database.begin() as session:
            found = await ledger.standings(session, set(pairs))
        return [found.get(pair) for pair in pairs]


def _read(row: tuple[Any, ...]) -> Admitted:
    input_, *columns = row
    return Admitted(spec={"input": msgspec.Raw(input_)}, **dict(zip(_COLUMNS, columns, strict=True)))
