"""Runs the migrations on the connection that `infra.schema` hands over, or on the configured database."""

import asyncio
import re

from alembic import context
from alembic.runtime.environment import NameFilterParentNames, NameFilterType
from sqlalchemy import Connection, text

from infra import settings
from infra.database import Database
from infra.models import Table

_PARTITION = re.compile(
    r"^(jobs|holds|ledger_entries|batch_lines|batch_results|webhook_messages|webhook_deliveries)"
    r"_(default|\d{4}_\d{2})$"
)


def _is_ours(name: str | None, kind: NameFilterType, _parents: NameFilterParentNames) -> bool:
    """Leave out the partitions: `make_partitions` (migrations 0001 and 0005) makes them, not a model."""
    return not (kind == "table" and name and _PARTITION.match(name))


# Any fixed number: two deployments that start at once migrate one after the other.
_LOCK = 7_305_581_001


def _run(connection: Connection) -> None:
    connection.execute(text("SET LOCAL statement_timeout = 0"))  # a big table takes its time
    connection.execute(text("SET LOCAL lock_timeout = 0"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    context.configure(connection=connection, target_metadata=Table.metadata, include_name=_is_ours)
    with context.begin_transaction():
        context.run_migrations()


async def _run_alone() -> None:
    """For the `alembic` command itself, such as `alembic revision --autogenerate`."""
    database = Database(settings.load())
    async with database.engine.begin() as connection:
        await connection.run_sync(_run)
    await database.close()


given = context.config.attributes.get("connection")
if given is None:
    asyncio.run(_run_alone())
else:
    _run(given)
