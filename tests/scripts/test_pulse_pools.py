"""`pulse pools` on real servers: what it shows, and what it changes."""

import asyncio
import json
from typing import Any

import pytest

from infra.ground import opened
from infra.overview import Control
from infra.settings import Settings
from tests.scripts.conftest import Pulse
from tests.support.work import working


def shown(pulse: Pulse, *arguments: str) -> dict[str, Any]:
    """Return the only pool of a command's answer for programs."""
    (pool,) = json.loads(pulse("pools", *arguments, "--json").stdout)["pools"]
    return pool


def told(settings: Settings) -> Control:
    """Return what the workers have been told."""

    async def run() -> Control:
        async with opened(settings) as ground:
            return await ground.overseer.controlled("chat")

    return asyncio.run(run())


@pytest.mark.parametrize("arguments", [[], ["list"]])
def test_a_pool_without_workers_says_so(operator: Pulse, arguments: list[str]) -> None:
    done = operator("pools", *arguments)
    assert done.exit_code == 0
    header, line, *_ = done.stdout.splitlines()
    assert " ".join(header.split()) == "pool state waits batch later oldest running done failed workers"
    assert line.split() == ["chat", "no", "workers", "0", "0", "0", "0/0", "0", "0", "0"]


def test_changes_are_shown_and_told(operator: Pulse, settings: Settings) -> None:
    assert shown(operator, "pause", "chat")["mode"] == "paused"
    assert shown(operator, "drain", "chat")["mode"] == "draining"
    pool = shown(operator, "set", "chat", "--slots", "3", "--account-cap", "2", "--kind-cap", "chat=7")
    assert (pool["mode"], pool["slots_wanted"], pool["account_cap"], pool["kind_caps"]) == (
        "draining",
        3,
        2,
        {"chat": 7},
    )
    assert told(settings) == Control(slots=3, account_cap=2, kind_caps={"chat": 7})
    assert "slots 3, account cap 2, at most 7 chat jobs" in operator("pools", "show", "chat").stdout
    pool = shown(operator, "set", "chat", "--slots", "default", "--kind-cap", "chat=default")
    assert (pool["slots_wanted"], pool["account_cap"], pool["kind_caps"]) == (None, 2, {})
    assert shown(operator, "resume", "chat")["mode"] == "running"


def test_a_living_worker_is_shown(operator: Pulse, settings: Settings) -> None:
    async def run() -> dict[str, Any]:
        async with working(settings, slots=5), asyncio.timeout(20):
            while True:
                pool = await asyncio.to_thread(shown, operator, "show", "chat")
                if pool["workers"]:
                    return pool

    pool = asyncio.run(run())
    assert (pool["slots"], pool["running"], pool["workers"][0]["slots"]) == (5, 0, 5)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["pause", "slides"], 1, "code unknown_pool, field pool"),
        (["show", "slides"], 1, "code unknown_pool, field pool"),
        (["set", "chat", "--slots", "10001"], 1, "code invalid_number, field slots"),
        (["set", "chat", "--kind-cap", "video=1"], 1, "code kind_not_in_pool, field kind"),
        (["set", "chat", "--slots", "many"], 2, "a whole number or `default` is needed"),
        (["set", "chat", "--kind-cap", "chat"], 2, "a whole number or `default` is needed"),
        (["set", "chat"], 2, "Nothing to set"),
    ],
)
def test_what_makes_no_sense_is_refused(operator: Pulse, arguments: list[str], code: int, said: str) -> None:
    done = operator("pools", *arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in " ".join(done.stderr.replace("│", "").split())


def test_it_is_told_in_arabic_too(operator: Pulse) -> None:
    done = operator("pools", "pause", "slides", "--json", LANG="ar_EG.UTF-8")
    assert json.loads(done.stderr)["detail"] == "لا توجد مجموعة عمال باسم slides؛ الموجود: chat, scan, batch."


def test_servers_that_are_away_are_told_as_such(operator: Pulse) -> None:
    done = operator("pools", "--json", PULSE_REDIS_URL="redis://127.0.0.1:9/0")
    assert (done.exit_code, json.loads(done.stderr)["code"]) == (1, "redis_unavailable")
    done = operator("pools", "--json", PULSE_DATABASE_URL="postgresql://postgres@127.0.0.1:9/pulse")
    assert (done.exit_code, json.loads(done.stderr)["code"]) == (1, "database_unavailable")
