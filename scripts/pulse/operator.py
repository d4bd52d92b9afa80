"""The studio's own servers, as its operator uses them from the terminal; what is wrong with them is told plainly."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sqlalchemy.exc import DBAPIError

from infra import ground as grounds
from infra import redis as road
from infra import schema
from infra.database import Database, DatabaseUnavailable
from infra.errors import PulseError
from infra.ground import Ground
from infra.settings import Settings


class DatabaseNotMigrated(PulseError):
    """The database has no tables yet. `make run` makes them; so does `.venv/bin/alembic upgrade head`."""

    ar = "لا جداول في قاعدة البيانات بعد. ينشئها الأمر make run أو ‎.venv/bin/alembic upgrade head"


class DatabaseRefused(PulseError):
    """The database refuses the studio: {reason}"""

    ar = "قاعدة البيانات ترفض الاستوديو: {reason}"


async def check(database: Database) -> None:
    """Raise `DatabaseNotMigrated`, `DatabaseRefused`, or `DatabaseUnavailable`, where the database cannot be used."""
    try:
        if await schema.current(database) is None:
            raise DatabaseNotMigrated
    except DatabaseUnavailable as error:
        if isinstance(error.__cause__, DBAPIError):  # no such database, or a wrong password
            raise DatabaseRefused(reason=error.__cause__.orig) from error
        raise


@asynccontextmanager
async def opened(settings: Settings) -> AsyncGenerator[Ground]:
    """Stand on the studio's ground for the length of a block; what Redis cannot do is told as `RedisUnavailable`."""
    async with grounds.opened(settings) as ground:
        await check(ground.database)
        try:
            yield ground
        except road.AWAY as error:
            raise road.RedisUnavailable from error
