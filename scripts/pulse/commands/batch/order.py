"""`pulse batch cancel|retry|list`: batches that are stopped, given another go, and looked through."""

import shlex
import uuid
from datetime import UTC, datetime
from uuid import UUID

import click
from rich.console import Console

from scripts.pulse import shelf, words
from scripts.pulse.batch import board, calls, ending, report
from scripts.pulse.batch.answers import Batch, Batches
from scripts.pulse.batch.ending import Outputs
from scripts.pulse.command import Command, connect, json_option, language
from scripts.pulse.commands.batch import arabic
from scripts.pulse.screen import harmless, note

_STATES = ("validating", "running", "canceling", "completed", "failed", "canceled", "expired")


@click.command("cancel", cls=Command, ar=arabic.CANCEL)
@click.argument("batch_id", metavar="ID", type=click.UUID)
@json_option
def cancel(*, batch_id: UUID, as_json: bool) -> None:
    """Stop a batch. What waits costs nothing; what runs is stopped and charged for what was made; results are kept.

    \b
    Example:
      pulse batch cancel 01a2...
    """
    client = connect()
    answer = calls.cancel(client, batch_id)
    if as_json:
        print(answer.decode())
        return
    batch = client.read(answer, Batch)
    print(f"{batch.id}: " + (harmless(batch.state) if batch.is_over else "being stopped"))


@click.command("retry", cls=Command, ar=arabic.RETRY)
@click.argument("batch_id", metavar="ID", type=click.UUID)
@click.option("--follow", "-f", is_flag=True, help="Watch the new batch until it is over, as submit does.")
@json_option
def retry(*, batch_id: UUID, follow: bool, as_json: bool) -> None:
    """Give the lines of a batch that failed another go, as a new batch with their numbers and names; print its id.

    \b
    Examples:
      pulse batch retry 01a2...
      pulse batch retry 01a2... --follow
    """
    client, said = connect(), words.of(language())
    answer = calls.retry(client, batch_id, str(uuid.uuid4()))
    batch = client.read(answer, Batch)
    if not as_json:
        print(batch.id, flush=True)
    elif not follow:
        print(answer.decode())
    if follow:
        viewer = board.choose(said, as_json=as_json)
        ending.follow(client, batch.id, viewer, Outputs(parts={}, force=False), said, as_json=as_json)


@click.command("list", cls=Command, ar=arabic.LIST)
@click.option("--state", type=click.Choice(_STATES), help="Only batches in this state.")
@click.option("--limit", default=20, show_default=True, metavar="N", help="Batches a page, 1 to 100.")
@click.option("--cursor", metavar="CURSOR", help="The page after this one: `next_cursor` of the page before.")
@json_option
def list_batches(*, state: str | None, limit: int, cursor: str | None, as_json: bool) -> None:
    """List the account's batches, newest first: their lines, how many succeeded and how many did not.

    \b
    Examples:
      pulse batch list --state running
      pulse batch list --json | jq -r '.batches[] | select(.counts.failed > 0).id'
    """
    client = connect()
    answer = calls.page(client, state=state, limit=limit, cursor=cursor)
    if as_json:
        print(answer.decode())
        return
    page = client.read(answer, Batches)
    shelf.show(report.table(page.batches, datetime.now(UTC)), Console(highlight=False))
    if page.next_cursor:
        states = ["--state", state] if state else []
        again = ["pulse", "batch", "list", *states, "--limit", str(limit), "--cursor", page.next_cursor]
        note(words.of(language()).more.format(command=shlex.join(again)))
