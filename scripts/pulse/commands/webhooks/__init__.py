"""`pulse webhooks`: who is told of what happens in the account, what signs that, and how it was delivered."""

import shlex
from datetime import UTC, datetime
from uuid import UUID

import click
from rich.console import Console

from scripts.pulse import shelf, words
from scripts.pulse import webhooks as deeds
from scripts.pulse.command import Command, connect, json_option, language
from scripts.pulse.commands.webhooks import arabic
from scripts.pulse.group import ListByDefault
from scripts.pulse.lines import write
from scripts.pulse.screen import note
from scripts.pulse.webhooks import ALL, Deliveries, Delivery, Endpoint, Endpoints, Rotated, Secret, Sent

_STATES = ("pending", "delivered", "failed", "canceled")


@click.group("webhooks", cls=ListByDefault, ar=arabic.WEBHOOKS)
def command() -> None:
    """Have addresses told of what becomes of jobs, batches and files. Without a subcommand: the list.

    Messages are signed (Standard Webhooks) and sent until they are taken, for days where it must be.

    \b
    Examples:
      pulse webhooks add https://example.com/hook --event 'job.*' --event batch.completed
      pulse webhooks
      pulse webhooks test 01a2...
      pulse webhooks deliveries 01a2... --state failed
    """


@command.command("list", cls=Command, ar=arabic.LIST)
@click.option("--limit", default=20, show_default=True, metavar="N", help="Endpoints a page, 1 to 100.")
@click.option("--cursor", metavar="CURSOR", help="The page after this one: `next_cursor` of the page before.")
@json_option
def list_endpoints(*, limit: int, cursor: str | None, as_json: bool) -> None:
    """List the account's endpoints, newest first: what they are told of, and whether they take it.

    \b
    Example:
      pulse webhooks list --json | jq -r '.webhooks[] | select(.enabled | not).url'
    """
    client = connect()
    answer = deeds.page(client, limit=limit, cursor=cursor)
    if as_json:
        print(answer.decode())
        return
    page = client.read(answer, Endpoints)
    shelf.show(deeds.endpoints_table(page.webhooks), Console(highlight=False))
    _tell_more("list", [], limit, page.next_cursor)


@command.command("add", cls=Command, ar=arabic.ADD)
@click.argument("url")
@click.option(
    "--event", "events", metavar="TYPE", multiple=True, help="Such as job.failed or 'batch.*'; all otherwise."
)
@click.option("--description", metavar="TEXT", help="What it is for.")
@click.option("--signature", type=click.Choice(["hmac", "ed25519"]), help="How messages are signed; hmac otherwise.")
@json_option
def add(*, url: str, events: tuple[str, ...], description: str | None, signature: str | None, as_json: bool) -> None:
    """Have an address told of events; print the endpoint's id and what verifies its messages.

    \b
    Examples:
      pulse webhooks add https://example.com/hook
      pulse webhooks add https://example.com/hook --event 'batch.*' --json | jq -r .secret
    """
    client = connect()
    asked = {"url": url, "events": list(events) or ["*"], "description": description, "signature": signature}
    answer = deeds.make(client, ALL, {name: value for name, value in asked.items() if value is not None})
    if as_json:
        print(answer.decode())
        return
    made = client.read(answer, Endpoint)
    print(made.id)
    print(_verifier(Secret(secret=made.secret, public_key=made.public_key)))


@command.command("test", cls=Command, ar=arabic.TEST)
@click.argument("endpoint_id", metavar="ID", type=click.UUID)
@json_option
def test(*, endpoint_id: UUID, as_json: bool) -> None:
    """Send an endpoint a message to try it out; print the message's id.

    \b
    Example:
      pulse webhooks test 01a2... && pulse webhooks deliveries 01a2... --limit 1
    """
    client = connect()
    answer = deeds.make(client, f"{ALL}/{endpoint_id}/test")
    print(answer.decode() if as_json else client.read(answer, Sent).message)


@command.command("rotate", cls=Command, ar=arabic.ROTATE)
@click.argument("endpoint_id", metavar="ID", type=click.UUID)
@click.option("--overlap", metavar="TIME", help="For so long the old secret signs as well: 0 to 7d, 24h by default.")
@json_option
def rotate(*, endpoint_id: UUID, overlap: str | None, as_json: bool) -> None:
    """Make a new secret for an endpoint and print what verifies it; the old one signs as well for a while.

    \b
    Example:
      pulse webhooks rotate 01a2... --overlap 2h
    """
    client = connect()
    answer = deeds.make(client, f"{ALL}/{endpoint_id}/rotate", {"overlap": overlap} if overlap is not None else None)
    print(answer.decode() if as_json else _verifier(client.read(answer, Rotated).secret))


@command.command("rm", cls=Command, ar=arabic.RM)
@click.argument("endpoint_id", metavar="ID", type=click.UUID)
@json_option
def rm(*, endpoint_id: UUID, as_json: bool) -> None:
    """Delete an endpoint and its secrets; what waits for it is not sent any more.

    \b
    Example:
      pulse webhooks rm 01a2...
    """
    connect().call("DELETE", f"{ALL}/{endpoint_id}")
    if as_json:
        write({"id": endpoint_id, "deleted": True})


@command.command("deliveries", cls=Command, ar=arabic.DELIVERIES)
@click.argument("endpoint_id", metavar="[ID]", type=click.UUID, required=False)
@click.option("--state", type=click.Choice(_STATES), help="Only deliveries in this state.")
@click.option("--limit", default=20, show_default=True, metavar="N", help="Deliveries a page, 1 to 100.")
@click.option("--cursor", metavar="CURSOR", help="The page after this one: `next_cursor` of the page before.")
@json_option
def list_deliveries(
    *, endpoint_id: UUID | None, state: str | None, limit: int, cursor: str | None, as_json: bool
) -> None:
    """List what was sent to an endpoint, or to all addresses: what was answered, and when it is tried next.

    \b
    Examples:
      pulse webhooks deliveries 01a2... --state failed
      pulse webhooks deliveries --json | jq -r '.deliveries[] | select(.status == 500).id'
    """
    client = connect()
    path = f"{ALL}/{endpoint_id}/deliveries" if endpoint_id else f"{ALL}/deliveries"
    answer = deeds.page(client, path, state=state, limit=limit, cursor=cursor)
    if as_json:
        print(answer.decode())
        return
    page = client.read(answer, Deliveries)
    shelf.show(deeds.deliveries_table(page.deliveries, datetime.now(UTC)), Console(highlight=False))
    given = [str(endpoint_id)] if endpoint_id else []
    _tell_more("deliveries", [*given, *(["--state", state] if state else [])], limit, page.next_cursor)


@command.command("replay", cls=Command, ar=arabic.REPLAY)
@click.argument("delivery_id", metavar="DELIVERY", type=click.UUID)
@json_option
def replay(*, delivery_id: UUID, as_json: bool) -> None:
    """Send a message again, with the same id, as a new delivery; print that one's id.

    \b
    Examples:
      pulse webhooks replay 01a2...
      pulse webhooks deliveries --state failed --json | jq -r '.deliveries[].id' | xargs -n1 pulse webhooks replay
    """
    client = connect()
    answer = deeds.make(client, f"{ALL}/deliveries/{delivery_id}/replay")
    print(answer.decode() if as_json else client.read(answer, Delivery).id)


def _verifier(secret: Secret) -> str:
    return secret.secret or secret.public_key or ""


def _tell_more(which: str, given: list[str], limit: int, cursor: str | None) -> None:
    if cursor:
        again = shlex.join(["pulse", "webhooks", which, *given, "--limit", str(limit), "--cursor", cursor])
        note(words.of(language()).more.format(command=again))
