"""Limits over HTTP: what is refused costs nothing, and every answer tells where its caller stands."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec
import pytest

from api.app import create_app
from infra.ground import Ground
from infra.models import Account
from infra.settings import Settings
from quotas import keys
from tests.support.books import balance_of
from tests.support.chats import Client, chat, submit
from tests.support.serving import free_port, serving

#: Serves the API with other settings, to a client with the test's key.
type Serving = Callable[..., AbstractAsyncContextManager[Client]]
UNKNOWN = "pulse_" + "0" * 42


@pytest.fixture
def served(settings: Settings, key: str) -> Serving:
    """Give what serves the API with other settings."""

    @asynccontextmanager
    async def serve(**changed: Any) -> AsyncGenerator[Client]:
        changed = {"port": free_port(), **changed}
        app = create_app(msgspec.structs.replace(settings, **changed))
        headers = {"Authorization": f"Bearer {key}"}
        async with serving(app, changed["port"]) as url, Client(base_url=url, headers=headers, timeout=30) as client:
            yield client

    return serve


async def test_every_answer_of_a_limited_route_tells_where_its_caller_stands(client: Client) -> None:
    job = await submit(client)
    answers = [
        (await client.post("/v1/jobs", json=chat("hi")), 202, "submit"),
        (await client.post("/v1/jobs", json={"kind": "poem"}), 400, "submit"),
        (await client.post("/v1/jobs", content=b"x" * 1_100_000), 413, "submit"),
        (await client.post("/v1/files", json={}), 400, "submit"),
        (await client.post(f"/v1/jobs/{job['id']}/retry"), 409, "submit"),
        (await client.get(f"/v1/jobs/{job['id']}"), 200, "read"),
        (await client.get("/v1/jobs/nothing"), 404, "read"),
        (await client.get("/v1/files"), 200, "read"),
        (await client.post("/v1/webhooks/nothing/test"), 404, "webhook"),
        (await client.post("/v1/webhooks/deliveries/nothing/replay"), 404, "webhook"),
        (await client.get("/v1/jobs/nothing/events"), 404, "stream"),
        (await client.post(f"/v1/jobs/{job['id']}/cancel"), 202, None),
        (await client.delete("/v1/files/nothing"), 404, None),
    ]
    for answer, status, kind in answers:
        assert answer.status_code == status, answer.text
        told = answer.headers["ratelimit"].split(", ")
        policies = answer.headers["ratelimit-policy"].split(", ")
        names = [f'"{scope}"' for scope in ("ip", "key", "account", kind) if scope]
        assert [each.partition(";")[0] for each in told] == names
        assert [each.partition(";")[0] for each in policies] == names
        assert (answer.headers.get("connection") == "close") == (status == 413), "the server closes it then"
    for answer in (await client.get("/healthz"), await client.get("/docs/openapi.json")):
        assert "ratelimit" not in answer.headers


async def test_a_request_too_many_costs_nothing_and_is_told_when_to_come_back(
    served: Serving, ground: Ground, account: Account
) -> None:
    async with served(rate_submit="2/3600") as client:
        answers = [await client.post("/v1/jobs", json=chat("hi")) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [202, 202, 429, 429]
        held = (await balance_of(ground, account)).held
        problem = answers[2].json()
        assert (problem["code"], problem["scope"], problem["limit"]) == ("rate_limited", "submit", 2)
        assert answers[2].headers["retry-after"] == str(problem["retry_after_s"]) == "1800"
        assert '"submit";r=0;t=1800' in answers[2].headers["ratelimit"]
        assert answers[2].headers["content-type"] == "application/problem+json"
        arabic = await client.post("/v1/jobs", json=chat("hi"), headers={"Accept-Language": "ar"})
        assert "1800" in arabic.json()["detail"]
        assert len((await client.get("/v1/jobs")).json()["jobs"]) == 2, "looking is another limit"
        assert (await balance_of(ground, account)).held == held


async def test_two_processes_together_let_pass_what_one_would(served: Serving) -> None:
    async with served(rate_read="20/3600") as one, served(rate_read="20/3600") as other:
        asked = [(one, other)[n % 2].get("/v1/jobs/nothing") for n in range(80)]
        statuses = sorted([answer.status_code for answer in await asyncio.gather(*asked)])
    assert statuses == [404] * 20 + [429] * 60


async def test_a_client_cannot_take_another_address(served: Serving) -> None:
    async with served(rate_ip="3/3600") as client:
        spoofed = [await client.get("/v1/jobs", headers={"X-Forwarded-For": f"192.0.2.{n}"}) for n in range(5)]
        assert [answer.status_code for answer in spoofed] == [200] * 3 + [429] * 2
    async with served(rate_ip="2/3600", proxies=1) as client:
        spoofed = [
            await client.get("/v1/jobs", headers={"X-Forwarded-For": f"10.0.0.{n}, 192.0.2.1"}) for n in range(3)
        ]
        assert [answer.status_code for answer in spoofed] == [200] * 2 + [429]
        other = await client.get("/v1/jobs", headers={"X-Forwarded-For": "192.0.2.1, 192.0.2.2"})
        assert other.status_code == 200


@pytest.fixture
async def guesses(ground: Ground, account: Account) -> list[str]:
    """Keys that look as good as any, and are none."""
    async with ground.database.begin() as session:
        issued = [await keys.issue(session, ground.settings, account.id, name="x") for _ in range(8)]
        await session.rollback()
    return issued


async def test_guessing_keys_ends_in_429_and_locks_out_no_good_key_from_the_same_address(
    served: Serving, ground: Ground, account: Account, key: str, guesses: list[str]
) -> None:
    async with ground.database.begin() as session:
        new = await keys.issue(session, ground.settings, account.id, name="not seen by the process yet")
    async with served(rate_auth="4/3600") as client:
        assert (await client.get("/v1/jobs")).status_code == 200
        for n, guess in enumerate(guesses):
            wrong = {"Authorization": f"Bearer {guess}"}
            answer = await client.get("/v1/jobs", headers=wrong)
            assert (answer.status_code, answer.json()["code"]) == (
                (401, "invalid_api_key") if n < 4 else (429, "rate_limited")
            )
            assert '"auth";r=' in answer.headers["ratelimit"]
        for good in (key, new):
            answer = await client.get("/v1/jobs", headers={"Authorization": f"Bearer {good}"})
            assert answer.status_code == 200
            assert '"account";r=' in answer.headers["ratelimit"]


async def test_links_are_limited_by_address(served: Serving) -> None:
    async with served(rate_ip="3/3600") as client:
        del client.headers["Authorization"]
        answers = [await client.get("/storage/assets/x/y") for _ in range(3)]
        answers += [await client.post("/storage/quarantine") for _ in range(2)]
        assert [answer.status_code == 429 for answer in answers] == [False] * 3 + [True] * 2
        assert all('"ip";r=' in answer.headers["ratelimit"] for answer in answers)


async def test_mistyped_keys_count_as_wrong_ones_and_no_key_at_all_does_not(served: Serving) -> None:
    async with served(rate_auth="3/3600") as client:
        client.headers["Authorization"] = f"Bearer {UNKNOWN}"
        assert [(await client.get("/v1/jobs")).status_code for _ in range(5)] == [401] * 3 + [429] * 2
        del client.headers["Authorization"]
        assert [(await client.get("/v1/jobs")).status_code for _ in range(5)] == [401] * 5


async def test_a_revoked_key_is_refused_within_half_a_second(client: Client, ground: Ground, key: str) -> None:
    assert (await client.get("/v1/jobs")).status_code == 200
    async with ground.database.begin() as session:
        await keys.revoke(session, ground.settings, key)
    await asyncio.sleep(0.5)
    answer = await client.get("/v1/jobs")
    assert (answer.status_code, answer.json()["code"]) == (401, "revoked_api_key")


async def test_with_redis_away_jobs_are_admitted_and_told_only_the_policy(served: Serving) -> None:
    async with served(redis_url="redis://127.0.0.1:1", rate_read="1/3600") as client:
        answers = [await client.get("/v1/jobs") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert all('"read";q=1;w=3600' in answer.headers["ratelimit-policy"] for answer in answers)
    assert all("ratelimit" not in answer.headers for answer in answers)


async def test_limits_that_are_off_are_not_told(served: Serving) -> None:
    off = dict.fromkeys(["rate_ip", "rate_key", "rate_account", "rate_read"], "off")
    async with served(**off) as client:
        answer = await client.get("/v1/jobs")
    assert answer.status_code == 200
    assert not {"ratelimit", "ratelimit-policy"} & set(answer.headers)


async def test_no_route_makes_tasks_for_what_it_is_given(settings: Settings) -> None:
    app = create_app(settings)
    kept = (getattr(route, "route_handler_map", {}).items() for route in app.routes)
    models: dict[str, Any] = {f"{method} {handler}": model for pairs in kept for method, (handler, model) in pairs}
    assert len(models) > 20
    assert all(len(batch) == 1 for model in models.values() for batch in model.dependency_batches)
    submitting = models[next(name for name in models if name.startswith("POST") and name.endswith(".submit"))]
    assert submitting.dependency_batches == [], "what a job's submission is given needs none of Litestar's resolving"
