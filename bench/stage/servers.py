"""The stage of a bench over HTTP: PostgreSQL and Valkey, our API as production runs it, and the textbook beside it.

All of them are processes of this machine: the servers those of `make run`, with their persistence; each API one
process, on the same two servers, in a database of its own.
"""

import asyncio
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import asyncpg
import msgspec
from msgspec import Struct
from redis import Redis

from bench.queue import environments
from bench.stage import usage
from infra import embedded, schema, telemetry
from infra.embedded import addresses
from infra.settings import ROOT, Settings
from tests.support.process import environ, kill, started
from tests.support.serving import free_port

_PATIENCE_S = 60.0
_LOOK_EVERY_S = 0.02
_MANY = 1_000_000
_RATE = "999999/1"
_TEXTBOOK = "textbook"
_APP = ROOT / "bench" / "textbook" / "app.py"


class Served(Struct, frozen=True, kw_only=True):
    """An API under measurement: its process, its port, and its own way to a job."""

    name: str
    pid: int
    port: int
    jobs: str


class TextbookMade(Struct, frozen=True, kw_only=True):
    """What the textbook has been given: its accounts' keys, and jobs; the nth job is of the nth account, over again."""

    keys: list[str]
    jobs: list[str]


class Stage(Struct, frozen=True, kw_only=True):
    """The servers, running, and our settings on them."""

    settings: Settings

    @contextmanager
    def api(self) -> Generator[Served]:
        """Run our API for the length of a block."""
        with started("api", env=environ(self.settings)) as process:
            until_it_listens(self.settings.port, process)
            yield Served(name="pulse", pid=process.pid, port=self.settings.port, jobs="/v1/jobs")

    @contextmanager
    def textbook(self) -> Generator[Served]:
        """Run the textbook for the length of a block; its database has been set up."""
        port = free_port()
        command = [str(environments.python(_TEXTBOOK)), "-P", str(_APP), "serve", str(port)]
        process = subprocess.Popen(command, env=self._of_textbook(), stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            until_it_listens(port, process)
            yield Served(name=_TEXTBOOK, pid=process.pid, port=port, jobs="/jobs")
        finally:
            kill(process)

    def set_textbook_up(self, *, accounts: int, jobs: int) -> TextbookMade:
        """Make its database, with so many accounts and jobs."""
        self.ask(f"CREATE DATABASE {_TEXTBOOK}")
        command = [str(environments.python(_TEXTBOOK)), "-P", str(_APP), "setup", str(accounts), str(jobs)]
        made = subprocess.run(command, env=self._of_textbook(), stdout=subprocess.PIPE, check=True)
        return msgspec.json.decode(made.stdout, type=TextbookMade)

    def _of_textbook(self) -> Mapping[str, str]:
        ours = embedded.database_url(self.settings)
        return os.environ | {
            "TEXTBOOK_DATABASE_URL": ours.replace(f"/{addresses.DATABASE}?", f"/{_TEXTBOOK}?"),
            "TEXTBOOK_REDIS_URL": self.textbook_redis,
        }

    @property
    def textbook_redis(self) -> str:
        """The address of the textbook's database of Valkey."""
        return f"{embedded.redis_url(self.settings)}?db=1"

    def settle(self) -> None:
        """Let the servers finish what was asked of them, and forget the queues: nobody pays for those before him."""
        self.ask_redis("FLUSHALL")
        self.ask_redis("BGREWRITEAOF")
        while any(self.ask_redis("INFO", "persistence")[f"aof_rewrite_{now}"] for now in ("in_progress", "scheduled")):
            time.sleep(_LOOK_EVERY_S)
        self.ask("CHECKPOINT")

    def ask_redis(self, *command: str) -> Any:
        """Return what Valkey answers."""
        url = embedded.redis_url(self.settings)
        client: Any = Redis.from_url(url, decode_responses=True)  # pyright: ignore[reportUnknownMemberType]
        with client:
            return client.execute_command(*command)

    def redis_connections(self) -> int:
        """Return how many connections Valkey has, the one that asks not counted."""
        return int(self.ask_redis("INFO", "clients")["connected_clients"]) - 1

    def ask(self, statement: str) -> Any:
        """Return the first value of what our database answers to one statement."""
        return asyncio.run(self._fetch(statement, addresses.DATABASE))

    def ask_textbook(self, statement: str) -> Any:
        """Return the first value of what the textbook's database answers to one statement."""
        return asyncio.run(self._fetch(statement, _TEXTBOOK))

    async def _fetch(self, statement: str, database: str) -> Any:
        folder = addresses.socket_folder(self.settings)
        connection: Any = await asyncpg.connect(  # pyright: ignore[reportUnknownMemberType]
            host=str(folder), user=addresses.USER, database=database
        )
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    def servers_cpu_s(self) -> dict[str, float]:
        """Return the CPU seconds that the two servers have used so far."""
        run = self.settings.folder / "run"
        return {
            "postgresql": usage.cpu_of_family_s(int((run / "postgres.pid").read_text())),
            "valkey": usage.cpu_s(int((run / "valkey.pid").read_text())),
        }

    def describe(self) -> str:
        """Say how the two keep what they are given."""
        kept: dict[str, str] = self.ask_redis("CONFIG GET", "append*")
        told = {name: self.ask(f"SHOW {name}") for name in ("server_version", "fsync", "synchronous_commit")}
        return (
            f"PostgreSQL {told['server_version']}, fsync {told['fsync']}, synchronous_commit "
            f"{told['synchronous_commit']}; Valkey appendonly {kept['appendonly']}, appendfsync {kept['appendfsync']}"
        )


@contextmanager
def opened() -> Generator[Stage]:
    """Start the servers for the length of a block, in a folder of their own, and prepare our database."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    environments.python(_TEXTBOOK)
    with tempfile.TemporaryDirectory(prefix="pulse-bench-") as folder:
        # No model is asked; with a key there is none to be started either, as in production.
        settings = _generous(Settings(env="test", home=folder, port=free_port(), openai_api_key="none"))
        telemetry.configure(msgspec.structs.replace(settings, log_level="error"), "bench")
        with embedded.Servers(settings):
            schema.migrate(settings)
            yield Stage(settings=settings)


def _generous(settings: Settings) -> Settings:
    """Return the settings with every limit on and out of the way."""
    limits = {"account_streams": _MANY, "account_queued": _MANY * 100}
    rates = [field.name for field in msgspec.structs.fields(Settings) if field.name.startswith("rate_")]
    return msgspec.structs.replace(settings, **limits, **dict.fromkeys(rates, _RATE))


def until_it_listens(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Return when a process listens. Raises `RuntimeError` when it ends instead, or takes too long."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline_s:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(_LOOK_EVERY_S)
        else:
            return
    raise RuntimeError(f"process {process.pid} does not listen on port {port}")


def tell(text: str) -> None:
    """Say what is being done, on standard error."""
    print(text, file=sys.stderr, flush=True)
