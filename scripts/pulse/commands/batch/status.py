"""`pulse batch status`: how a batch stands, and the same bar again until it is over."""

from uuid import UUID

import click
from rich.console import Console
from rich.text import Text

from scripts.pulse import shelf, words
from scripts.pulse.batch import board, calls, ending, report
from scripts.pulse.batch.answers import Batch, Batches
from scripts.pulse.batch.ending import Outputs
from scripts.pulse.client import Client
from scripts.pulse.command import Command, connect, json_option, language
from scripts.pulse.commands.batch import arabic
from scripts.pulse.problems import Ending
from scripts.pulse.screen import harmless, units
from scripts.pulse.words import Words


class NoBatch(Ending):
    """There is no batch yet. Hand one over with: pulse batch submit FILE"""

    ar = "لا توجد دفعة بعد. سلّم واحدة بالأمر: pulse batch submit FILE"


@click.command("status", cls=Command, ar=arabic.STATUS)
@click.argument("batch_id", metavar="[ID]", type=click.UUID, required=False)
@click.option("--follow", "-f", is_flag=True, help="Go on showing it until it is over, as submit does.")
@json_option
def status(*, batch_id: UUID | None, follow: bool, as_json: bool) -> None:
    """Show one batch: how far it is, what was charged, and the first lines that went wrong. Without an ID: the newest.

    With --follow it is watched until it is over, whatever becomes of the connection. Exit codes then: 0 every line
    succeeded, 3 not every line did, 130 left with Ctrl-C while it goes on.

    \b
    Examples:
      pulse batch status
      pulse batch status 01a2... --follow
      pulse batch status 01a2... --json | jq .counts
    """
    client, said = connect(), words.of(language())
    batch_id = batch_id or _newest(client)
    answer = calls.get(client, batch_id)  # a studio that is away, or a batch that is not there, is told at once
    if follow:
        viewer = board.choose(said, as_json=as_json)
        ending.follow(client, batch_id, viewer, Outputs(parts={}, force=False), said, as_json=as_json)
        return
    if as_json:
        print(answer.decode())
        return
    batch = client.read(answer, Batch)
    console = Console(highlight=False, soft_wrap=True)
    for name, fact in _facts(batch, said).items():
        if fact:
            console.print(Text.assemble((f"{name:>9}  ", "bold"), harmless(fact)))
    for line in report.explain(batch, report.failures(client, batch, language()), said):
        console.print(Text(line))


def _newest(client: Client) -> UUID:
    newest = client.read(calls.page(client, limit=1), Batches).batches
    if not newest:
        raise NoBatch
    return newest[0].id


def _facts(batch: Batch, said: Words) -> dict[str, str]:
    counts = batch.counts
    ends = ("waiting", "running", "succeeded", "failed", "rejected", "canceled", "expired")
    lines = ", ".join(f"{getattr(counts, end):,} {end}" for end in ends if getattr(counts, end))
    moments = {"created": batch.created_at, "accepted": batch.accepted_at, "finished": batch.finished_at}
    moments |= {"expires": None if batch.is_over else batch.expires_at}
    read = f"{shelf.size(batch.read_bytes, said)} / {shelf.size(batch.size_bytes, said)}"
    return {
        "id": str(batch.id),
        "state": batch.state + (", to be cancelled" if batch.cancel_requested and not batch.is_over else ""),
        "mode": batch.mode,
        "read": read if batch.state == "validating" else "",
        "lines": f"{counts.lines:,}" + (f" ({lines})" if lines else ""),
        **{name: moment.astimezone().isoformat(" ", "seconds") for name, moment in moments.items() if moment},
        "charged": units(batch.charged or {}, said.language),
        "metadata": report.pretty(batch.metadata),
        "webhook": batch.webhook or "",
        "file": str(batch.input_file_id or ""),
        "retry of": str(batch.retry_of or ""),
    }
