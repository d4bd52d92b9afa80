"""Rate limits: exact over all processes, all or nothing over their scopes, and no obstacle when Redis is away."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import msgspec
import pytest
from arq.connections import ArqRedis
from hypothesis import HealthCheck, given
from hypothesis import settings as trials
from hypothesis import strategies as st

from infra import ids
from infra import redis as road
from infra.models import Account
from infra.settings import Settings
from quotas.credentials import Caller
from quotas.limits import Limits, LimitsUnavailable
from quotas.limits.rates import _PREFIX, _SCRIPT  # pyright: ignore[reportPrivateUsage]
from tests.support.fleet import Backend

HERE = "192.0.2.1"
SECOND = 1_000_000
OFF = dict.fromkeys(["rate_ip", "rate_key", "rate_account", "rate_submit", "rate_read", "rate_auth"], "off")


def somebody(account: str = "a", key: str = "k") -> Caller:
    """Return a caller of whom only the ids matter."""
    return Caller(cast("Account", None), account, key)


@asynccontextmanager
async def processes(settings: Settings, many: int = 1, **rates: str) -> AsyncGenerator[list[Limits]]:
    """Give the limits of `many` processes, each with connections of its own; only the named ones are set."""
    limited = msgspec.structs.replace(settings, **{**OFF, **rates})
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(road.connect(limited)) for _ in range(many)]
        yield [Limits(client, limited) for client in clients]


@pytest.mark.parametrize("scope", ["ip", "key", "account", "submit"])
async def test_of_200_at_once_over_two_processes_exactly_as_many_pass_as_may(settings: Settings, scope: str) -> None:
    async with processes(settings, 2, **{f"rate_{scope}": "50/3600"}) as both:
        asked = [both[n % 2].admit("submit", HERE, somebody()) for n in range(200)]
        verdicts = await asyncio.gather(*asked)
    assert sum(verdict.refused is None for verdict in verdicts) == 50
    refused = [verdict.refused for verdict in verdicts if verdict.refused is not None]
    assert {error.facts["scope"] for error in refused} == {scope}
    assert {error.facts["limit"] for error in refused} == {50}


async def test_a_refused_request_uses_up_nothing_anywhere(settings: Settings) -> None:
    async with processes(settings, rate_submit="1/3600", rate_key="5/3600", rate_ip="9/3600") as (limits,):
        refusals = [(await limits.admit("submit", HERE, somebody())).refused for _ in range(20)]
        assert [refused is None for refused in refusals] == [True] + [False] * 19
        reads = [(await limits.admit("read", HERE, somebody())).refused for _ in range(5)]
        assert [refused is None for refused in reads] == [True] * 4 + [False]
        assert cast("Any", reads[-1]).facts["scope"] == "key"
        others = [(await limits.admit("read", HERE, somebody(key="other"))).refused for _ in range(5)]
        assert [refused is None for refused in others] == [True] * 4 + [False]
        assert cast("Any", others[-1]).facts["scope"] == "ip"


async def test_limits_of_others_are_others(settings: Settings) -> None:
    async with processes(settings, rate_account="1/3600", rate_key="1/3600", rate_ip="3/3600") as (limits,):
        assert (await limits.admit(None, HERE, somebody("a", "1"))).refused is None
        assert (await limits.admit(None, HERE, somebody("a", "2"))).refused is not None
        assert (await limits.admit(None, HERE, somebody("b", "1"))).refused is not None
        assert (await limits.admit(None, HERE, somebody("b", "3"))).refused is None
        assert (await limits.admit(None, "192.0.2.2", somebody("c", "4"))).refused is None


async def test_the_headers_tell_each_limit_with_what_is_left_of_it(settings: Settings) -> None:
    async with processes(settings, rate_ip="8/3600", rate_submit="2/60") as (limits,):
        told = [dict((await limits.admit("submit", HERE, somebody())).headers) for _ in range(3)]
        last = (await limits.admit("submit", HERE, somebody())).refused
    assert {headers[b"ratelimit-policy"] for headers in told} == {b'"ip";q=8;w=3600, "submit";q=2;w=60'}
    assert [headers[b"ratelimit"] for headers in told] == [
        b'"ip";r=7;t=450, "submit";r=1;t=30',
        b'"ip";r=6;t=450, "submit";r=0;t=30',
        b'"ip";r=6;t=450, "submit";r=0;t=30',
    ]
    assert last is not None
    assert last.facts == {"scope": "submit", "limit": 2, "window_s": 60, "retry_after_s": 30}


async def test_what_waited_passes_again(settings: Settings) -> None:
    async with processes(settings, rate_account="20/1") as (limits,):
        while (await limits.admit(None, HERE, somebody())).refused is None:
            pass
        async with asyncio.timeout(5):
            while True:
                if (await limits.admit(None, HERE, somebody())).refused is None:
                    break
                await asyncio.sleep(0.01)


async def test_many_at_once_are_one_call(settings: Settings, redis: ArqRedis) -> None:
    async with processes(settings, rate_account="1000/60") as (limits,):
        await limits.admit(None, HERE, somebody())
        await redis.config_resetstat()  # pyright: ignore[reportUnknownMemberType]
        verdicts = await asyncio.gather(*(limits.admit(None, HERE, somebody()) for _ in range(300)))
        calls: dict[str, Any] = await redis.info("commandstats")  # pyright: ignore[reportUnknownMemberType]
    assert all(verdict.refused is None for verdict in verdicts)
    assert calls["cmdstat_evalsha"]["calls"] == 1
    assert calls["cmdstat_set"]["calls"] == 1, "one account is one number, however many requests"


async def test_a_clock_that_was_set_back_refuses_nobody_for_longer_than_the_window(
    settings: Settings, redis: ArqRedis
) -> None:
    script: Any = redis.register_script(_SCRIPT)

    async def ask(now: int) -> list[int]:
        packed = msgspec.msgpack.encode((now, [(SECOND, 10)], [(1, 1, "ip:x")]))
        return (await script([], [_PREFIX, packed]))[0][:2]

    hour = 3600 * SECOND
    assert [await ask(2 * hour) for _ in range(10)] == [[0, 0]] * 10
    assert await ask(hour) == [1, SECOND]
    assert await ask(hour + SECOND) == [0, 0]


async def test_a_limit_that_is_off_asks_nobody(settings: Settings) -> None:
    nowhere = msgspec.structs.replace(settings, redis_url="redis://127.0.0.1:1")
    async with processes(nowhere) as (limits,):
        verdict = await limits.admit("submit", HERE, somebody())
        assert (verdict.refused, verdict.headers) == (None, ())
        assert (await limits.blame(HERE)).headers == ()


async def test_too_many_wrong_keys_of_an_address_are_told_before_the_next_is_looked_up(settings: Settings) -> None:
    async with processes(settings, 2, rate_auth="5/3600") as both:
        assert (await both[0].suspect(HERE)).refused is None
        blamed = await asyncio.gather(*(both[n % 2].blame(HERE) for n in range(20)))
        assert sum(verdict.refused is None for verdict in blamed) == 5
        for limits in both:
            suspected = (await limits.suspect(HERE)).refused
            assert suspected is not None
            assert suspected.facts["scope"] == "auth"
        assert (await both[0].suspect("192.0.2.2")).refused is None


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_without_redis_jobs_pass_and_nobody_signs_in(mortal: tuple[Settings, Backend], how: str) -> None:
    settings, backend = mortal
    async with processes(settings, rate_submit="1/3600", rate_sign_in="5/3600", rate_auth="1/3600") as (limits,):
        assert (await limits.admit("submit", HERE, somebody())).refused is None
        assert (await limits.admit("submit", HERE, somebody())).refused is not None
        assert (await limits.admit_stranger("sign_in", HERE)).refused is None
        if how == "killed":
            await backend.kill()
        else:
            backend.freeze()
        async with asyncio.timeout(5):  # a hundred times as long as one of them alone would be kept waiting
            for _ in range(200):
                verdict = await limits.admit("submit", HERE, somebody())
                assert verdict.refused is None
                assert verdict.headers == ((b"ratelimit-policy", b'"submit";q=1;w=3600'),)
                assert (await limits.suspect(HERE)).refused is None
                with pytest.raises(LimitsUnavailable):
                    await limits.admit_stranger("sign_in", HERE)
        if how == "killed":
            await backend.start()
        else:
            backend.thaw()
        async with asyncio.timeout(10):
            while True:
                try:
                    await limits.admit_stranger("sign_in", HERE)
                    break
                except LimitsUnavailable:
                    await asyncio.sleep(0.05)


class Model:
    """The same rule, written down the other way: a bucket that fills by one every `each` microseconds."""

    def __init__(self, rates: list[tuple[int, int]]) -> None:
        """Start with every bucket full."""
        self.rates = rates
        self.spent: dict[str, int] = {}

    def ask(self, now: int, request: list[tuple[int, str]]) -> bool:
        """Return whether a request passes, and take what it takes."""
        owed = [max(self.spent.get(name, 0) - now, 0) for _, name in request]
        if any(
            owes + self.rates[rate][0] > self.rates[rate][0] * self.rates[rate][1]
            for owes, (rate, _) in zip(owed, request, strict=True)
        ):
            return False
        for owes, (rate, name) in zip(owed, request, strict=True):
            self.spent[name] = now + owes + self.rates[rate][0]
        return True


RATES: list[tuple[int, int]] = [(SECOND // 3, 3), (SECOND, 1), (7, 5), (SECOND // 7, 7)]
#: Which limit of which somebody a request falls under.
SCOPE = st.tuples(st.integers(0, len(RATES) - 1), st.sampled_from("ab"))
TURN = st.tuples(
    st.integers(0, SECOND), st.lists(st.lists(SCOPE, min_size=1, max_size=4, unique=True), min_size=1, max_size=6)
)


@given(turns=st.lists(TURN, max_size=12))
@trials(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_script_does_what_a_bucket_does(redis: ArqRedis, turns: list[Any]) -> None:
    script: Any = redis.register_script(_SCRIPT)
    model, base, now = Model(RATES), f"{ids.new()}:", 1_700_000_000 * SECOND
    for wait, requests in turns:
        now += wait
        named: list[list[tuple[int, str]]] = [[(rate, f"{rate}{who}") for rate, who in request] for request in requests]
        rows = [[1, *(part for rate, name in request for part in (rate + 1, base + name))] for request in named]
        packed = msgspec.msgpack.encode((now, RATES, rows))
        answers: list[list[int]] = await script([], [_PREFIX, packed])
        for request, answer in zip(named, answers, strict=True):
            refusing, wait_us, standing = answer[0], answer[1], answer[2:]
            assert (refusing == 0) == model.ask(now, request)
            assert (wait_us > 0) == (refusing > 0)
            for (rate, name), left, more_us in zip(request, standing[::2], standing[1::2], strict=True):
                each, most = RATES[rate]
                owed = max(model.spent.get(name, 0) - now, 0)
                assert left == (each * most - owed) // each
                assert owed - more_us <= (most - left - 1) * each
                assert 0 <= more_us <= each
