"""`pulse doctor` on a machine where nothing runs, and on real servers, sound and not."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import text

from infra import embedded
from infra.database import Database
from infra.settings import Settings
from scripts.pulse.doctor import machine
from tests.scripts.conftest import Pulse
from tests.scripts.stand_in import Refusal, StandIn
from workers import pools, tend
from workers.webhooks import pool as webhooks

NEEDED = ["PostgreSQL", "Redis", "API", "workers", "tender", "webhooks", "model server"]


def checks(pulse: Pulse, **more: str) -> dict[str, dict[str, Any]]:
    """Return what the doctor finds, by name."""
    report = json.loads(pulse("doctor", "--json", **more).stdout)
    assert report["ok"] == all(check["state"] != "failed" for check in report["checks"])
    return {check["name"]: check for check in report["checks"]}


def change(settings: Settings, statement: str) -> None:
    """Do something to the database that nobody should."""

    async def run() -> None:
        database = Database(settings)
        async with database.begin() as session:
            await session.execute(text(statement))
        await database.close()

    asyncio.run(run())


def test_where_nothing_runs_each_line_says_what_to_do(pulse: Pulse) -> None:
    done = pulse("doctor", PULSE_URL="http://127.0.0.1:9", PULSE_LOCAL_PORT="9")
    assert (done.exit_code, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    for name in NEEDED:
        [found] = [index for index, line in enumerate(lines) if line.startswith(f"failed   {name}  ")]
        assert "make run" in lines[found + 1]
    assert lines[-1].endswith(f"{len(NEEDED)} failed")


def test_where_nothing_runs_a_program_is_told_the_same(pulse: Pulse) -> None:
    found = checks(pulse, PULSE_URL="http://127.0.0.1:9", PULSE_LOCAL_PORT="9")
    assert [name for name, check in found.items() if check["state"] == "failed"] == NEEDED
    assert all(check["advice"] for check in found.values() if check["state"] != "ok")
    assert found["Python"]["state"] == found["model file"]["state"] == "ok"
    assert found["ledger"]["detail"] == "not checked"


def test_a_setting_that_cannot_be_read_is_a_finding(pulse: Pulse) -> None:
    found = checks(pulse, PULSE_PORT="many")
    assert found["settings"]["state"] == "failed"
    assert "PULSE_PORT" in found["settings"]["detail"]
    assert "Python" in found


def test_sound_servers_are_ok_with_their_versions(operator: Pulse) -> None:
    found = checks(operator)
    for name in ("PostgreSQL", "migrations", "partitions", "ledger", "Redis", "persistence", "models"):
        assert found[name]["state"] == "ok", found[name]
    assert found["PostgreSQL"]["detail"].startswith("18.")
    assert found["Redis"]["detail"].startswith("Valkey 9.")


def test_an_api_that_is_ready_and_workers_that_live_are_ok(operator: Pulse, api: StandIn, settings: Settings) -> None:
    api.answers["/readyz"] = {"status": "ready"}
    with Redis.from_url(embedded.redis_url(settings)) as redis:  # pyright: ignore[reportUnknownMemberType]
        for pool in pools.POOLS:
            redis.set(f"arq:queue:{pool}:health-check", "alive", ex=60)
        redis.set(tend.ALIVE, 1, ex=60)
        redis.set(webhooks.ALIVE, 1, ex=60)
    done = operator("doctor")
    assert done.exit_code == 0, done.stdout
    assert f"ready at {api.url}" in done.stdout
    assert "alive: chat, scan" in done.stdout
    assert "tender  " in done.stdout
    assert "webhooks  " in done.stdout


def test_an_api_that_is_not_ready_is_failed(operator: Pulse, api: StandIn) -> None:
    api.refusals = [Refusal(503)]
    check = checks(operator)["API"]
    assert (check["state"], check["detail"]) == ("failed", f"{api.url} is not ready: HTTP 503")


@pytest.mark.parametrize(
    ("statement", "name", "state", "told"),
    [
        ("UPDATE alembic_version SET version_num = '0000'", "migrations", "failed", "at 0000"),
        ("DROP TABLE alembic_version", "migrations", "failed", "at none"),
        (
            "DO $$ BEGIN EXECUTE to_char(now(), '\"DROP TABLE holds_\"YYYY_MM'); END $$",
            "partitions",
            "warning",
            "holds_",
        ),
        ("DROP TABLE holds", "ledger", "failed", "holds"),
    ],
)
def test_what_is_wrong_in_the_database_is_found(
    operator: Pulse, settings: Settings, statement: str, name: str, state: str, told: str
) -> None:
    change(settings, statement)
    check = checks(operator)[name]
    assert (check["state"], told in check["detail"]) == (state, True), check
    assert check["advice"]


def test_books_that_do_not_balance_are_failed(operator: Pulse, settings: Settings) -> None:
    operator("account", "add", "omar@example.com")
    change(settings, "UPDATE balances SET used = used + 1 WHERE meter = 'images'")
    check = checks(operator)["ledger"]
    assert check["state"] == "failed"
    assert "images" in check["detail"]


def test_a_queue_that_forgets_is_warned_of(operator: Pulse, settings: Settings) -> None:
    with Redis.from_url(embedded.redis_url(settings)) as redis:  # pyright: ignore[reportUnknownMemberType]
        redis.config_set("appendonly", "no")  # pyright: ignore[reportUnknownMemberType]
        try:
            check = checks(operator)["persistence"]
        finally:
            redis.config_set("appendonly", "yes")  # pyright: ignore[reportUnknownMemberType]
    assert check["state"] == "warning"
    assert "appendonly" in check["advice"]


def test_the_machine_is_looked_at_without_a_single_server() -> None:
    assert [finding.name for finding in machine.check()] == ["Python", "Arabic font", "libfribidi", "ffmpeg"]


def test_a_file_store_and_a_scanner_that_are_away_are_told(operator: Pulse, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    found = checks(operator, PULSE_FILES_DIR=str(tmp_path / "file"), PULSE_CLAMAV="tcp://127.0.0.1:9")
    assert (found["file store"]["state"], found["ClamAV"]["state"]) == ("failed", "failed")
    assert str(tmp_path / "file") in found["file store"]["advice"]
    assert "PULSE_CLAMAV" in found["ClamAV"]["advice"]
    assert checks(operator)["file store"]["state"] == "ok"
