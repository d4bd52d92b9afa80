"""`pulse jobs`: what became of jobs, and what still can."""

from datetime import UTC, datetime
from uuid import UUID

import click
import msgspec
from rich.console import Console
from rich.text import Text

from scripts.pulse import listing, words
from scripts.pulse.answers import Job, Page, Submitted, Waiting
from scripts.pulse.command import Command, connect, json_option, language
from scripts.pulse.group import ListByDefault
from scripts.pulse.lines import Lines
from scripts.pulse.screen import Screen, harmless, units
from scripts.pulse.view import watch


@click.group("jobs", cls=ListByDefault)
def command() -> None:
    """List, show, follow, cancel and retry jobs. Without a subcommand: the list.

    A job goes on whoever watches it. Its events can be followed again from any of them, and it is stopped only by
    `cancel`.

    \b
    Examples:
      pulse jobs
      pulse jobs list --limit 5 --json
      pulse jobs follow 01a2... --after 1-17
      pulse jobs cancel 01a2...
      pulse jobs retry 01a2...
    """


@command.command("list", cls=Command)
@click.option("--limit", default=20, show_default=True, metavar="N", help="Jobs a page, 1 to 100.")
@click.option("--cursor", metavar="CURSOR", help="The page after this one: `next_cursor` of the page before.")
@json_option
def list_jobs(*, limit: int, cursor: str | None, as_json: bool) -> None:
    """List the account's jobs, newest first, with their age, how long they took and the units they were charged.

    \b
    Examples:
      pulse jobs list
      pulse jobs list --json | jq -r '.jobs[] | select(.state == "failed").id'
    """
    client = connect()
    answer = client.jobs(limit, cursor)
    if as_json:
        print(answer.decode())
        return
    page = client.read(answer, Page)
    console = Console(highlight=False)
    # Narrower, the ids would be cut, and an id is what the other commands need.
    console.width = max(console.width, 80)
    console.print(listing.table(page.jobs, datetime.now(UTC)))
    if page.next_cursor:
        more = words.of(language()).more.format(command=f"pulse jobs list --cursor {page.next_cursor}")
        Console(stderr=True, highlight=False, soft_wrap=True).print(more, style="dim")


@command.command("show", cls=Command)
@click.argument("job_id", metavar="ID", type=click.UUID)
@json_option
def show(*, job_id: UUID, as_json: bool) -> None:
    """Show one job: its state, its times, what it was charged, and its result or the reason why it failed.

    \b
    Examples:
      pulse jobs show 01a2...
      pulse jobs show 01a2... --json | jq -r .result.text
    """
    client = connect()
    answer = client.job(job_id)
    if as_json:
        print(answer.decode())
        return
    job = client.read(answer, Job)
    error = f"{job.error.detail} ({job.error.code})" if job.error else ""
    moments = {"created": job.created_at, "started": job.started_at, "finished": job.finished_at}
    moments |= {"cancel by": job.cancel_by}
    facts = {
        "id": str(job.id),
        "kind": job.kind,
        "state": job.state + (", to be cancelled" if job.cancel_requested and not job.finished_at else ""),
        "attempt": str(job.attempt),
        "waiting": _waiting(job.waiting),
        **{name: moment.astimezone().isoformat(" ", "seconds") for name, moment in moments.items() if moment},
        "timeout": f"{job.timeout} s a try" if job.timeout is not None else "",
        "webhook": job.webhook or "",
        "charged": units(job.charged or {}, language()),
        "error": error,
        "retry of": str(job.retry_of or ""),
        "retried": str(job.retried_as or ""),
    }
    console = Console(highlight=False, soft_wrap=True)
    for name, fact in facts.items():
        if fact:
            console.print(Text.assemble((f"{name:>9}  ", "bold"), harmless(fact)))
    if job.result is not None:
        console.print()
        console.print(Text(harmless(_result(job.result))))


def _waiting(waiting: Waiting | None) -> str:
    if waiting is None:
        return ""
    starts, finishes = waiting.starts_in_s, waiting.finishes_in_s
    if starts is None or finishes is None:
        return f"position {waiting.position}"
    until = f"starts in {listing.span(starts.p50)}, done in {listing.span(finishes.p50)}"
    return f"position {waiting.position}, {until} (nine in ten: {listing.span(finishes.p90)})"


def _result(result: dict[str, object]) -> str:
    text = result.get("text")
    return text if isinstance(text, str) else msgspec.json.format(msgspec.json.encode(result), indent=2).decode()


@command.command("follow", cls=Command)
@click.argument("job_id", metavar="ID", type=click.UUID)
@click.option("--after", default="", metavar="EVENT", help="Only what was said after this event id, such as 1-17.")
@json_option
def follow(*, job_id: UUID, after: str, as_json: bool) -> None:
    """Watch a job from its start, or from after an event that was seen already, until it is over.

    The text goes to stdout; with --json every event is one line, and its `id` is what --after takes. Exit codes: 0
    succeeded, 1 failed, 3 cancelled, 130 left with Ctrl-C while the job goes on.

    \b
    Examples:
      pulse jobs follow 01a2...
      pulse jobs follow 01a2... --after 1-17 --json
    """
    client = connect()
    client.job(job_id)  # a studio that is away, or a job that is not there, is told at once
    watch(client, job_id, Lines() if as_json else Screen(words.of(language())), language(), after=after)


@command.command("cancel", cls=Command)
@click.argument("job_id", metavar="ID", type=click.UUID)
@json_option
def cancel(*, job_id: UUID, as_json: bool) -> None:
    """Stop a job. A queued one ends at once and costs nothing; of a running one, what was made is kept and charged.

    \b
    Example:
      pulse jobs cancel 01a2...
    """
    client = connect()
    answer = client.cancel(job_id)
    if as_json:
        print(answer.decode())
        return
    job = client.read(answer, Job)
    print(f"{job.id}: " + ("being stopped" if job.cancel_requested and not job.finished_at else harmless(job.state)))


@command.command("retry", cls=Command)
@click.argument("job_id", metavar="ID", type=click.UUID)
@json_option
def retry(*, job_id: UUID, as_json: bool) -> None:
    """Give a failed job another go, as a new job that is held and charged anew. Asked again, it is the same new job.

    \b
    Example:
      pulse jobs retry 01a2...
    """
    client = connect()
    answer = client.retry(job_id)
    if as_json:
        print(answer.decode())
        return
    print(client.read(answer, Submitted).job.id)
