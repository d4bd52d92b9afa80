"""`pulse dead` on real servers: what failed, why, and another go at it."""

import asyncio
import json
from uuid import UUID

import msgspec
import pytest

from infra.ground import opened
from infra.models import Job
from infra.settings import Settings
from providers.types import ProviderUnavailable
from quotas import accounts
from tests.scripts.conftest import Pulse
from tests.support.books import assert_even, grant
from tests.support.chats import chat
from tests.support.lives import submit_all
from workers import kinds, lifecycle
from workers.lifecycle import End, Submission, Submitted


@pytest.fixture
def failed(settings: Settings) -> list[str]:
    """Three failed jobs of one account, the newest last: two for a vendor that was away, one for a bug."""

    async def make() -> list[str]:
        async with opened(settings) as ground:
            async with ground.database.begin() as session:
                account = await accounts.create(session, "layla@example.com")
            request = msgspec.convert(chat("مرحبا", max_output_tokens=9), kinds.SPECS["chat"])
            made = await submit_all(ground, [Submission(account=account, request=request) for _ in range(3)])
            ids = [each.job.id for each in made if isinstance(each, Submitted)]
            away = lifecycle.failure(ProviderUnavailable())
            bug = {**away, "code": "internal_error"}
            await lifecycle.claim(ground, ids)
            await lifecycle.finish(
                ground,
                [
                    End(job_id=job_id, attempt=1, state="failed", error=error)
                    for job_id, error in zip(ids, [away, bug, away], strict=True)
                ],
            )
            return [str(job_id) for job_id in ids]

    return asyncio.run(make())


def listed(operator: Pulse, *options: str) -> list[str]:
    """Return the ids that `pulse dead list` shows."""
    return [each["id"] for each in json.loads(operator("dead", *options, "--json").stdout)["dead"]]


def test_dead_letters_are_listed_with_their_reason_newest_first(operator: Pulse, failed: list[str]) -> None:
    assert listed(operator) == failed[::-1]
    assert listed(operator, "list", "--limit", "1") == failed[2:]
    assert listed(operator, "list", "--code", "internal_error") == [failed[1]]
    assert listed(operator, "list", "--kind", "poem") == []
    assert listed(operator, "list", "--account", "layla@example.com") == failed[::-1]
    shown = operator("dead").stdout
    assert all(line in shown for line in [*failed, "provider_unavailable", "internal_error"])
    assert max(map(len, shown.splitlines())) <= 80
    one = json.loads(operator("dead", "show", failed[0], "--json", LANG="ar_EG.UTF-8").stdout)
    assert (one["code"], one["detail"]) == ("provider_unavailable", "خادم النموذج غير متاح الآن.")
    assert "The model's server is not available right now." in operator("dead", "show", failed[0]).stdout


def test_nobody_failed(operator: Pulse) -> None:
    assert operator("dead").stdout == "No dead letters.\n"


def test_one_letter_is_replayed_once(operator: Pulse, failed: list[str], settings: Settings) -> None:
    first = json.loads(operator("dead", "replay", failed[0], "--json").stdout)["replayed"]
    second = json.loads(operator("dead", "replay", failed[0], "--json").stdout)["replayed"]
    assert first == second
    assert listed(operator) == [failed[2], failed[1]]

    async def look() -> Job:
        async with opened(settings) as ground:
            await assert_even(ground)
            async with ground.database.begin() as session:
                return await session.get_one(Job, UUID(first[0]["replayed_as"]))

    again = asyncio.run(look())
    assert (again.state, str(again.replay_of), again.spec["input"]["messages"][0]["content"]) == (
        "queued",
        failed[0],
        "مرحبا",
    )


def test_many_are_replayed_by_their_reason(operator: Pulse, failed: list[str]) -> None:
    done = operator("dead", "replay", "--all", "--code", "provider_unavailable")
    assert (done.exit_code, done.stdout) == (0, "2 replayed, 0 refused\n")
    assert listed(operator) == [failed[1]]


def test_one_that_is_refused_stays_and_is_told(operator: Pulse, failed: list[str], settings: Settings) -> None:
    async def empty() -> None:
        async with opened(settings) as ground:
            await grant(ground, 0)

    asyncio.run(empty())
    done = operator("dead", "replay", "--all")
    assert (done.exit_code, done.stdout) == (1, "0 replayed, 3 refused\n")
    assert done.stderr.count("quota_exceeded") == 3
    assert listed(operator) == failed[::-1]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["replay"], 2, "Name the jobs, or say --all."),
        (["replay", "--all", "01a2075b-24bc-7086-a60a-fa7cb0b60f29"], 2, "Name the jobs, or say --all."),
        (["replay", "01a2075b-24bc-7086-a60a-fa7cb0b60f29"], 1, "job_not_found"),
        (["show", "01a2075b-24bc-7086-a60a-fa7cb0b60f29"], 1, "job_not_found"),
        (["list", "--account", "nobody@example.com"], 1, "no_such_account"),
        (["list", "--limit", "0"], 2, "0 is not in the range"),
    ],
)
def test_what_makes_no_sense_is_refused(operator: Pulse, arguments: list[str], code: int, said: str) -> None:
    done = operator("dead", *arguments)
    assert done.exit_code == code
    assert said in " ".join(done.stderr.replace("│", "").split())
