"""`pulse batch submit`: a file handed over, watched until it is worked off, its results written down."""

import shlex
import uuid

import click
from msgspec import UNSET

from scripts.pulse import words
from scripts.pulse.bar import Bar
from scripts.pulse.batch import board, calls, ending, handover, intake, wording
from scripts.pulse.batch.answers import Batch
from scripts.pulse.batch.ending import Outputs
from scripts.pulse.batch.intake import Options
from scripts.pulse.client import Client
from scripts.pulse.command import Command, connect, json_option, language
from scripts.pulse.commands.batch import arabic
from scripts.pulse.lines import write
from scripts.pulse.screen import note
from scripts.pulse.sources import readable


def _labels(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:  # noqa: ARG001 (click's signature)
    """Read `team=sea`."""
    labels: dict[str, str] = {}
    for value in values:
        name, equals, label = value.partition("=")
        if not name or not equals:
            raise click.BadParameter("such as team=sea")
        labels[readable(name)] = readable(label)
    return labels


def _key(ctx: click.Context, param: click.Parameter, value: str | None) -> str:  # noqa: ARG001 (click's signature)
    """Read an idempotency key, or make one."""
    if value is not None and not (1 <= len(value) <= 255 and value.isascii() and value.isprintable()):
        raise click.BadParameter("1 to 255 printable ASCII characters are needed")
    return value or str(uuid.uuid4())


@click.command("submit", cls=Command, ar=arabic.SUBMIT)
@click.argument("path", metavar="FILE")
@click.option("--mode", type=click.Choice(["each", "all"]), help="Each line for itself (the default), or all or none.")
@click.option("--window", metavar="TIME", help="What is not done by then is given up: 10m to 7d, 24h by default.")
@click.option("--metadata", metavar="KEY=VALUE", multiple=True, callback=_labels, help="A label; may be given again.")
@click.option("--webhook", metavar="URL", help="An address to tell when it is accepted and when it is over.")
@click.option("--key", metavar="KEY", callback=_key, help="Under one key, a file makes one batch, however often sent.")
@click.option("--detach", is_flag=True, help="Leave when the studio has the file.")
@click.option("--output", "-o", metavar="PATH", help="Write the results there when it is over; - for stdout.")
@click.option("--errors", metavar="PATH", help="Write the lines that did not succeed there.")
@click.option("--force", is_flag=True, help="Write over what is there.")
@json_option
def submit(
    *,
    path: str,
    mode: str | None,
    window: str | None,
    metadata: dict[str, str],
    webhook: str | None,
    key: str,
    detach: bool,
    output: str | None,
    errors: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Hand over a file of requests and watch until all of them are done. `-` is what comes on stdin.

    FILE has a request a line (.jsonl), in the studio's shape or in OpenAI's or Anthropic's, or is one JSON body
    {"requests": [...]}. The batch's id is printed as soon as the studio has the file; a lost connection or answer is
    sent again and makes no second batch. Ctrl-C leaves the batch running, and says how to go on.

    Exit codes: 0 every line succeeded, 1 refused, 3 it is over and not every line succeeded (also: it failed, was
    cancelled or has expired), 130 left with Ctrl-C while it goes on. With --json each line is the batch as it then
    was: when it was made, at each change of its state, and last when it was over.

    \b
    Examples:
      pulse batch submit requests.jsonl -o results.jsonl --errors errors.jsonl
      pulse batch submit requests.jsonl --mode all --window 2h --metadata team=sea --detach
      make-requests | pulse batch submit - -o - | jq -r .result.text
      pulse batch submit requests.jsonl --key nightly-2026-11-26
    """
    if detach and (output or errors):
        raise click.UsageError("--detach does not wait for results: get them later with `pulse batch results ID`.")
    if output is not None and output == errors:
        raise click.UsageError("Results and errors need a place each.")
    if as_json and "-" in {output, errors}:
        raise click.UsageError("Only one of --json and results can have stdout.")
    options = Options(
        mode=mode or UNSET, completion_window=window or UNSET, metadata=metadata or UNSET, webhook=webhook or UNSET
    )
    outputs = Outputs.chosen(output, errors, force=force)
    with intake.opened(path) as found:
        client = connect()
        calls.page(client, limit=1)  # a studio that is away, or a wrong key, is told before the bytes are sent
        said = words.of(language())
        again = _again(key)
        with Bar(said, shown=not as_json) as bar:
            answer = handover.send(client, found, options, key, again, said, bar)
    _go_on(client, answer, outputs, detach=detach, as_json=as_json)


def _again(key: str) -> str:
    """Return the command line that hands over the same under the same key."""
    ctx = click.get_current_context()
    parts = ["pulse", "batch", "submit", ctx.params["path"], "--key", key]
    for option in ("mode", "window", "webhook", "output", "errors"):
        if ctx.params[option] is not None:
            parts += [f"--{option}", ctx.params[option]]
    for name, label in ctx.params["metadata"].items():
        parts += ["--metadata", f"{name}={label}"]
    parts += [f"--{flag}" for flag in ("detach", "force") if ctx.params[flag]]
    return shlex.join(map(readable, parts))


def _go_on(client: Client, answer: bytes, outputs: Outputs, *, detach: bool, as_json: bool) -> None:
    batch, said = client.read(answer, Batch), words.of(language())
    if as_json and detach:
        write(client.read(answer, dict[str, object]))
    elif not as_json and outputs.has_stdout:
        note(wording.of(language()).made.format(id=batch.id))
    elif not as_json:
        print(batch.id, flush=True)
    if not detach:
        ending.follow(client, batch.id, board.choose(said, as_json=as_json), outputs, said, as_json=as_json)
