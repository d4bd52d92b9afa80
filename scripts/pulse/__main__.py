"""`pulse`: which commands there are; each is loaded only when it is used, so that the command starts at once."""

import importlib
from typing import Any

import click
import rich_click

from scripts.pulse.group import Group

_HELP = """Pulse AI Studio in the terminal: ask a model and watch the answer come, follow or cancel jobs, look after the
studio on this machine.

The studio is the one of `make run` on this machine, or the one that PULSE_URL and PULSE_API_KEY name. Every command
takes --json for programs and explains itself with --help.

\b
Examples:
  pulse chat "Tell me a short story about the sea"
  pulse jobs
  pulse pools list --watch
  pulse doctor
"""
#: command -> what it does, in one line; it stands as `command` in `scripts/pulse/commands/<name>.py`.
_COMMANDS = {
    "chat": "Ask a chat model and watch the answer come.",
    "models": "List the chat models, and what their tokens weigh.",
    "jobs": "List, show, follow, cancel and retry jobs.",
    "batch": "Hand over a file of requests, and get what became of each.",
    "events": "Watch what becomes of all jobs, as it happens.",
    "files": "Upload, download, list and delete files.",
    "webhooks": "Say who is told of what happens, and see what was delivered.",
    "pools": "Watch the pools of workers, and pause, drain or resize them.",
    "dead": "List the jobs that failed for good, and give them another go.",
    "doctor": "Check this machine and the studio on it, and say what to do.",
    "account": "Make accounts and API keys on this studio's database.",
}


class _Deferred(rich_click.RichCommand):
    """A command that is known by its name and one line until it is used."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        """Load the command and let it go on in this one's place."""
        command: click.Command = importlib.import_module(f"scripts.pulse.commands.{self.name}").command
        return command.make_context(info_name, args, parent, **extra)


def build() -> click.Group:
    """Return the whole command."""
    return click.version_option(package_name="pulse-ai-studio")(
        Group(
            name="pulse",
            help=_HELP,
            commands=[_Deferred(name=name, short_help=line) for name, line in _COMMANDS.items()],
            context_settings={
                "help_option_names": ["--help", "-h"],
                "rich_help_config": {"text_paragraph_linebreaks": "\n\n"},
            },
        )
    )


def main() -> None:
    """Do what the command line says."""
    build().main(prog_name="pulse")


if __name__ == "__main__":
    main()
