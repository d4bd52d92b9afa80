"""The one way to PostgreSQL: an engine per process, transactions opened and committed at one boundary, migrations."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import msgspec
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from infra import embedded
from infra.errors import PulseError
from infra.settings import Settings


class DatabaseUnavailable(PulseError):
    """The database cannot be reached right now. Please try again."""

    ar = "لا يمكن الوصول إلى قاعدة البيانات الآن. حاول مرة أخرى."
    status = 503


def _dump(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _is_away(error: DBAPIError) -> bool:
    """Tell a database that cannot be used now from one that refuses a statement, by the class of its SQLSTATE.

    08 connection, 28 sign-in, 3D no such database, 53 out of resources, 57P it is shutting down or starting.
    """
    state: str = getattr(error.orig, "sqlstate", None) or ""
    return (
        error.connection_invalidated
        or isinstance(error, InterfaceError | OperationalError)
        or state.startswith(("08", "28", "3D", "53", "57P"))
    )


class Database:
    """Connections of one process."""

    def __init__(self, settings: Settings) -> None:
        """Prepare the engine; the first transaction connects."""
        self.engine = create_async_engine(
            embedded.database_url(settings),
            pool_size=settings.database_pool,
            max_overflow=0,
            pool_pre_ping=True,
            # A statement's parameters are prompts and answers: they are no business of a log.
            hide_parameters=True,
            # Nothing of ours takes long; what does holds a lock that others wait for.
            connect_args={"server_settings": {"statement_timeout": "30s", "lock_timeout": "15s"}},
            json_serializer=_dump,
            json_deserializer=msgspec.json.decode,
        )
        self._session = async_sessionmaker(self.engine, expire_on_commit=False)

    @asynccontextmanager
    async def begin(self) -> AsyncGenerator[AsyncSession]:
        """Open a transaction; it is committed at the end of the block and rolled back by any error.

        Raises `DatabaseUnavailable` when there is no connection to be had.
        """
        try:
            async with self._session() as session, session.begin():
                yield session
        except (OSError, PoolTimeout) as error:
            raise DatabaseUnavailable from error
        except DBAPIError as error:
            if _is_away(error):
                raise DatabaseUnavailable from error
            raise

    async def ping(self) -> None:
        """Raise `DatabaseUnavailable` when the database does not answer."""
        async with self.begin() as session:
            await session.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()
