"""The routes of `/v1/batches` as the command calls them."""

from typing import Literal
from urllib.parse import urlencode
from uuid import UUID

from scripts.pulse.client import TRIES, Client

#: What can be downloaded of a batch: a line for each of its lines, or for each that did not succeed.
type Part = Literal["results", "errors"]

ALL = "/v1/batches"


def path(batch_id: UUID) -> str:
    """Return the path of a batch."""
    return f"{ALL}/{batch_id}"


def get(client: Client, batch_id: UUID, *, tries: int = TRIES) -> bytes:
    """Return a `Batch`."""
    return client.call("GET", path(batch_id), tries=tries)


def page(client: Client, **query: str | int | None) -> bytes:
    """Return a `Batches` of what the query leaves: `state`, `limit`, `cursor`."""
    given = {name: value for name, value in query.items() if value is not None}
    return client.call("GET", f"{ALL}?{urlencode(given, errors='replace')}")


def cancel(client: Client, batch_id: UUID) -> bytes:
    """Ask for a batch to be stopped and return it: a `Batch`."""
    return client.call("POST", f"{path(batch_id)}/cancel")


def retry(client: Client, batch_id: UUID, key: str) -> bytes:
    """Give the failed lines of a batch another go and return the new `Batch`: under one `key` it is one."""
    return client.call("POST", f"{path(batch_id)}/retry", headers={"Idempotency-Key": key})


def head(client: Client, batch_id: UUID, part: Part, most_bytes: int) -> bytes:
    """Return the first bytes of a part that is not empty."""
    plain = {"Range": f"bytes=0-{most_bytes - 1}", "Accept-Encoding": "identity"}
    return client.call("GET", f"{path(batch_id)}/{part}", headers=plain)
