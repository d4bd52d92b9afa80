"""Processes and servers that are killed, frozen and restarted at random under load: nothing is lost or doubled."""

import asyncio
import itertools
import os
import random
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import msgspec
import pytest
import pytest_asyncio
from sqlalchemy import select

from infra import embedded, queue, schema
from infra import ground as grounds
from infra.ground import Ground
from infra.models import Job
from infra.settings import Settings
from quotas import accounts, keys
from tests.support import load
from tests.support.books import assert_charged_once, assert_even
from tests.support.chats import Client, chat
from tests.support.faults import Fate, draw
from tests.support.fleet import Backend, Backends, Fleet
from tests.support.load import Errand, Load, Question, over, persist
from tests.support.serving import free_port
from tests.support.vendor import Vendor
from tests.support.viewer import Viewer, place

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

#: Another one every time, unless a failure is to be repeated.
SEED = int(os.environ.get("CHAOS_SEED", random.randrange(10**9)))
_numbers = itertools.count(1)
#: pytest's `record_property`: what a test measured, for its report.
type Property = Callable[[str, object], None]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backends() -> AsyncGenerator[Backends]:
    """A PostgreSQL, with a migrated database to copy, and a Valkey that no other test uses."""
    # pytest's own folders are too deep for a unix socket's path.
    with tempfile.TemporaryDirectory(prefix="pulse-faults-") as folder:
        backends = Backends(Settings(env="test", home=folder))
        await backends.start()
        try:
            await asyncio.to_thread(schema.migrate, backends.settings)
            yield backends
        finally:
            await backends.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def vendor() -> AsyncGenerator[Vendor]:
    """A vendor that answers what is asked."""
    async with Vendor.serving() as served:
        served.otherwise = load.answer
        yield served


@pytest_asyncio.fixture(loop_scope="module")
async def settings(backends: Backends, vendor: Vendor) -> Settings:
    """Settings that point at a fresh database and an empty Valkey, with short leases."""
    name = f"pulse_test_{next(_numbers)}"
    url = embedded.database_url(backends.settings)
    connection = await asyncpg.connect(url.replace("+asyncpg", "").replace("/pulse?", "/postgres?"))
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE pulse")
    await connection.close()
    settings = msgspec.structs.replace(
        backends.settings,
        port=free_port(),
        database_url=url.replace("/pulse?", f"/{name}?"),
        redis_url=embedded.redis_url(backends.settings),
        openai_base_url=vendor.url,
        openai_model="wire-1",
        heartbeat_s=2.0,
        lease_s=2.0,
        grace_s=2.0,
        tend_every_s=0.5,
        retry_base_s=0.1,
    )
    async with grounds.opened(settings) as ground:
        await ground.redis.flushall()  # pyright: ignore[reportUnknownMemberType]
    return settings


async def _clients(settings: Settings, count: int, stack: AsyncExitStack) -> list[Client]:
    """Return clients of the API, each of an account of its own."""
    clients: list[Client] = []
    async with grounds.opened(settings) as ground, ground.database.begin() as session:
        for n in range(count):
            account = await accounts.create(session, f"account-{n}@example.com")
            key = await keys.issue(session, settings, account.id, name="test")
            headers = {"Authorization": f"Bearer {key}"}
            url = f"http://127.0.0.1:{settings.port}"
            client = Client(base_url=url, headers=headers, timeout=5, limits=httpx2.Limits(max_connections=None))
            clients.append(await stack.enter_async_context(client))
    return clients


async def _ask(client: Client, *questions: Question) -> list[dict[str, Any]]:
    """Submit the questions and return their jobs."""
    asked = [chat(str(question), max_output_tokens=64) for question in questions]
    return [(await persist(client, "POST", "/v1/jobs", json=request)).json()["job"] for request in asked]


async def _answered(client: Client, jobs: list[dict[str, Any]], *questions: Question) -> list[int]:
    """Wait until the questions are answered as they should be, and return which attempt did it."""
    async with asyncio.timeout(60):
        done = [await over(client, job) for job in jobs]
    for job, question in zip(done, questions, strict=True):
        assert (job["state"], job["error"]) == ("succeeded", None)
        assert job["result"]["text"] == "".join(question.deltas)
        assert job["charged"] == {"chat_tokens": question.charge}
    return [job["attempt"] for job in done]


@asynccontextmanager
async def _frozen(server: Backend) -> AsyncGenerator[None]:
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


async def _books_are_right(settings: Settings) -> None:
    async with grounds.opened(settings) as ground:
        await assert_charged_once(ground)
        await assert_even(ground)


async def _round(
    settings: Settings, backends: Backends, log: Path, seed: str, *, faults: int, longest_s: float
) -> None:
    """Let faults happen under load, heal everything, and look at what became of it."""
    async with AsyncExitStack() as stack:
        clients = await _clients(settings, 3, stack)
        fleet = await stack.enter_async_context(Fleet.running(settings, backends, log, workers=3))
        drawn = draw(random.Random(f"{seed} faults"), fleet, faults, longest_s)
        told = f"CHAOS_SEED={SEED}, log {log}:\n" + "\n".join(map(str, drawn))
        try:
            fate, running = Fate(fleet), Load(clients, random.Random(f"{seed} load"))
            try:
                await fate.befall(drawn)
            finally:
                await running.over(within_s=60)
            assert fleet.fallen() == []
            assert set(fate.codes) <= {0}
            assert fleet.traceback() == "", "an outage is no bug"
            async with grounds.opened(settings) as ground:
                await _assert_right(ground, running.errands)
        except BaseException as error:
            error.add_note(told)
            raise


async def _assert_right(ground: Ground, errands: list[Errand]) -> None:
    for errand in errands:
        _assert_done(errand)
        for viewer in errand.viewers:
            _assert_told_once(errand, viewer)
        await _assert_agreed(errand)
    await assert_charged_once(ground)
    await assert_even(ground)
    await _assert_idle(ground)
    await ground.redis.flushall()  # pyright: ignore[reportUnknownMemberType]
    for errand in errands:
        await _assert_agreed(errand)


def _assert_done(errand: Errand) -> None:
    job, whole = errand.job, "".join(errand.question.deltas)
    if job["state"] == "canceled":
        assert errand.cancelled
        assert job["result"] is None or whole.startswith(job["result"]["text"])
    else:
        assert (job["state"], job["error"]) == ("succeeded", None), job
        assert job["result"]["text"] == whole
        assert job["charged"] == {"chat_tokens": errand.question.charge}


def _assert_told_once(errand: Errand, viewer: Viewer) -> None:
    places = [place(name) for name, _ in viewer.told]
    assert places == sorted(set(places)), "once, in order"
    for _, some in itertools.groupby(places, key=lambda at: at[0]):
        numbers = [n for _, n in some]
        assert numbers == list(range(1, len(numbers) + 1)), "without a gap"
    assert viewer.told[-1][1]["type"] == errand.job["state"]
    if errand.job["state"] == "succeeded":
        assert viewer.text == errand.job["result"]["text"]
        assert viewer.told[-1][1]["charged"] == errand.job["charged"]


async def _assert_agreed(errand: Errand) -> None:
    """Fail unless everyone who followed a job was told the same of its last attempt, and whoever comes now is too."""
    late = Viewer(errand.client, errand.job["urls"]["events"])
    async with asyncio.timeout(20):
        await late.watch()
    _assert_told_once(errand, late)
    for viewer in errand.viewers:
        if errand.job["state"] == "succeeded":
            assert viewer.last_attempt == late.last_attempt
        else:  # of what was cancelled while it waited nothing is kept but that
            assert viewer.told[-1][1] == late.told[-1][1]


async def _assert_idle(ground: Ground) -> None:
    """Fail unless the queue forgets every job that is over, also those that came back with an old snapshot."""
    base, left = queue.base(queue.name("chat")), {"?": 1}
    keys = {name: f"{base}{name}" for name in ("leases", "owners", "who", "losses", "running")}
    async with asyncio.timeout(20):
        while left:
            kinds = {name: (key, (await ground.redis.type(key)).decode()) for name, key in keys.items()}
            left = {name: kind for name, kind in kinds.items() if kind[1] != "none"}
            await asyncio.sleep(0.2)


async def test_random_faults_under_load_lose_and_double_nothing(
    settings: Settings, backends: Backends, tmp_path: Path
) -> None:
    await _round(settings, backends, tmp_path / "log", f"{SEED}", faults=6, longest_s=3.0)


@pytest.mark.parametrize("away_s", [3.0, pytest.param(30.0, marks=pytest.mark.chaos)])
async def test_valkey_gone_for_a_while_ends_no_process_and_disturbs_no_running_job(
    settings: Settings, backends: Backends, vendor: Vendor, tmp_path: Path, away_s: float, record_property: Property
) -> None:
    running = [Question(n, 20, 60) for n in range(4)]
    during, after = Question(4, 3, 10), Question(5, 3, 10)
    async with AsyncExitStack() as stack:
        (client,) = await _clients(settings, 1, stack)
        fleet = await stack.enter_async_context(Fleet.running(settings, backends, tmp_path / "log"))
        jobs = await _ask(client, *running)
        await asyncio.wait_for(vendor.speaking.wait(), 20)
        await backends.valkey.kill()
        jobs += await _ask(client, during)
        await asyncio.sleep(away_s)
        assert fleet.fallen() == []
        await backends.valkey.start()
        back_s = time.monotonic()
        jobs += await _ask(client, after)
        attempts = await _answered(client, jobs[-1:], after)
        record_property("valkey_back_to_next_job_s", round(time.monotonic() - back_s, 2))
        attempts += await _answered(client, jobs[:-1], *running, during)
        assert fleet.fallen() == []
    assert attempts == [1] * 6
    assert len(vendor.requests) == 6
    await _books_are_right(settings)


@pytest.mark.chaos
async def test_a_server_that_hangs_keeps_nobody_waiting_for_long(
    settings: Settings, backends: Backends, tmp_path: Path
) -> None:
    question = Question(1, 3, 10)
    async with AsyncExitStack() as stack:
        (client,) = await _clients(settings, 1, stack)
        await stack.enter_async_context(Fleet.running(settings, backends, tmp_path / "log"))
        async with _frozen(backends.valkey):
            unready = [await client.get("/readyz", timeout=8)]
            asked = chat(str(question), max_output_tokens=64)
            admitted = await client.post("/v1/jobs", json=asked, timeout=15)
        async with _frozen(backends.postgres):
            unready.append(await client.get("/readyz", timeout=8))
        assert [answer.status_code for answer in unready] == [503, 503]
        assert await _answered(client, [admitted.json()["job"]], question) == [1]
    await _books_are_right(settings)


async def test_postgresql_gone_while_jobs_finish_is_waited_for_with_their_results_in_hand(
    settings: Settings, backends: Backends, vendor: Vendor, tmp_path: Path
) -> None:
    questions = [Question(n, 10, 60) for n in range(4)]
    async with AsyncExitStack() as stack:
        (client,) = await _clients(settings, 1, stack)
        fleet = await stack.enter_async_context(Fleet.running(settings, backends, tmp_path / "log"))
        jobs = await _ask(client, *questions)
        viewers = [Viewer(client, job["urls"]["events"]) for job in jobs]
        watching = [asyncio.create_task(viewer.watch()) for viewer in viewers]
        await asyncio.wait_for(vendor.asked(4), 20)
        await backends.postgres.stop()
        await asyncio.sleep(2.5)  # longer than the answers take, and than a lease
        assert fleet.fallen() == []
        await backends.postgres.start()
        assert await _answered(client, jobs, *questions) == [1] * 4
        await asyncio.wait_for(asyncio.gather(*watching), 20)
    assert len(vendor.requests) == 4, "nothing was asked again"
    assert [viewer.text for viewer in viewers] == ["".join(question.deltas) for question in questions]
    await _books_are_right(settings)


async def test_a_worker_frozen_for_longer_than_its_lease_says_ends_and_charges_nothing_and_serves_on(
    settings: Settings, backends: Backends, vendor: Vendor, tmp_path: Path
) -> None:
    question, later = Question(1, 10, 60), Question(2, 3, 10)
    async with AsyncExitStack() as stack:
        (client,) = await _clients(settings, 1, stack)
        fleet = await stack.enter_async_context(Fleet.running(settings, backends, tmp_path / "log"))
        jobs = await _ask(client, question)
        viewer = Viewer(client, jobs[0]["urls"]["events"])
        watching = asyncio.create_task(viewer.watch())
        await asyncio.wait_for(vendor.speaking.wait(), 20)
        frozen = await fleet.holder(jobs[0]["id"])
        fleet.freeze(frozen)  # the rest of the answer waits for it in its socket
        assert await _answered(client, jobs, question) == [2]
        await asyncio.wait_for(watching, 20)
        fleet.thaw(frozen)
        await asyncio.sleep(1.0)  # it has the answer in hand at once
        late = Viewer(client, jobs[0]["urls"]["events"])
        await late.watch()
        assert late.told == viewer.told
        for name in set(fleet.workers) - {frozen}:
            fleet.kill(name)
        jobs += await _ask(client, later)
        assert await _answered(client, jobs, question, later) == [2, 1]
        assert fleet.fallen() == []
    await _books_are_right(settings)


async def test_a_worker_told_to_stop_under_load_loses_no_job_and_counts_no_failure(
    settings: Settings, backends: Backends, tmp_path: Path
) -> None:
    short, long = [Question(n, 10, 60) for n in range(6)], [Question(n, 40, 80) for n in range(6, 12)]
    async with AsyncExitStack() as stack:
        (client,) = await _clients(settings, 1, stack)
        fleet = await stack.enter_async_context(Fleet.running(settings, backends, tmp_path / "log"))
        jobs = await _ask(client, *short, *long)
        told = await fleet.holder(jobs[-1]["id"])
        assert await fleet.terminate(told) == 0
        attempts = await _answered(client, jobs, *short, *long)
        assert fleet.fallen() == []
    assert attempts[:6] == [1] * 6, "what could end within the grace did"
    assert 1 < attempts[-1] == max(attempts)
    async with grounds.opened(settings) as ground, ground.database.begin() as session:
        assert list(await session.execute(select(Job.tries, Job.losses).distinct())) == [(0, 0)]
    await _books_are_right(settings)


async def test_a_killed_workers_job_runs_again_within_ten_seconds_by_default(
    settings: Settings, backends: Backends, vendor: Vendor, tmp_path: Path, record_property: Property
) -> None:
    settings = msgspec.structs.replace(settings, lease_s=Settings().lease_s, tend_every_s=Settings().tend_every_s)
    question = Question(1, 10, 60)
    async with AsyncExitStack() as stack:
        (client,) = await _clients(settings, 1, stack)
        fleet = await stack.enter_async_context(Fleet.running(settings, backends, tmp_path / "log"))
        jobs = await _ask(client, question)
        await asyncio.wait_for(vendor.speaking.wait(), 20)
        fleet.kill(await fleet.holder(jobs[0]["id"]))
        killed_s = time.monotonic()
        await asyncio.wait_for(vendor.asked(2), 20)
        record_property("kill_to_rerun_s", took_s := round(time.monotonic() - killed_s, 2))
        assert await _answered(client, jobs, question) == [2]
    assert took_s <= 10
    await _books_are_right(settings)


@pytest.mark.chaos
@pytest.mark.parametrize("number", range(15))
async def test_round_after_round_of_random_faults_loses_and_doubles_nothing(
    settings: Settings, backends: Backends, tmp_path: Path, number: int
) -> None:
    await _round(settings, backends, tmp_path / "log", f"{SEED} {number}", faults=12, longest_s=8.0)
