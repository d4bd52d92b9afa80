"""`pulse account`: accounts and keys, made by whoever runs the studio."""

import asyncio
import sys

import click
from rich.console import Console

from infra import settings as config
from scripts.pulse import account as deeds
from scripts.pulse.command import Command, json_option
from scripts.pulse.group import Group
from scripts.pulse.lines import write
from scripts.pulse.words import Language


@click.group("account", cls=Group)
def command() -> None:
    """Make accounts and API keys, straight on the studio's database.

    For the operator of a studio: it works on the database that PULSE_DATABASE_URL names, or on the one of `make run`
    on this machine while that runs. The keys are kept under PULSE_SECRET, so it must be the studio's own.

    \b
    Examples:
      pulse account add layla@example.com
      pulse account key layla@example.com --name laptop
    """


@command.command("add", cls=Command)
@click.argument("email")
@click.option(
    "--language",
    type=click.Choice(["ar", "en"]),
    default="ar",
    show_default=True,
    help="The language of what is written to the account.",
)
@json_option
def add(*, email: str, language: Language, as_json: bool) -> None:
    """Make an account on the default plan, with a first API key.

    The key is shown once, on stdout; only its HMAC is kept.

    \b
    Examples:
      pulse account add layla@example.com
      export PULSE_API_KEY=$(pulse account add layla@example.com)
    """
    account, key = asyncio.run(deeds.add(config.load(), email, language))
    if as_json:
        made = {"id": account.id, "email": account.email, "plan": account.plan, "language": account.language}
        write({"account": made, "key": key})
        return
    _note(f"made the account {account.email} on the plan {account.plan}")
    _show(key)


@command.command("key", cls=Command)
@click.argument("email")
@click.option("--name", default="pulse command", show_default=True, help="What the key is for, to tell it from others.")
@json_option
def key(*, email: str, name: str, as_json: bool) -> None:
    """Make one more API key for an account; the others stay valid.

    \b
    Example:
      pulse account key layla@example.com --name laptop
    """
    made = asyncio.run(deeds.issue_key(config.load(), email, name))
    if as_json:
        write({"email": email, "name": name, "key": made})
    else:
        _show(made)


@command.command("revoke", cls=Command)
@click.argument("key")
@json_option
def revoke(*, key: str, as_json: bool) -> None:
    """Make an API key useless, at once and for ever. `-` reads it from stdin, so that no history keeps it.

    \b
    Examples:
      pulse account revoke pulse_...
      pulse account revoke - < leaked-key
    """
    key = sys.stdin.read().strip() if key == "-" else key
    asyncio.run(deeds.revoke_key(config.load(), key))
    if as_json:
        write({"revoked": True, "last4": key[-4:]})
    else:
        print(f"revoked the key that ends in {key[-4:]}")


def _show(key: str) -> None:
    print(key)
    _note("This is the only time the key is shown. Use it as PULSE_API_KEY, or as Authorization: Bearer <key>.")


def _note(text: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, style="dim")
