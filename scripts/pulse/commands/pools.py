"""`pulse pools`: how the pools stand, live, and what an operator wants of them."""

import asyncio
import contextlib
from collections.abc import Callable

import click
from msgspec import UNSET, UnsetType
from rich.console import Console, RenderableType
from rich.live import Live

from infra import settings as config
from infra.settings import Settings
from scripts.pulse import operator
from scripts.pulse import pools as view
from scripts.pulse.command import Command, json_option
from scripts.pulse.group import ListByDefault
from scripts.pulse.lines import write
from workers import control
from workers.control import Change

_EVERY_S = 1.0


def _number(ctx: click.Context, param: click.Parameter, value: str | None) -> int | UnsetType | None:  # noqa: ARG001 (click's signature)
    """Read a whole number, or `default`, which takes back what was set."""
    if value is None:
        return UNSET
    if value == "default":
        return None
    if value.isascii() and value.isdigit():
        return int(value)
    raise click.BadParameter("a whole number or `default` is needed")


def _kind_caps(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, int | None]:
    """Read `chat=4` and `chat=default`."""
    caps: dict[str, int | None] = {}
    for value in values:
        kind, _, number = value.partition("=")
        cap = _number(ctx, param, number)
        if not kind or cap is UNSET:
            raise click.BadParameter("such as chat=4 or chat=default")
        caps[kind] = cap
    return caps


@click.group("pools", cls=ListByDefault)
def command() -> None:
    """Watch the pools of workers, pause and drain them, and change how many jobs they run, while they run.

    For the operator of a studio: it works on the servers that PULSE_DATABASE_URL and PULSE_REDIS_URL name, or on those
    of `make run` on this machine. Workers follow within seconds; nothing is restarted, nothing that runs is stopped.

    \b
    Examples:
      pulse pools
      pulse pools list --watch
      pulse pools pause chat
      pulse pools set chat --slots 16
    """


@command.command("list", cls=Command)
@click.option("--watch", is_flag=True, help="Keep looking, once a second, until Ctrl-C.")
@json_option
def list_pools(*, watch: bool, as_json: bool) -> None:
    """Show every pool: what waits, for how long, what runs, what was done and failed in the last minute.

    \b
    Examples:
      pulse pools list --watch
      pulse pools list --json | jq '.pools[] | {name, waiting, oldest_s}'
    """
    _show(view.table, watch=watch, as_json=as_json)


@command.command("show", cls=Command)
@click.argument("pool")
@click.option("--watch", is_flag=True, help="Keep looking, once a second, until Ctrl-C.")
@json_option
def show(*, pool: str, watch: bool, as_json: bool) -> None:
    """Show one pool with each of its worker processes, and what was set for it.

    \b
    Example:
      pulse pools show chat --watch
    """
    control.known(pool)
    _show(lambda found: view.sheet(found[0]), watch=watch, as_json=as_json, only=pool)


@command.command("pause", cls=Command)
@click.argument("pool")
@json_option
def pause(*, pool: str, as_json: bool) -> None:
    """Start no more jobs. What runs goes on; what is submitted is taken and waits.

    \b
    Example:
      pulse pools pause chat
    """
    _change(pool, Change(mode="paused"), as_json=as_json)


@command.command("drain", cls=Command)
@click.argument("pool")
@json_option
def drain(*, pool: str, as_json: bool) -> None:
    """Take no more submissions (they are answered 503). What waits and what runs is worked off.

    \b
    Example:
      pulse pools drain chat
    """
    _change(pool, Change(mode="draining"), as_json=as_json)


@command.command("resume", cls=Command)
@click.argument("pool")
@json_option
def resume(*, pool: str, as_json: bool) -> None:
    """End a pause or a drain.

    \b
    Example:
      pulse pools resume chat
    """
    _change(pool, Change(mode="running"), as_json=as_json)


@command.command("set", cls=Command)
@click.argument("pool")
@click.option("--slots", metavar="NUMBER", callback=_number, help="Jobs at a time of each worker process.")
@click.option(
    "--account-cap",
    metavar="NUMBER",
    callback=_number,
    help="Running jobs of one account on the whole pool; 0: any number.",
)
@click.option(
    "--kind-cap",
    "kind_caps",
    metavar="KIND=NUMBER",
    multiple=True,
    callback=_kind_caps,
    help="Running jobs of a kind on the whole pool; 0: any number.",
)
@json_option
def change(
    *,
    pool: str,
    slots: int | UnsetType | None,
    account_cap: int | UnsetType | None,
    kind_caps: dict[str, int | None],
    as_json: bool,
) -> None:
    """Change how many jobs run; `default` takes a number back to what the workers were started with.

    \b
    Examples:
      pulse pools set chat --slots 16
      pulse pools set chat --account-cap 4 --kind-cap chat=100
      pulse pools set chat --slots default
    """
    wanted = Change(slots=slots, account_cap=account_cap, kind_caps=kind_caps)
    if wanted == Change():
        raise click.UsageError("Nothing to set: give --slots, --account-cap or --kind-cap.")
    _change(pool, wanted, as_json=as_json)


def _change(pool: str, wanted: Change, *, as_json: bool) -> None:
    async def run(settings: Settings) -> None:
        async with operator.opened(settings) as ground:
            await control.change(ground, pool, wanted)

    asyncio.run(run(config.load()))
    _show(lambda found: view.sheet(found[0]), watch=False, as_json=as_json, only=pool)


def _show(
    draw: Callable[[list[view.Pool]], RenderableType], *, watch: bool, as_json: bool, only: str | None = None
) -> None:
    with contextlib.suppress(KeyboardInterrupt):  # the way to end watching
        asyncio.run(_watch(draw, watch=watch, as_json=as_json, only=only))


async def _watch(
    draw: Callable[[list[view.Pool]], RenderableType], *, watch: bool, as_json: bool, only: str | None
) -> None:
    console = Console(highlight=False)
    console.width = max(console.width, 80)
    async with operator.opened(config.load()) as ground:
        with Live(console=console, auto_refresh=False) if watch and not as_json else contextlib.nullcontext() as live:
            while True:
                found = [pool for pool in await view.look(ground) if only in (None, pool.name)]
                if as_json:
                    write({"pools": found})
                elif live is not None:
                    live.update(draw(found), refresh=True)
                else:
                    console.print(draw(found))
                if not watch:
                    return
                await asyncio.sleep(_EVERY_S)
