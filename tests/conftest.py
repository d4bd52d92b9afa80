"""What every test may ask for: real servers, a fresh database of its own, an account with a key, and a vendor."""

import asyncio
import contextlib
import itertools
import tempfile
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import asyncpg
import httpx2
import msgspec
import pytest
from arq.connections import ArqRedis
from litestar import Litestar
from redis import Redis

from api.app import create_app
from infra import embedded, queue, schema, storage, telemetry
from infra import ground as grounds
from infra import redis as road
from infra.embedded import valkey
from infra.ground import Ground
from infra.models import Account
from infra.settings import Settings
from infra.storage import Storage
from quotas import accounts, keys
from tests.support import stores
from tests.support.fleet import Backend
from tests.support.serving import PLAIN, free_port, serving
from tests.support.vendor import Vendor


@pytest.fixture(scope="session")
def servers() -> Generator[Settings]:
    """A real PostgreSQL with a migrated database to copy, and a real Valkey, for the whole run."""
    # pytest's own folders are too deep for a unix socket's path.
    with tempfile.TemporaryDirectory(prefix="pulse-tests-") as folder:
        settings = Settings(env="test", home=folder)
        telemetry.configure(settings, "tests")
        with embedded.Servers(settings):
            schema.migrate(settings)
            asyncio.run(_hurry(settings))
            yield settings


async def _hurry(servers: Settings) -> None:
    """Let the shared server not wait for the disk: a crash of the machine is none of what is tested on it."""
    await _admin(servers, "ALTER SYSTEM SET fsync = off")
    await _admin(servers, "SELECT pg_reload_conf()")


async def _admin(servers: Settings, statement: str, database: str = "postgres") -> None:
    url = embedded.database_url(servers).replace("+asyncpg", "").replace("/pulse?", f"/{database}?")
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


_numbers = itertools.count(1)


@pytest.fixture
async def vendor() -> AsyncGenerator[Vendor]:
    """A server on loopback that speaks the OpenAI wire, as a test scripts it."""
    async with Vendor.serving() as served:
        yield served


_REUSED = "pulse_test_reused"
_EMPTY = """
    DO $$
    DECLARE
        one regclass;
        is_filled boolean;
        filled text[] := '{}';
    BEGIN
        FOR one IN SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
                          AND relname <> 'alembic_version' LOOP
            EXECUTE format('SELECT EXISTS (SELECT FROM %s)', one) INTO is_filled;
            IF is_filled THEN
                filled := filled || one::text;
            END IF;
        END LOOP;
        IF filled <> '{}' THEN
            EXECUTE 'TRUNCATE ' || array_to_string(filled, ', ') || ' CASCADE';
        END IF;
    END $$
"""


@pytest.fixture
async def database(request: pytest.FixtureRequest, servers: Settings) -> AsyncGenerator[str]:
    """The name of a database with nothing in it: a new one, or for tests marked `reused` theirs, emptied.

    A new one costs a quarter of a second; whoever neither changes its schema nor leaves anybody in it can do without.
    """
    if request.node.get_closest_marker("reused") is None:
        name = f"pulse_test_{next(_numbers)}"
        await _admin(servers, f"CREATE DATABASE {name} TEMPLATE pulse")
        yield name
        await _admin(servers, f"DROP DATABASE {name} WITH (FORCE)")
        return
    with contextlib.suppress(asyncpg.DuplicateDatabaseError):
        await _admin(servers, f"CREATE DATABASE {_REUSED} TEMPLATE pulse")
    await _admin(servers, _EMPTY, _REUSED)
    yield _REUSED


@pytest.fixture
async def settings(servers: Settings, database: str, vendor: Vendor, tmp_path: Path) -> Settings:
    """Settings that point at an empty database, an empty Valkey and the vendor's model `wire-1`."""
    with Redis.from_url(embedded.redis_url(servers)) as redis:  # pyright: ignore[reportUnknownMemberType]
        redis.flushall()  # pyright: ignore[reportUnknownMemberType]
    return msgspec.structs.replace(
        servers,
        home=str(tmp_path),
        database_url=embedded.database_url(servers).replace("/pulse?", f"/{database}?"),
        redis_url=embedded.redis_url(servers),
        port=free_port(),  # signed links name it
        compatible_url=vendor.url,
        compatible_models="wire-1",
        retry_base_s=0.01,
        vendor_tries=1,  # what is tried again is the job, which is what most tests are about
        tend_every_s=0.2,
    )


@pytest.fixture
async def ground(settings: Settings) -> AsyncGenerator[Ground]:
    """The ground on these settings."""
    async with grounds.opened(settings) as opened:
        yield opened


@pytest.fixture
async def redis(settings: Settings) -> AsyncGenerator[ArqRedis]:
    """A client that speaks arq as an arq user's does, in MessagePack."""
    pool = road.pool(settings)
    client = ArqRedis(pool, job_serializer=queue.serialize, job_deserializer=queue.deserialize)
    yield client
    await client.aclose()
    await pool.disconnect()


@pytest.fixture
async def account(ground: Ground) -> Account:
    """An account on the default plan."""
    async with ground.database.begin() as session:
        return await accounts.create(session, "layla@example.com")


@pytest.fixture
async def key(ground: Ground, account: Account) -> str:
    """An API key of `account`."""
    async with ground.database.begin() as session:
        return await keys.issue(session, ground.settings, account.id, name="test")


@pytest.fixture
async def app(settings: Settings) -> Litestar:
    """The API."""
    return create_app(settings)


@pytest.fixture
async def client(app: Litestar, settings: Settings, key: str) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client of the served API that speaks for `account`."""
    async with (
        serving(app, settings.port) as url,
        httpx2.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30, verify=PLAIN
        ) as client,
    ):
        yield client


@pytest.fixture(scope="session")
def s3_address() -> Generator[str]:
    """The address of an S3 server, for the whole run."""
    with stores.moto() as address:
        yield address


@pytest.fixture(params=["local", "s3"])
def stored(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of an empty store: once in a folder, once in buckets."""
    if request.param == "local":
        return stores.in_folder(tmp_path)
    return stores.in_buckets(request.getfixturevalue("s3_address"), tmp_path, monkeypatch)


@pytest.fixture
async def store(stored: Settings) -> AsyncGenerator[Storage]:
    """An empty store: once in a folder, once in buckets."""
    connected = storage.connect(stored)
    yield connected
    await connected.close()


@pytest.fixture
async def mortal() -> AsyncGenerator[tuple[Settings, Backend]]:
    """A running Valkey of this test alone, and settings that point at it."""
    # pytest's own folders are too deep for a unix socket's path.
    with tempfile.TemporaryDirectory(prefix="pulse-mortal-") as folder:
        settings = Settings(env="test", home=folder)
        backend = Backend(valkey.server(settings), settings, "valkey")
        await backend.start()
        try:
            yield Settings(env="test", home=folder, redis_url=embedded.redis_url(settings)), backend
        finally:
            backend.thaw()
            await backend.stop()
