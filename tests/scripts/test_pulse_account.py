"""`pulse account`, and the key that `make run` prints, on a real database."""

import asyncio
import json
import stat
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import func, select, text, update

from infra.database import Database, DatabaseUnavailable
from infra.ground import Ground
from infra.models import Account, ApiKey, Balance
from infra.settings import Settings
from quotas import keys
from scripts.pulse import account as deeds
from scripts.pulse import operator as operators
from tests.scripts.conftest import Pulse

EMAIL = "omar@example.com"


async def speaker(ground: Ground, key: str) -> str:
    """Return the address of the account that a key speaks for."""
    async with ground.database.begin() as session:
        return (await keys.verify(session, ground.settings, key)).email


async def test_the_development_key_is_made_once_and_kept_for_this_user_alone(ground: Ground) -> None:
    key = await deeds.development_key(ground.settings)
    assert await deeds.development_key(ground.settings) == key
    assert await speaker(ground, key) == deeds.DEVELOPMENT_EMAIL
    path = ground.settings.folder / "key"
    assert path.read_text() == f"{key}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.glob("key*")] == ["key"]
    async with ground.database.begin() as session:
        assert await session.scalar(select(func.count()).select_from(ApiKey)) == 1


@pytest.mark.parametrize("kept", ["", "pulse_not-a-key", "مفتاح"])
async def test_a_file_without_a_key_is_written_anew(ground: Ground, kept: str) -> None:
    path = ground.settings.folder / "key"
    path.write_text(kept)
    key = await deeds.development_key(ground.settings)
    assert path.read_text() == f"{key}\n"
    assert await speaker(ground, key) == deeds.DEVELOPMENT_EMAIL


async def test_a_revoked_development_key_is_replaced(ground: Ground) -> None:
    key = await deeds.development_key(ground.settings)
    await deeds.revoke_key(ground.settings, key)
    assert await deeds.development_key(ground.settings) != key


async def test_a_development_key_of_another_secret_is_replaced(ground: Ground) -> None:
    key = await deeds.development_key(ground.settings)
    changed = msgspec.structs.replace(ground.settings, secret="another secret than the one before")
    assert await deeds.development_key(changed) != key


async def test_the_folder_of_the_development_key_is_made(ground: Ground, tmp_path: Path) -> None:
    settings = msgspec.structs.replace(ground.settings, home=str(tmp_path / "new" / "folder"))
    assert (settings.folder / "key").exists() is False
    await deeds.development_key(settings)
    assert (settings.folder / "key").exists()


async def test_a_new_account_has_the_default_plan_its_grant_and_a_key(ground: Ground) -> None:
    account, key = await deeds.add(ground.settings, EMAIL, "en")
    assert (account.email, account.plan, account.language) == (EMAIL, "free", "en")
    assert await speaker(ground, key) == EMAIL
    async with ground.database.begin() as session:
        granted = await session.scalar(
            select(Balance.granted).where(Balance.account_id == account.id, Balance.meter == "chat_tokens")
        )
    assert granted == 500_000


async def test_a_closed_account_gets_no_key(ground: Ground, account: Account) -> None:
    async with ground.database.begin() as session:
        await session.execute(update(Account).where(Account.id == account.id).values(closed_at=func.now()))
    with pytest.raises(keys.AccountClosed):
        await deeds.issue_key(ground.settings, account.email, "laptop")


async def test_a_database_without_tables_is_told_as_such(ground: Ground) -> None:
    async with ground.database.begin() as session:
        await session.execute(text("DROP SCHEMA public CASCADE"))
        await session.execute(text("CREATE SCHEMA public"))
    with pytest.raises(operators.DatabaseNotMigrated):
        await deeds.add(ground.settings, EMAIL, "ar")


async def test_a_database_that_does_not_exist_is_told_as_such(settings: Settings) -> None:
    url = settings.database_url.replace("/pulse_test_", "/no_such_")
    with pytest.raises(operators.DatabaseRefused, match="does not exist"):
        await deeds.add(msgspec.structs.replace(settings, database_url=url), EMAIL, "ar")


async def test_a_database_that_is_away_is_told_as_such(tmp_path: Path) -> None:
    away = Settings(database_url=f"postgresql://postgres@/pulse?host={tmp_path}")
    with pytest.raises(DatabaseUnavailable):
        await deeds.add(away, EMAIL, "ar")


def test_the_key_alone_is_on_stdout(operator: Pulse) -> None:
    done = operator("account", "add", EMAIL)
    assert (done.exit_code, len(done.stdout.split())) == (0, 1)
    assert done.stdout.startswith("pulse_")
    assert "only time" in done.stderr


def test_an_account_for_a_program_is_one_object(operator: Pulse) -> None:
    done = operator("account", "add", EMAIL, "--language", "en", "--json")
    made = json.loads(done.stdout)
    assert made["account"] | {"id": ""} == {"id": "", "email": EMAIL, "plan": "free", "language": "en"}
    assert made["key"].startswith("pulse_")
    assert done.stderr == ""


def test_an_account_that_exists_is_refused(operator: Pulse) -> None:
    operator("account", "add", EMAIL)
    done = operator("account", "add", EMAIL.upper())
    assert (done.exit_code, done.stdout) == (1, "")
    assert "code account_exists, field email" in done.stderr
    arabic = operator("account", "add", EMAIL, "--json", LANG="ar_EG.UTF-8")
    assert json.loads(arabic.stderr)["detail"] == f"يوجد حساب بالعنوان {EMAIL} من قبل."


def test_another_key_can_be_issued_and_revoked_once(operator: Pulse) -> None:
    operator("account", "add", EMAIL)
    key = json.loads(operator("account", "key", EMAIL, "--name", "laptop", "--json").stdout)["key"]
    assert operator("account", "revoke", "-", stdin=f"{key}\n").stdout == f"revoked the key that ends in {key[-4:]}\n"
    again = operator("account", "revoke", key, "--json")
    assert (again.exit_code, json.loads(again.stderr)["code"]) == (1, "revoked_api_key")


def test_a_key_for_nobody_and_a_key_that_is_none_are_refused(operator: Pulse) -> None:
    assert "no_such_account" in operator("account", "key", EMAIL).stderr
    assert "invalid_api_key" in operator("account", "revoke", "pulse_x").stderr


def test_a_name_given_to_a_key_is_kept(operator: Pulse, settings: Settings) -> None:
    operator("account", "add", EMAIL)
    operator("account", "key", EMAIL, "--name", "laptop")

    async def names() -> set[str]:
        database = Database(settings)
        async with database.begin() as session:
            found = set(await session.scalars(select(ApiKey.name)))
        await database.close()
        return found

    assert asyncio.run(names()) == {"pulse command", "laptop"}
