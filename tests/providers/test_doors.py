"""Doors over all processes: one's failures, allowances and slots are known to the others, whatever becomes of Redis."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from redis import Redis

from infra import embedded
from infra import redis as road
from infra.settings import Settings
from providers import deployments, health, types
from providers.doors import _PREFIX, _SCRIPT, Closed, Door, Doors, Lease  # pyright: ignore[reportPrivateUsage]
from providers.gateway import Gateway
from providers.health import Ask, Health, Policy, Told
from tests.support import process
from tests.support.cast import SETTINGS, Cast, Cut, heard, model
from tests.support.fleet import Backend

ONE, OTHER = (Door(deployment, "m") for deployment in deployments.of(SETTINGS)["openai"])
FIRST, SECOND = model("first"), model("second", "anthropic")


@pytest.fixture
def known(servers: Settings) -> Settings:
    """Settings of three vendors and an empty Valkey."""
    with Redis.from_url(embedded.redis_url(servers)) as redis:  # pyright: ignore[reportUnknownMemberType]
        redis.flushall()  # pyright: ignore[reportUnknownMemberType]
    return msgspec.structs.replace(SETTINGS, redis_url=embedded.redis_url(servers))


@asynccontextmanager
async def processes(settings: Settings, **changed: Any) -> AsyncGenerator[tuple[Doors, Doors]]:
    """Give the doors as two processes see them, with connections of their own."""
    settings = msgspec.structs.replace(settings, **changed)
    async with road.connect(settings) as mine, road.connect(settings) as its:
        both = Doors(settings, mine), Doors(settings, its)
        yield both
        for one in both:
            await one.close()


async def entered(doors: Doors, *wanted: Door, tokens: int = 1) -> Lease:
    """Return a slot at the first of these doors that lets in, as soon as one does."""
    async with asyncio.timeout(10):
        while True:
            found = await doors.admit(wanted, tokens)
            if isinstance(found, Lease):
                return found
            await asyncio.sleep(0.02)


async def closed(doors: Doors, *wanted: Door, tokens: int = 1) -> Closed:
    """Return why none of these doors lets in."""
    found = await doors.admit(wanted, tokens)
    assert isinstance(found, Closed)
    return found


async def kept(settings: Settings) -> set[str]:
    """Return the names of what Redis keeps."""
    async with road.connect(settings) as redis:
        client: Any = redis
        return {key.decode() for key in await client.keys("*")}


async def test_failures_of_all_processes_shut_a_door_for_all_and_one_success_opens_it(known: Settings) -> None:
    async with processes(known, breaker_failures=4, breaker_rest_s=0.4) as (one, other):
        for doors in (one, other, one, other):
            (await entered(doors, ONE)).end(health.FAILED)
        for doors in (one, other):
            found = await closed(doors, ONE)
            assert isinstance(found.fact, types.ProviderUnavailable)
            assert 0 < found.wait_s <= 0.4
        assert (await entered(other, ONE, OTHER)).door == OTHER
        trying = await entered(one, ONE)
        assert (await closed(other, ONE)).why == health.SHUT, "one call tries it, not all at once"
        trying.speak()
        await entered(one, ONE)
        await entered(other, ONE)


async def test_a_door_that_is_to_rest_rests_for_all(known: Settings) -> None:
    async with processes(known) as (one, other):
        (await entered(one, ONE)).end(health.NEITHER, rest_s=20, why=health.LIMITED)
        await entered(one, OTHER)  # it comes after what was said
        found = await closed(other, ONE)
        assert isinstance(found.fact, types.ProviderRateLimited)
        assert 19 < found.wait_s <= 20
        assert (await entered(other, ONE, OTHER)).door == OTHER
        assert (await entered(other, Door(ONE.deployment, "another"))).door.model == "another"


async def test_what_one_process_learns_is_left_is_shared_out_among_all(known: Settings) -> None:
    async with processes(known) as (one, other):
        lease = await entered(one, ONE)
        lease.learn(types.Limits(requests_left=2, requests_reset_s=30, tokens_left=100, tokens_reset_s=10))
        lease.end(health.ANSWERED)
        await entered(one, OTHER)
        assert (await closed(other, ONE, tokens=101)).why == health.LIMITED
        await entered(other, ONE, tokens=60)
        assert (await closed(one, ONE, tokens=60)).why == health.LIMITED
        await entered(one, ONE, tokens=10)
        found = await closed(other, ONE, tokens=10)
        assert 28 < found.wait_s <= 30


async def test_an_allowance_that_is_used_up_is_told_before_the_answer_ends(known: Settings) -> None:
    async with processes(known) as (one, other):
        (await entered(one, ONE)).learn(types.Limits(requests_left=0, requests_reset_s=30))
        async with asyncio.timeout(5):
            while isinstance(found := await other.admit([ONE], 1), Lease):
                found.end(health.NEITHER)
        assert found.why == health.LIMITED


async def test_of_many_calls_at_once_over_two_processes_exactly_as_many_pass_as_may(known: Settings) -> None:
    async with processes(known, vendor_slots=10) as both:
        found = await asyncio.gather(*(both[n % 2].admit([ONE, Door(ONE.deployment, "n")], 1) for n in range(60)))
        leases = [one for one in found if isinstance(one, Lease)]
        assert len(leases) == 10
        assert {one.why for one in found if isinstance(one, Closed)} == {health.CROWDED}
        for lease in leases:
            lease.end(health.ANSWERED)
            lease.end(health.ANSWERED)
        again = [await entered(both[n % 2], ONE) for n in range(10)]
        for lease in again:
            lease.end(health.ANSWERED)
    assert await kept(known) == set(), "nothing is left behind"


async def test_whoever_leaves_while_asking_keeps_no_slot(known: Settings) -> None:
    async with processes(known, vendor_slots=1) as (one, other):
        for _ in range(20):
            asking = asyncio.create_task(one.admit([ONE], 1))
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        await entered(other, ONE)


async def test_a_redis_that_forgot_is_told_again(known: Settings) -> None:
    async with processes(known, vendor_slots=2) as (one, other):
        await entered(one, ONE)
        await entered(one, ONE)
        with Redis.from_url(known.redis_url) as redis:  # pyright: ignore[reportUnknownMemberType]
            redis.flushall()  # pyright: ignore[reportUnknownMemberType]
        await entered(one, OTHER)
        assert (await closed(other, ONE)).why == health.CROWDED


_HOLDS = """
import asyncio
from infra import redis as road, settings as config
from providers import deployments
from providers.doors import Door, Doors

async def hold():
    settings = config.load()
    doors = Doors(settings, road.connect(settings), keep_s=0.9)
    door = Door(deployments.of(settings)["openai"][0], "m")
    await asyncio.gather(*(doors.admit([door], 1) for _ in range(settings.vendor_slots)))
    print("held", flush=True)
    await asyncio.sleep(60)

asyncio.run(hold())
"""


async def test_the_slots_of_a_process_that_is_killed_come_back(known: Settings, monkeypatch: Any) -> None:
    settings = msgspec.structs.replace(known, vendor_slots=3)
    for name, value in process.environ(settings).items():
        monkeypatch.setenv(name, value)
    with process.piped(_HOLDS) as holding:
        assert holding.stdout is not None
        assert await asyncio.to_thread(holding.stdout.readline) == "held\n"
        async with processes(settings) as (one, _):
            until = time.monotonic() + 1.5  # it says so again before that is forgotten
            while time.monotonic() < until:
                assert (await closed(one, ONE)).why == health.CROWDED
                await asyncio.sleep(0.1)
            holding.send_signal(signal.SIGKILL)
            for _ in range(3):
                await entered(one, ONE)


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_without_redis_each_process_goes_by_what_it_knows_and_nobody_waits(
    mortal: tuple[Settings, Backend], how: str
) -> None:
    settings, backend = mortal
    async with processes(settings, vendor_slots=3) as (one, other):
        (await entered(one, ONE)).end(health.NEITHER, rest_s=30, why=health.LIMITED)
        await entered(one, OTHER)
        if how == "killed":
            await backend.kill()
        else:
            backend.freeze()
        async with asyncio.timeout(10):
            found = [await one.admit([ONE, OTHER], 1) for _ in range(9)]
            assert [getattr(lease, "door", None) for lease in found] == [OTHER, OTHER, *[None] * 7]
            found = [await other.admit([ONE], 1) for _ in range(9)]
            assert sum(isinstance(lease, Lease) for lease in found) == 3
        await asyncio.sleep(1.1)  # then it is tried again
        waiting = asyncio.create_task(one.admit([ONE], 1))
        for _ in range(20):
            await asyncio.sleep(0)
        assert waiting.done(), "no call waits for that"
        if how == "killed":
            await backend.start()
        else:
            backend.thaw()
        await asyncio.sleep(1.1)
        await entered(other, OTHER)  # by which it is heard that it is there again
        await asyncio.sleep(0.3)
        await entered(other, Door(SECOND_DEPLOYMENT, "m"))
        assert (await closed(one, ONE)).why in {health.CROWDED, health.LIMITED}


SECOND_DEPLOYMENT = deployments.of(SETTINGS)["anthropic"][0]
POLICY = Policy(failures=2, shut_ms=50, try_ms=30, slots=3)
_NAMES = st.sampled_from(["x/m", "x/m", "y/m"])
_TOLD = st.builds(
    Told,
    _NAMES,
    st.integers(0, 3),
    st.sampled_from([0, 0, 0, 0, 20, 60]),
    st.integers(1, 3),
    st.sampled_from([-1, 0, 1, 2]),
    st.sampled_from([0, 100]),
    st.sampled_from([-1, 0, 6, 9]),
    st.sampled_from([0, 100]),
)
_ASKS = st.builds(
    lambda tokens, names: Ask(tokens, tuple(part for name in names for part in (name[0], name))),  # type: ignore[index]
    st.integers(0, 6),
    st.lists(_NAMES, min_size=1, max_size=3, unique=True),
)


@pytest.fixture(scope="module")
def blocking(servers: Settings) -> Generator[Any]:
    """A client without a loop."""
    with Redis.from_url(embedded.redis_url(servers)) as redis:  # pyright: ignore[reportUnknownMemberType]
        yield redis


_LIMITED = [Told("x/m", health.NEITHER, requests=2, requests_ms=900, tokens=9, tokens_ms=900)]
_FAILED = [Told("x/m", health.FAILED)] * 2
_ONE = Ask(2, ("x", "x/m"))


@hypothesis(max_examples=60, deadline=None)
@example(words=[*_LIMITED, _ONE, _ONE, _ONE, "x", "x", 901, _ONE])
@example(words=[*_LIMITED, Ask(6, ("x", "x/m")), Ask(6, ("x", "x/m", "y", "y/m"))])
@example(words=[*_FAILED, _ONE, 51, _ONE, _ONE, 31, _ONE])
@given(words=st.lists(st.one_of(_TOLD, _ASKS, st.integers(1, 40), st.sampled_from(["x", "y"])), max_size=30))
def test_redis_and_a_process_that_is_alone_go_by_one_law(blocking: Any, words: list[Any]) -> None:
    blocking.flushall()
    script = blocking.register_script(_SCRIPT)
    alone, calls, now = Health(POLICY), Counter[str](), 1_000
    for word in words:
        told = [word] if isinstance(word, Told) else []
        asked = [word] if isinstance(word, Ask) else []
        if isinstance(word, int):
            now += word
        elif isinstance(word, str) and calls[word]:
            calls[word] -= 1
        packed = msgspec.msgpack.encode((now, "p", 10_000, POLICY, list(calls.items()), told, asked))
        answers = script([], [_PREFIX, packed])
        for one in told:
            alone.hear(now, one)
        for one in asked:
            answer = alone.admit(now, one, calls)
            assert list(answer) == answers[0]
            if answer[0]:
                calls[one.doors[answer[0] * 2 - 2]] += 1


@asynccontextmanager
async def gateways(settings: Settings, *casts: Cast) -> AsyncGenerator[list[Gateway]]:
    """Give a gateway of a process for each cast, with connections of its own."""
    found = [Gateway(settings, road.connect(settings), cast) for cast in casts]
    yield found
    for gateway in found:
        await gateway.close()
        await gateway._doors._script.registered_client.aclose()  # pyright: ignore[reportPrivateUsage]


async def test_a_key_that_one_gateway_finds_limited_is_not_asked_by_another(known: Settings) -> None:
    limited, fine = Cast([Cut(0, types.ProviderRateLimited(retry_after_s=30))]), Cast()
    async with gateways(known, limited, fine) as (one, other):
        assert (await heard(one, [FIRST])).finish
        for _ in range(10):
            assert (await heard(other, [FIRST])).finish
    assert {asked.deployment for asked in fine.asked} == {limited.asked[1].deployment}


async def test_a_vendor_that_one_gateway_finds_down_is_passed_over_by_another(known: Settings) -> None:
    settings = msgspec.structs.replace(known, openai_api_key="k", breaker_failures=2, vendor_tries=2)
    down, fine = Cast([Cut(0, types.ProviderUnavailable())] * 2), Cast()
    async with gateways(settings, down, fine) as (one, other):
        assert (await heard(one, [FIRST, SECOND])).served == ["second"]
        assert (await heard(other, [FIRST, SECOND])).served == ["second"]
    assert [asked.model for asked in fine.asked] == ["second"]


async def test_a_call_costs_two_round_trips_and_many_at_once_share_them(known: Settings) -> None:
    cast = Cast()
    async with gateways(known, cast) as (gateway,):
        trips: list[Any] = []
        script = gateway._doors._script  # pyright: ignore[reportPrivateUsage]

        async def counted(*args: Any) -> Any:
            trips.append(args)
            return await script(*args)

        counted.registered_client = script.registered_client  # type: ignore[attr-defined]
        gateway._doors._script = counted  # pyright: ignore[reportPrivateUsage]
        await heard(gateway, [FIRST])
        await asyncio.sleep(0.05)
        assert len(trips) == 2
        await asyncio.gather(*(heard(gateway, [FIRST]) for _ in range(60)))
        await asyncio.sleep(0.05)
        assert len(trips) < 40
