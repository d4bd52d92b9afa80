"""Checks of PostgreSQL and Redis, and of what the studio keeps in them."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from redis.exceptions import ResponseError
from sqlalchemy import text

from infra import ground, schema
from infra.ground import Ground
from infra.settings import Settings
from quotas import audit
from scripts.pulse.doctor.finding import Finding, attempt, failed, ok, warning

_OLDEST_POSTGRES = 18
_OLDEST = {"valkey": 8, "redis": 7}
# The tender makes three months ahead; with two there is a month to notice that it does not.
_MONTHS_AHEAD = 2


async def check(settings: Settings) -> list[Finding]:
    """Look at everything."""
    async with ground.opened(settings) as opened:
        told = await asyncio.gather(_database(opened), _redis(opened))
    return [finding for part in told for finding in part]


async def _database(opened: Ground) -> list[Finding]:
    server = await attempt("PostgreSQL", _postgres(opened), _start(opened.settings.database_url, "PULSE_DATABASE_URL"))
    inside: dict[str, Callable[[Ground], Awaitable[Finding]]] = {
        "migrations": _migrations,
        "partitions": _partitions,
        "ledger": _ledger,
    }
    if server.state == "failed":
        return [server, *(warning(name, "not checked", "PostgreSQL first") for name in inside)]
    return [server, *[await attempt(name, look(opened), _MIGRATE) for name, look in inside.items()]]


_MIGRATE = "run the migrations: make run, or .venv/bin/alembic upgrade head"


def _start(url: str, key: str) -> str:
    return f"start the server that {key} names, or correct the address" if url else "start the studio: make run"


async def _postgres(opened: Ground) -> Finding:
    async with opened.database.begin() as session:
        number = int(await session.scalar(text("SHOW server_version_num")) or 0)
    version = f"{number // 10_000}.{number % 10_000}"
    if number // 10_000 < _OLDEST_POSTGRES:
        return failed("PostgreSQL", version, f"the studio needs PostgreSQL {_OLDEST_POSTGRES} or newer")
    return ok("PostgreSQL", version)


async def _migrations(opened: Ground) -> Finding:
    current, newest = await schema.current(opened.database), schema.newest()
    if current != newest:
        return failed("migrations", f"at {current or 'none'}, the newest is {newest}", _MIGRATE)
    return ok("migrations", f"at {current}, the newest")


async def _partitions(opened: Ground) -> Finding:
    now = datetime.now(UTC)
    months = [divmod(now.year * 12 + now.month - 1 + ahead, 12) for ahead in range(_MONTHS_AHEAD + 1)]
    tables = ("jobs", "holds", "ledger_entries")
    wanted = [f"{table}_{year}_{month + 1:02}" for year, month in months for table in tables]
    async with opened.database.begin() as session:
        query = text("SELECT name FROM unnest(CAST(:names AS text[])) name WHERE to_regclass(name) IS NULL")
        missing = list(await session.scalars(query, {"names": wanted}))
    if missing:
        return warning(
            "partitions",
            f"missing: {', '.join(missing)}",
            "the tender makes them: see that `python -m workers tend` runs",
        )
    return ok("partitions", f"made for this month and the next {_MONTHS_AHEAD}")


async def _ledger(opened: Ground) -> Finding:
    async with opened.database.begin() as session:
        lines = await audit.disagreements(session)
    if lines:
        more = f" (and {len(lines) - 1} more)" if lines[1:] else ""
        return failed("ledger", lines[0] + more, "units were moved by something else than quotas/ledger.py: find it")
    return ok("ledger", "balances to the unit")


async def _redis(opened: Ground) -> list[Finding]:
    start = _start(opened.settings.redis_url, "PULSE_REDIS_URL")
    server = await attempt("Redis", _version(opened), start)
    if server.state == "failed":
        return [server, warning("persistence", "not checked", "Redis first")]
    return [server, await attempt("persistence", _persistence(opened), start)]


async def _version(opened: Ground) -> Finding:
    told: dict[str, object] = await opened.redis.info("server")  # pyright: ignore[reportUnknownMemberType]
    name = "valkey" if "valkey_version" in told else "redis"
    version = str(told[f"{name}_version"])
    if int(version.split(".", maxsplit=1)[0]) < _OLDEST[name]:
        return failed("Redis", f"{name} {version}", "the studio needs Valkey 8 or newer, or Redis 7 or newer")
    return ok("Redis", f"{name.capitalize()} {version}")


async def _persistence(opened: Ground) -> Finding:
    try:
        told: dict[str, str] = await opened.redis.config_get()  # pyright: ignore[reportUnknownMemberType]
    except ResponseError:  # a hosted server lets nobody look
        return warning("persistence", "the server does not tell", "see in its console that it keeps its data")
    if told.get("maxmemory-policy", "noeviction") != "noeviction":
        return warning("persistence", "the server may evict keys", "set maxmemory-policy to noeviction")
    if told.get("appendonly") != "yes":
        return warning("persistence", "off: a restart empties the queue", "set appendonly to yes")
    return ok("persistence", "append-only file")
