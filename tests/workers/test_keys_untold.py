"""A vendor's key is told to nobody: not by logs, errors, events, results or rows, whatever a vendor repeats."""

import base64
import json
import logging
import sys
from collections.abc import Generator
from typing import Any
from urllib.parse import quote, quote_plus

import msgspec
import pytest
import structlog
from redis import Redis
from sqlalchemy import text

from infra import ground as grounds
from infra import telemetry
from infra.errors import PulseError
from infra.ground import Ground
from infra.redaction import Redactor
from infra.settings import Settings
from providers import deployments, types
from providers.deployments import Vendor
from providers.vendors import Vendors
from quotas import accounts
from tests.support.echoing import PLACES, echoing
from tests.support.lives import asked, job_of
from tests.support.work import work_off
from workers import lifecycle
from workers.desk import Desk
from workers.perform import InternalError

log = structlog.stdlib.get_logger()

VENDORS: tuple[Vendor, ...] = ("compatible", "openai", "anthropic", "google")
KEY = "sk-test-Zq7TopSecret0123456789abcdefXYZ"
#: Other keys that a header, an address, JSON and Python's own way to show text spell in other ways; and two that no
#: header can have.
ODD = ('g/+=%Zz"q\\uoted"-0123456789', "line\nbreak-0123456789-abcdef", "مفتاح-سري-جدا-0123456789")


@pytest.fixture(autouse=True)
def told(servers: Settings, capfd: pytest.CaptureFixture[str]) -> Generator[pytest.CaptureFixture[str]]:
    """What the process says; at the end it logs as before."""
    yield capfd
    telemetry.configure(servers, "tests")


def with_key(settings: Settings, vendor: Vendor, url: str, key: str) -> Settings:
    """Return settings of an installation that has this vendor alone."""
    bare = msgspec.structs.replace(settings, compatible_url="", max_tries=1, log_level="debug")
    if vendor == "compatible":
        return msgspec.structs.replace(bare, compatible_url=f"{url}/v1?api-key={quote(key)}", compatible_api_key=key)
    return msgspec.structs.replace(bare, **{f"{vendor}_api_key": key, f"{vendor}_base_url": url})


async def everything(ground: Ground) -> str:
    """Return all rows of all tables, and all that is in Redis."""
    async with ground.database.begin() as session:
        tables = await session.scalars(
            text("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
        )
        rows = [str(row) for table in tables for row in await session.scalars(text(f'SELECT t::text FROM "{table}" t'))]
    kind: Any = Redis
    with kind.from_url(ground.settings.redis_url, decode_responses=True, encoding_errors="replace") as redis:
        rows += [str(_held(redis, name)) for name in redis.scan_iter()]
    return "\n".join(rows)


def _held(redis: Any, name: str) -> Any:
    """Return what a name of Redis holds."""
    match redis.type(name):
        case "string":
            return redis.get(name)
        case "hash":
            return redis.hgetall(name)
        case "stream":
            return redis.xrange(name)
        case "zset":
            return redis.zrange(name, 0, -1, withscores=True)
        case "set":
            return redis.smembers(name)
        case other:
            assert other == "list", other
            return redis.lrange(name, 0, -1)


def parts(key: str) -> set[str]:
    """Return what nothing may have in it: the key as it may be spelled, and its better half."""
    spelled = {key, quote(key), quote(key, safe=""), quote_plus(key), json.dumps(key)[1:-1], repr(key)[1:-1]}
    spelled |= {repr(key.encode())[2:-1], base64.b64encode(key.encode()).decode()}
    spelled |= {json.dumps(each)[1:-1] for each in spelled}
    return spelled | {spelling[: len(spelling) * 2 // 3] for spelling in spelled}


async def fail(settings: Settings, env: str) -> tuple[dict[str, Any], str]:
    """Have a job fail; returns its error, and everything that is kept."""
    telemetry.configure(msgspec.structs.replace(settings, env=env), "test")
    async with grounds.opened(settings) as ground:
        async with ground.database.begin() as session:
            address = "zaid@example.com"
            account = await accounts.find(session, address) or await accounts.create(session, address)
        submission = asked(account, webhook="https://example.com/told")
        job = (await Desk(ground).submit(submission)).job
        await work_off(settings)
        row = await job_of(ground, job.id)
        assert row.state == "failed", (row.state, row.result)
        return row.error or {}, await everything(ground)


def assert_untold(key: str, *where: str) -> None:
    """Fail where the key is told."""
    for place in where:
        assert [part for part in parts(key) if part in place] == [], place


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("whose", VENDORS)
async def test_what_an_adapter_says_of_a_vendor_that_repeats_the_key_has_none_of_it(
    told: pytest.CaptureFixture[str], whose: Vendor, place: str
) -> None:
    vendors = Vendors()
    async with echoing(place) as url:
        settings = with_key(Settings(env="production" if PLACES.index(place) % 2 else "test"), whose, url, KEY)
        telemetry.configure(settings, "test")
        call = types.ChatCall(model="m", turns=[types.Turn("user", [types.Text("hi")])], output_tokens=16)
        try:
            _ = [chunk async for chunk in vendors.chat(deployments.of(settings)[whose][0]).stream(call)]
        except Exception as error:
            log.exception("it failed", error=error, shown=repr(error))
            fact = error if isinstance(error, PulseError) else InternalError()
        else:
            pytest.fail("the server never answers well")
        await vendors.close()
    said = told.readouterr()
    assert "Traceback" in said.out
    kept = Redactor(settings.secrets).values(lifecycle.failure(fact))
    assert_untold(KEY, json.dumps(kept), said.out, said.err)


@pytest.mark.reused
@pytest.mark.parametrize("whose", VENDORS)
async def test_a_job_that_fails_by_a_vendor_that_repeats_its_key_keeps_none_of_it(
    settings: Settings, told: pytest.CaptureFixture[str], whose: Vendor
) -> None:
    async with echoing("400") as url:
        error, kept = await fail(with_key(settings, whose, url, KEY), "test")
    said = told.readouterr()
    assert error["code"] in said.out, "it was logged"
    assert_untold(KEY, json.dumps(error), kept, said.out, said.err)


@pytest.mark.reused
@pytest.mark.parametrize("key", ODD, ids=["signs", "line feed", "Arabic"])
@pytest.mark.parametrize("env", ["test", "production"])
async def test_a_key_is_known_in_every_spelling(
    settings: Settings, told: pytest.CaptureFixture[str], key: str, env: str
) -> None:
    async with echoing("400") as url:
        error, kept = await fail(with_key(settings, "compatible", url, key), env)
    said = told.readouterr()
    assert_untold(key, json.dumps(error), json.dumps(error, ensure_ascii=False), kept, said.out, said.err)


def test_what_holds_keys_does_not_show_them() -> None:
    settings = Settings(
        openai_api_key=f"{KEY}*3, another-key-0123456789",
        anthropic_api_key=KEY,
        google_api_key=KEY,
        compatible_url=f"https://user:{KEY}@example.com/v1",
        compatible_api_key=KEY,
        secret=KEY,
        database_url=f"postgresql://pulse:{KEY}@db/pulse",
    )
    found = deployments.of(settings)
    shown = f"{settings!r} {settings} {found!r} {[str(each) for each in found['openai']]}"
    assert_untold(KEY, shown)
    assert {KEY, "another-key-0123456789"} == settings.secrets


def _raise() -> None:
    raise ValueError(f"Illegal header value {KEY.encode()!r}") from RuntimeError(f"url?key={KEY}")


@pytest.mark.parametrize("env", ["test", "production"])
def test_the_words_of_a_log_line_its_facts_and_its_traceback_are_redacted(
    told: pytest.CaptureFixture[str], env: str
) -> None:
    telemetry.configure(Settings(openai_api_key=KEY, env=env, log_level="debug"), "test")  # type: ignore[arg-type]
    try:
        _raise()
    except ValueError as error:
        structlog.stdlib.get_logger().exception("it failed with %s", KEY, key=KEY, nested={"key": [KEY]})
        logging.getLogger("a.library").exception("it failed with %s", KEY, stack_info=True)
        sys.excepthook(type(error), error, error.__traceback__)
    said = told.readouterr()
    assert said.out.count("ValueError: ") == 2
    assert "RuntimeError" in said.err
    assert said.out.count("[redacted]") == 8
    assert_untold(KEY, said.out, said.err)
