"""`pulse events`: what becomes of all jobs of the account, as it happens."""

import click

from scripts.pulse import words
from scripts.pulse.command import Command, connect, json_option, language
from scripts.pulse.feed import Lines, Table, watch


@click.command("events", cls=Command)
@click.option("--kind", metavar="KIND", help="Only jobs of this kind.")
@click.option("--after", default="", metavar="EVENT", help="Begin after this event id; 0: with all that is kept.")
@json_option
def command(*, kind: str | None, after: str, as_json: bool) -> None:
    """Watch all jobs of the account at once: what starts, gets on, and ends; the text of answers is not among it.

    It begins now, or after an event that was seen already, and goes on until Ctrl-C. A lost connection is made again
    without losing or repeating an event; where the studio does not keep some of them any more, that is told. Exit
    codes: 1 refused, 130 left.

    With --json every event is one line, such as {"id": "1764137105000-0", "job": "01a2...", "kind": "chat", "batch":
    null, "event": {"type": "succeeded", ...}}, and its `id` is what --after takes. {"type": "missed"} says that some
    events before the next one are not kept any more.

    \b
    Examples:
      pulse events
      pulse events --kind chat --after 1764137105000-0
      pulse events --after 0
      pulse events --json | jq -r 'select(.event.type == "failed").job'
    """
    watch(connect(), kind, after, Lines() if as_json else Table(words.of(language())))
