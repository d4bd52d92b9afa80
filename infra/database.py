"""The one way to PostgreSQL: an engine per process, transactions opened and committed at one boundary, migrations."""

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import asyncpg
import msgspec
from sqlalchemy import TextClause, event, text
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.util.concurrency import greenlet_spawn

from infra import embedded
from infra.errors import PulseError
from infra.settings import Settings

#: Nothing of ours takes long; what does holds a lock that others wait for. A process that is frozen in the middle of a
#: transaction loses it before those others give up.
_TIMEOUTS = {"statement_timeout": "30s", "lock_timeout": "15s", "idle_in_transaction_session_timeout": "10s"}


_CONNECT_S = 5.0


class DatabaseUnavailable(PulseError):
    """The database cannot be reached right now. Please try again."""

    ar = "لا يمكن الوصول إلى قاعدة البيانات الآن. حاول مرة أخرى."
    status = 503


def _dump(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _look(connection: Any, _record: Any, _proxy: Any) -> None:
    """Have a connection replaced that the server has closed.

    asyncpg knows of it without asking; SQLAlchemy's own pre-ping is a transaction, three round trips before every use.
    """
    if connection.driver_connection.is_closed():
        raise DisconnectionError


#: What asyncpg itself raises: SQLAlchemy passes it on when it comes while a new connection is prepared.
_RAW = (asyncpg.PostgresError, asyncpg.InterfaceError)
#: What is raised where SQLAlchemy has no statement under way that it could tell of: by its adapter when there is no
#: connection, by the driver when the server has just ended one that waited in the pool.
_UNCONNECTED = (AsyncAdapt_asyncpg_dbapi.Error, asyncpg.InternalClientError)
#: Classes of SQLSTATE: 08 connection, 28 sign-in, 3D no such database, 40 a deadlock, 53 out of resources, 55P03 and
#: 57014 it took too long (somebody who is frozen holds a lock, or the server was), 57P it is shutting down or starting,
#: 25006 it is a replica by now.
_PASSING = ("08", "25006", "28", "3D", "40", "53", "55P03", "57014", "57P")


def _is_away(error: DBAPIError | asyncpg.PostgresError | asyncpg.InterfaceError) -> bool:
    """Tell a database that cannot be used now from one that refuses a statement."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if isinstance(error, InterfaceError | OperationalError | asyncpg.InterfaceError):
        return True
    told = error.orig if isinstance(error, DBAPIError) else error
    state: str = getattr(told, "sqlstate", None) or ""
    return state.startswith(_PASSING)


@contextmanager
def _telling() -> Generator[None]:
    try:
        yield
    except (OSError, PoolTimeout, *_UNCONNECTED) as error:
        raise DatabaseUnavailable from error
    except (DBAPIError, *_RAW) as error:
        if _is_away(error):
            raise DatabaseUnavailable from error
        raise


class Database:
    """Connections of one process."""

    def __init__(self, settings: Settings) -> None:
        """Prepare the engine; the first transaction connects."""
        self.engine = create_async_engine(
            embedded.database_url(settings),
            pool_size=settings.database_pool,
            max_overflow=0,
            # A statement's parameters are prompts and answers: they are no business of a log.
            hide_parameters=True,
            connect_args={"server_settings": _TIMEOUTS, "timeout": _CONNECT_S},
            json_serializer=_dump,
            json_deserializer=msgspec.json.decode,
        )
        event.listen(self.engine.sync_engine, "checkout", _look)
        self._session = async_sessionmaker(self.engine, expire_on_commit=False)
        self._queries = WeakKeyDictionary[TextClause, tuple[str, Sequence[str]]]()

    @asynccontextmanager
    async def begin(self) -> AsyncGenerator[AsyncSession]:
        """Open a transaction; it is committed at the end of the block and rolled back by any error.

        Raises `DatabaseUnavailable` when there is no connection to be had, or it ends or waits too long; a commit that
        was under way then may have been made.
        """
        with _telling():
            async with self._session() as session, session.begin():
                yield session

    async def ask(self, statement: TextClause, parameters: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """Execute one statement that is a transaction of its own, and return its rows: one round trip.

        Raises `DatabaseUnavailable`; whether the statement was committed is then unknown.
        """
        query, names = self._query(statement)
        with _telling():
            connection = await self.engine.raw_connection()
            driver: Any = connection.driver_connection
            try:
                # Past SQLAlchemy, whose way to a statement costs more than the statement itself.
                rows = await driver.fetch(query, *[parameters[name] for name in names])
            except BaseException as error:
                if not isinstance(error, asyncpg.PostgresError) or driver.is_closed():
                    # In the middle of an answer: whoever had it next would be told that it is busy.
                    driver.terminate()
                    await greenlet_spawn(connection.invalidate)
                raise
            finally:
                await greenlet_spawn(connection.close)
        return [tuple(row) for row in rows]

    def _query(self, statement: TextClause) -> tuple[str, Sequence[str]]:
        """Return a statement as the driver takes it, and its parameters' names in order."""
        query = self._queries.get(statement)
        if query is None:
            compiled: Any = statement.compile(dialect=self.engine.dialect)
            query = self._queries[statement] = (str(compiled), tuple(compiled.positiontup))
        return query

    async def ping(self) -> None:
        """Raise `DatabaseUnavailable` when the database does not answer."""
        async with self.begin() as session:
            await session.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()
