"""Watches batches for those who wait: one look at all of them, however many wait, and at most four a second."""

import asyncio
from uuid import UUID

import structlog
from sqlalchemy import select

from infra.database import DatabaseUnavailable
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Batch
from workers.batches.shelf import BatchNotFound

log = structlog.stdlib.get_logger()

_EVERY_S = 0.25


class Watch:
    """What one process watches."""

    def __init__(self, ground: Ground) -> None:
        """Start with nobody who waits."""
        self._ground = ground
        self._waiting: dict[UUID, asyncio.Future[Batch | PulseError]] = {}
        self._wanted = asyncio.Event()

    async def next(self, batch_id: UUID) -> Batch:
        """Return the batch as it stands a moment from now; raises `BatchNotFound` or `DatabaseUnavailable`."""
        future = self._waiting.get(batch_id)
        if future is None:
            future = self._waiting[batch_id] = asyncio.get_running_loop().create_future()
            self._wanted.set()
        told = await asyncio.shield(future)
        if isinstance(told, PulseError):
            raise told
        return told

    async def run(self) -> None:
        """Look, while somebody waits, for ever."""
        try:
            while True:
                await self._wanted.wait()
                await self._look()
                await asyncio.sleep(_EVERY_S)
        finally:
            for future in self._waiting.values():  # nobody may wait for ever
                future.set_result(DatabaseUnavailable())

    async def _look(self) -> None:
        waiting, self._waiting = self._waiting, {}
        self._wanted.clear()
        found = dict[UUID, Batch]()
        missing: PulseError = BatchNotFound()
        try:
            async with self._ground.database.begin() as session:
                found = {each.id: each for each in await session.scalars(select(Batch).where(Batch.id.in_(waiting)))}
        except DatabaseUnavailable as error:
            missing = error
        except Exception as error:
            log.exception("batches could not be looked at")
            missing = DatabaseUnavailable()
            missing.__cause__ = error
        for batch_id, future in waiting.items():
            future.set_result(found.get(batch_id, missing))
