"""What `pulse --help` teaches, and how soon."""

import subprocess
import sys

import pytest

from tests.scripts.conftest import Pulse

COMMANDS = ["chat", "jobs", "events", "files", "pools", "dead", "doctor", "account"]
ALL = [
    "chat",
    "jobs",
    "jobs list",
    "jobs show",
    "jobs follow",
    "jobs cancel",
    "jobs retry",
    "events",
    "files",
    "files put",
    "files get",
    "files ls",
    "files show",
    "files rm",
    "files mv",
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
    for group in ("jobs", "files", "pools", "dead", "account"):
        shown = pulse(group, "--help").stdout
        assert all(f"│ {name.split()[1]} " in shown for name in ALL if name.startswith(f"{group} "))


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--help"], ["httpx2", "sqlalchemy", "redis", "litestar", "asyncio"]),
        (["chat", "--help"], ["sqlalchemy", "redis", "litestar", "alembic", "structlog"]),
        (["jobs", "--help"], ["sqlalchemy", "redis", "litestar", "alembic", "structlog"]),
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
