"""`pulse dead`: the jobs that failed, why, and another go at them, one or many."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

import click
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from infra import settings as config
from infra.errors import PulseError
from infra.ground import Ground
from infra.models import Job
from quotas import accounts
from scripts.pulse import operator
from scripts.pulse.account import NoSuchAccount
from scripts.pulse.command import Command, json_option, language
from scripts.pulse.group import ListByDefault
from scripts.pulse.lines import write
from scripts.pulse.listing import span
from scripts.pulse.screen import harmless
from workers import dead, jobs
from workers.dead import Which
from workers.desk import Desk

_AT_ONCE = 100


class Letter(Struct, frozen=True, kw_only=True):
    """A failed job and the reason."""

    id: UUID
    account_id: UUID
    kind: str
    code: str
    detail: str
    tries: int
    created_at: datetime
    failed_at: datetime | None


class Replayed(Struct, frozen=True, kw_only=True):
    """What became of one letter: the new job, or why there is none."""

    id: UUID
    replayed_as: UUID | None = None
    code: str | None = None
    detail: str | None = None


def _letter(job: Job) -> Letter:
    error = job.error or {}
    return Letter(
        id=job.id,
        account_id=job.account_id,
        kind=job.kind,
        code=error.get("code", ""),
        detail=error.get(language(), ""),
        tries=job.tries,
        created_at=job.created_at,
        failed_at=job.finished_at,
    )


@click.group("dead", cls=ListByDefault)
def command() -> None:
    """List the jobs that failed for good, with the reason, and give them another go.

    For the operator of a studio: it works on the servers that PULSE_DATABASE_URL and PULSE_REDIS_URL name, or on those
    of `make run` on this machine. Another go is a new job of the same account, which is held and charged anew.

    \b
    Examples:
      pulse dead
      pulse dead list --code provider_unavailable
      pulse dead replay 01a2...
      pulse dead replay --all --code provider_unavailable
    """


_kind = click.option("--kind", metavar="KIND", help="Only jobs of this kind.")
_code = click.option("--code", metavar="CODE", help="Only jobs that failed with this error.")
_email = click.option("--account", "email", metavar="EMAIL", help="Only jobs of this account.")


@command.command("list", cls=Command)
@_kind
@_code
@_email
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many, newest first.")
@json_option
def list_letters(*, kind: str | None, code: str | None, email: str | None, limit: int, as_json: bool) -> None:
    """Show the failed jobs that were given no other go, newest first.

    \b
    Examples:
      pulse dead list --kind chat --limit 100
      pulse dead list --json | jq -r '.dead[] | [.code, .id] | @tsv'
    """

    async def read(ground: Ground) -> list[Letter]:
        which = await _which(ground, kind, code, email)
        async with ground.database.begin() as session:
            return [_letter(job) for job in await dead.letters(session, which, limit=limit)]

    found = _on_ground(read)
    if as_json:
        write({"dead": found})
        return
    console = Console(highlight=False)
    console.width = max(console.width, 80)
    console.print(_table(found, datetime.now(UTC)) if found else "No dead letters.")


def _table(found: Sequence[Letter], now: datetime) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("id", "kind", "failed with"):
        table.add_column(name, no_wrap=True)
    for name in ("tries", "ago"):
        table.add_column(name, justify="right", no_wrap=True)
    for letter in found:
        ago = span((now - letter.failed_at).total_seconds()) if letter.failed_at else ""
        table.add_row(str(letter.id), harmless(letter.kind), harmless(letter.code), str(letter.tries), ago)
    return table


@command.command("show", cls=Command)
@click.argument("job_id", metavar="ID", type=click.UUID)
@json_option
def show(*, job_id: UUID, as_json: bool) -> None:
    """Show one failed job with the whole reason.

    \b
    Example:
      pulse dead show 01a2...
    """

    async def read(ground: Ground) -> Letter:
        async with ground.database.begin() as session:
            job = await session.get(Job, job_id)
        if job is None:
            raise jobs.JobNotFound
        if job.state != "failed":
            raise dead.JobNotFailed(state=job.state)
        return _letter(job)

    letter = _on_ground(read)
    if as_json:
        write(letter)
        return
    console = Console(highlight=False, soft_wrap=True)
    for name in ("id", "account_id", "kind", "code", "detail", "tries", "created_at", "failed_at"):
        console.print(f"[bold]{name:>10}[/]  ", end="")
        console.print(harmless(str(getattr(letter, name))), markup=False)


@command.command("replay", cls=Command)
@click.argument("job_ids", metavar="[ID]...", nargs=-1, type=click.UUID)
@click.option("--all", "everything", is_flag=True, help="Every dead letter that the options below leave.")
@_kind
@_code
@_email
@json_option
def replay(
    *,
    job_ids: tuple[UUID, ...],
    everything: bool,
    kind: str | None,
    code: str | None,
    email: str | None,
    as_json: bool,
) -> None:
    """Give failed jobs another go: those that are named, or with --all those that the options leave.

    Each is tried for itself. One that is refused, such as for its account's quota, stays a dead letter; the exit code
    is 1 then. A letter is never replayed twice.

    \b
    Examples:
      pulse dead replay 01a2... 01a3...
      pulse dead replay --all --kind chat --code provider_unavailable
    """
    if bool(job_ids) == everything:
        raise click.UsageError("Name the jobs, or say --all.")

    async def run(ground: Ground) -> list[Replayed]:
        which = await _which(ground, kind, code, email)
        groups = _all(ground, which) if everything else _named(job_ids)
        desk, done = Desk(ground), list[Replayed]()
        async for group in groups:
            done += await asyncio.gather(*(_again(ground, desk, job_id) for job_id in group))
        return done

    done = _on_ground(run)
    refused = [each for each in done if each.replayed_as is None]
    if as_json:
        write({"replayed": done})
    else:
        for each in refused:
            click.echo(f"{each.id}: {harmless(each.detail or '')} ({each.code})", err=True)
        click.echo(f"{len(done) - len(refused)} replayed, {len(refused)} refused")
    if refused:
        click.get_current_context().exit(1)


async def _named(job_ids: Sequence[UUID]) -> AsyncIterator[Sequence[UUID]]:
    for start in range(0, len(job_ids), _AT_ONCE):
        yield job_ids[start : start + _AT_ONCE]


async def _all(ground: Ground, which: Which) -> AsyncIterator[Sequence[UUID]]:
    """Yield the letters there are, newest first; one that is refused is passed over."""
    before: UUID | None = None
    while True:
        async with ground.database.begin() as session:
            found = await dead.letters(session, which, limit=_AT_ONCE, before=before)
        if not found:
            return
        before = found[-1].id
        yield [job.id for job in found]


async def _again(ground: Ground, desk: Desk, job_id: UUID) -> Replayed:
    try:
        async with ground.database.begin() as session:
            job = await session.get(Job, job_id)
            if job is None:
                raise jobs.JobNotFound
            account = await accounts.get(session, job.account_id)
        made = await dead.replay(ground, desk, account, job_id)
    except PulseError as error:
        return Replayed(id=job_id, code=error.code, detail=error.text(language()))
    return Replayed(id=job_id, replayed_as=made.job.id)


async def _which(ground: Ground, kind: str | None, code: str | None, email: str | None) -> Which:
    if email is None:
        return Which(kind=kind, code=code)
    async with ground.database.begin() as session:
        account = await accounts.find(session, email)
    if account is None:
        raise NoSuchAccount(field="--account", email=email)
    return Which(kind=kind, code=code, account_id=account.id)


def _on_ground[T](do: Callable[[Ground], Awaitable[T]]) -> T:
    async def run() -> T:
        async with operator.opened(config.load()) as ground:
            return await do(ground)

    return asyncio.run(run())
