"""The chat models over HTTP: what they take and weigh, in whose language, for whose plan, and only when it is new."""

from collections.abc import AsyncGenerator
from datetime import date
from typing import Any

import httpx2
import msgspec
import pytest
from httpx2 import AsyncClient as Client
from sqlalchemy import text

from infra.ground import Ground
from infra.models import Account
from infra.settings import Settings
from providers import catalog, tokens
from providers.router import lexicon, score
from tests.support.served import speaking

pytestmark = pytest.mark.reused

PATH = "/v1/chat/models"


@pytest.fixture
async def every(settings: Settings, key: str) -> AsyncGenerator[Client]:
    """A client of a studio that has every vendor's key."""
    keys = {f"{vendor}_api_key": "k" for vendor in ("openai", "anthropic", "google")}
    async with speaking(msgspec.structs.replace(settings, compatible_url="", **keys), key) as client:
        yield client


async def told(client: Client, **headers: str) -> dict[str, Any]:
    """Return the answer."""
    answer = await client.get(PATH, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def on_plan(ground: Ground, account: Account, plan: str) -> None:
    """Put the account on a plan."""
    async with ground.database.begin() as session:
        await session.execute(text("UPDATE accounts SET plan = :plan WHERE id = :id"), {"plan": plan, "id": account.id})


async def test_the_models_are_those_that_the_studio_offers_the_default_one_first(client: Client, every: Client) -> None:
    own = (await told(client))["models"]
    assert [(each["id"], each["estimate"]["tokenizer"]) for each in own] == [("wire-1", "bytes")]
    found = await told(every)
    keys = Settings(openai_api_key="k", anthropic_api_key="k", google_api_key="k")
    assert [each["id"] for each in found["models"]] == list(catalog.offered(keys))
    assert found["models"][0]["id"] == "gpt-6-luna"


async def test_a_model_tells_what_it_takes_weighs_and_how_long_it_lives(every: Client) -> None:
    models = {each["id"]: each for each in (await told(every))["models"]}
    known = catalog.load(Settings()).models
    haiku, old = models["claude-haiku-5-5"], models["gpt-4o"]
    assert haiku["takes"] == {
        "images": True,
        "files": True,
        "tools": True,
        "form": True,
        "effort": True,
        "temperature": False,
    }
    assert haiku["weights"] == {"input": 1, "cached": 1, "written": 2, "written_long": 2, "output": 5}
    assert [(step["above"], step["weights"]["output"]) for step in haiku["steps"]] == [(100_000, 25)]
    assert (haiku["context_tokens"], haiku["output_tokens"]) == (1_000_000, 128_000)
    assert haiku["aliases"] == ["claude-haiku-latest"]
    assert models["gpt-6-luna"]["aliases"] == ["fast", "gpt-luna-latest"]
    assert haiku["estimate"] == {
        "tokenizer": "other",
        "margin_percent": 50,
        "margin_other_percent": 230,
        "verified": False,
    }
    assert date.fromisoformat(old["shutdown"]) == known["gpt-4o"].shutdown
    assert (old["replaced_by"], old["auto"], old["released"]) == ("gpt-6.1-terra", False, "2024-08-06")


async def test_names_come_in_the_callers_language_and_in_both(every: Client) -> None:
    for language, name in (("ar", "جي بي تي 6 لونا"), ("en", "GPT-6 Luna"), ("fr, ar;q=0.5", "جي بي تي 6 لونا")):
        first = (await told(every, **{"Accept-Language": language}))["models"][0]
        assert first["name"] == name
        assert first["names"] == {"en": "GPT-6 Luna", "ar": "جي بي تي 6 لونا"}


@pytest.mark.parametrize(("plan", "allowed"), [("free", {"free"}), ("pro", {"free", "pro"})])
async def test_what_the_callers_plan_has_is_told_and_so_is_what_auto_has_for_it(
    every: Client, ground: Ground, account: Account, plan: str, allowed: set[str]
) -> None:
    await on_plan(ground, account, plan)
    found = await told(every)
    models = {each["id"]: each for each in found["models"]}
    assert {each["plan"] for each in models.values() if each["allowed"]} == allowed
    assert {each["plan"] for each in models.values()} == {"free", "pro", "studio"}
    chosen = found["auto"]["models"]
    assert found["auto"]["id"] == "auto"
    assert chosen
    assert all(models[each]["allowed"] and models[each]["auto"] for each in chosen)


async def test_what_the_caller_knows_is_not_told_again_but_in_another_language(every: Client) -> None:
    first = await every.get(PATH)
    again = await every.get(PATH, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    arabic = await every.get(PATH, headers={"If-None-Match": first.headers["etag"], "Accept-Language": "ar"})
    assert arabic.status_code == 200
    assert "Accept-Language" in first.headers["vary"]
    assert first.headers["cache-control"] == "private, no-cache"


async def test_nobody_is_told_without_a_key(client: Client) -> None:
    async with Client(base_url=client.base_url) as stranger:
        answer: httpx2.Response = await stranger.get(PATH)
    assert (answer.status_code, answer.json()["code"]) == (401, "missing_api_key")


async def test_the_documents_shape_is_the_one_that_is_sent(every: Client) -> None:
    document = (await every.get("/docs/openapi.json")).json()
    answer = document["paths"][PATH]["get"]["responses"]
    assert set(answer) >= {"200", "304"}
    named = answer["200"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    schemas = document["components"]["schemas"]
    listed = schemas[named]["properties"]["models"]["items"]["$ref"].rpartition("/")[2]
    assert set(schemas[listed]["properties"]) == set((await told(every))["models"][0])


async def test_a_model_above_the_callers_plan_is_refused_before_it_costs_anything(every: Client) -> None:
    asked = {"messages": [{"role": "user", "content": "مرحبا"}], "model": "gpt-6-astra"}
    answer = await every.post("/v1/jobs", json={"kind": "chat", "input": asked})
    assert (answer.status_code, answer.json()["code"]) == (403, "model_not_in_plan")
    assert (answer.json()["field"], answer.json()["plan"]) == ("input.model", "studio")


async def test_the_table_of_tokens_is_there_before_the_first_request_where_a_model_needs_it(
    settings: Settings, key: str
) -> None:
    for changes, loaded in (({}, 0), ({"compatible_url": "", "openai_api_key": "k"}, 1)):
        tokens._counting.cache_clear()  # pyright: ignore[reportPrivateUsage]
        async with speaking(msgspec.structs.replace(settings, **changes), key):
            assert tokens._counting.cache_info().currsize == loaded  # pyright: ignore[reportPrivateUsage]


async def test_the_router_is_loaded_before_the_first_request(settings: Settings, key: str) -> None:
    lexicon.load.cache_clear()
    score.weights.cache_clear()
    async with speaking(settings, key):
        assert lexicon.load.cache_info().currsize == score.weights.cache_info().currsize == 1
