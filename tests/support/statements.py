"""What a process says to its database: in transactions, which go through SQLAlchemy, and by itself, which does not."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import TextClause, event

from infra.database import Database


def overheard(database: Database) -> list[str]:
    """Return the list that every statement from now on is added to."""
    said: list[str] = []
    ask = database.ask

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        said.append(statement)

    async def noting(statement: TextClause, parameters: Mapping[str, object]) -> list[tuple[Any, ...]]:
        said.append(str(statement))
        return await ask(statement, parameters)

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    database.ask = noting
    return said
