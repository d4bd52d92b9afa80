"""What `pulse --help` teaches, and how soon."""

import re
import subprocess
import sys

import pytest

from tests.scripts.conftest import Pulse

COMMANDS = ["chat", "models", "jobs", "batch", "events", "files", "webhooks", "pools", "dead", "doctor", "account"]
ALL = [
    "chat",
    "models",
    "jobs",
    "jobs list",
    "jobs show",
    "jobs follow",
    "jobs cancel",
    "jobs retry",
    "batch",
    "batch submit",
    "batch status",
    "batch results",
    "batch cancel",
    "batch retry",
    "batch list",
    "events",
    "files",
    "files put",
    "files get",
    "files ls",
    "files show",
    "files rm",
    "files mv",
    "webhooks",
    "webhooks list",
    "webhooks add",
    "webhooks test",
    "webhooks rotate",
    "webhooks rm",
    "webhooks deliveries",
    "webhooks replay",
    "pools",
    "pools list",
    "pools show",
    "pools pause",
    "pools drain",
    "pools resume",
    "pools set",
    "dead",
    "dead list",
    "dead show",
    "dead replay",
    "doctor",
    "account",
    "account add",
    "account key",
    "account revoke",
]


def test_help_names_every_command_the_most_used_first(pulse: Pulse) -> None:
    shown = pulse("--help").stdout
    places = [shown.index(f"│ {name} ") for name in COMMANDS]
    assert places == sorted(places)


@pytest.mark.parametrize("command", ALL)
def test_every_command_explains_itself_with_an_example(pulse: Pulse, command: str) -> None:
    done = pulse(*command.split(), "--help")
    assert done.exit_code == 0
    assert "Example" in done.stdout
    assert f"pulse {command}" in done.stdout.split("Example")[1]


def test_every_subcommand_is_in_the_help_of_its_group(pulse: Pulse) -> None:
    for group in ("jobs", "batch", "files", "webhooks", "pools", "dead", "account"):
        shown = pulse(group, "--help").stdout
        assert all(f"│ {name.split()[1]} " in shown for name in ALL if name.startswith(f"{group} "))


@pytest.mark.parametrize("command", [name for name in ALL if name.split()[0] in {"models", "batch", "webhooks"}])
def test_help_of_models_batches_and_webhooks_is_all_there_in_arabic(pulse: Pulse, command: str) -> None:
    shown = pulse(*command.split(), "--help", LANG="ar_EG.UTF-8", COLUMNS="120").stdout
    assert f"pulse {command}" in shown.split("مثال" if "مثال" in shown else "أمثلة")[1]
    told = [line for line in shown.splitlines() if line.startswith("│") and line[2] != " "]
    assert told
    assert all(re.search("[ء-ي]{2}", line) for line in told), "every option and command is told in Arabic"
    assert not re.search("[ء-ي]", pulse(*command.split(), "--help").stdout)


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--help"], ["httpx2", "sqlalchemy", "redis", "litestar", "asyncio"]),
        (["chat", "--help"], ["sqlalchemy", "redis", "litestar", "alembic", "structlog"]),
        (["models", "--help"], ["sqlalchemy", "redis", "litestar", "alembic", "structlog", "providers"]),
        (["jobs", "--help"], ["sqlalchemy", "redis", "litestar", "alembic", "structlog"]),
        (["batch", "--help"], ["sqlalchemy", "redis", "litestar", "alembic", "structlog"]),
        (["webhooks", "--help"], ["sqlalchemy", "redis", "litestar", "alembic", "structlog"]),
        (["events", "--help"], ["sqlalchemy", "redis", "litestar", "alembic", "structlog"]),
        (["files", "--help"], ["sqlalchemy", "redis", "litestar", "alembic", "structlog"]),
    ],
)
def test_a_command_loads_only_what_it_needs(arguments: list[str], unwanted: list[str]) -> None:
    program = (
        "import sys; from scripts.pulse.__main__ import build\n"
        f"build().main({arguments!r}, standalone_mode=False)\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not set(unwanted) & set(done.stderr.split())
