"""The way to PostgreSQL, where it takes nobody any more."""

import re

import msgspec
import pytest
from sqlalchemy import text

from infra.database import Database, DatabaseUnavailable
from infra.settings import Settings


async def test_a_database_that_takes_nobody_any_more_is_unavailable(settings: Settings) -> None:
    standing = Database(settings)
    await standing.ask(text("CREATE DATABASE closed"), {})
    url = re.sub(r"/pulse_test_\d+\?", "/closed?", settings.database_url)
    closed = Database(msgspec.structs.replace(settings, database_url=url))
    assert await closed.ask(text("SELECT 1"), {}) == [(1,)]
    await closed.close()  # it connects anew when it is asked again
    await standing.ask(text("ALTER DATABASE closed ALLOW_CONNECTIONS false"), {})
    with pytest.raises(DatabaseUnavailable):
        await closed.ask(text("SELECT 1"), {})
    await closed.close()
    await standing.ask(text("DROP DATABASE closed"), {})
    await standing.close()
