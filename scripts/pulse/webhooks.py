"""`/v1/webhooks` as the command calls it: what it reads of the answers, the calls, and how they are listed."""

import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from urllib.parse import urlencode

from msgspec import Struct
from rich.table import Table
from rich.text import Text

from scripts.pulse.answers import Reason
from scripts.pulse.client import Client
from scripts.pulse.listing import span
from scripts.pulse.screen import harmless

ALL = "/v1/webhooks"
_STYLES = {"delivered": "green", "failed": "red", "pending": "cyan", "canceled": "yellow"}


class Endpoint(Struct, frozen=True):
    """What the command shows of an endpoint; a new one has what verifies its messages."""

    id: uuid.UUID
    url: str
    events: list[str]
    signature: str
    created_at: datetime
    disabled: Reason | None = None
    failing_since: datetime | None = None
    paused_until: datetime | None = None
    secret: str | None = None
    public_key: str | None = None


class Endpoints(Struct, frozen=True):
    """Endpoints, newest first."""

    webhooks: list[Endpoint]
    next_cursor: str | None = None


class Secret(Struct, frozen=True):
    """What verifies: the secret of an `hmac` endpoint, the public key of an `ed25519` one."""

    secret: str | None = None
    public_key: str | None = None


class Rotated(Struct, frozen=True):
    """The new secret, and until when those before it sign as well."""

    secret: Secret
    old_until: datetime | None = None


class Sent(Struct, frozen=True):
    """A test message that is on its way."""

    message: str


class Delivery(Struct, frozen=True):
    """What the command shows of a message to one address; `status` is that of the last answer."""

    id: uuid.UUID
    type: str
    url: str
    state: str
    tries: int
    created_at: datetime
    status: int | None = None
    next_at: datetime | None = None


class Deliveries(Struct, frozen=True):
    """Deliveries, newest first."""

    deliveries: list[Delivery]
    next_cursor: str | None = None


def page(client: Client, path: str = ALL, **query: str | int | None) -> bytes:
    """Return an `Endpoints`, or a `Deliveries` of the path that has them."""
    given = {name: value for name, value in query.items() if value is not None}
    return client.call("GET", f"{path}?{urlencode(given, errors='replace')}")


def make(client: Client, path: str, body: Mapping[str, object] | None = None) -> bytes:
    """Have something made, once however often it is sent, and return the answer."""
    return client.call("POST", path, body=body, headers={"Idempotency-Key": str(uuid.uuid4())})


def endpoints_table(endpoints: Iterable[Endpoint]) -> Table:
    """Return a table of endpoints: what they are told of, and whether they take it."""
    table = Table(box=None, pad_edge=False)
    for name in ("id", "state", "events"):
        table.add_column(name, no_wrap=name != "events")
    table.add_column("url", overflow="fold")
    for each in endpoints:
        table.add_row(str(each.id), _state(each), Text(harmless(" ".join(each.events))), Text(harmless(each.url)))
    return table


def _state(endpoint: Endpoint) -> Text:
    if endpoint.disabled is not None:
        return Text(harmless(endpoint.disabled.code), style="red")
    if endpoint.failing_since is not None:
        return Text("unreached", style="yellow")
    return Text("paused", style="yellow") if endpoint.paused_until is not None else Text("ok", style="green")


def deliveries_table(deliveries: Iterable[Delivery], now: datetime) -> Table:
    """Return a table of deliveries: how old they are at `now`, what was answered, and when they are tried next."""
    table = Table(box=None, pad_edge=False)
    for name in ("id", "state", "type"):
        table.add_column(name, no_wrap=True)
    for name in ("tries", "http", "age", "next in"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in deliveries:
        state = Text(harmless(each.state), style=_STYLES.get(each.state, ""))
        age, until = (now - each.created_at).total_seconds(), each.next_at
        numbers = (str(each.tries), str(each.status or ""), span(age))
        next_in = span((until - now).total_seconds()) if until is not None else ""
        table.add_row(str(each.id), state, Text(harmless(each.type)), *numbers, next_in)
    return table
