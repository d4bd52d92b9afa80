"""What is told: the body of a message, made once and then the same for every address and every try."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import msgspec

from infra.models import Document

#: Standard Webhooks asks for less than 20 kB; a body that has to be cut is this long at most.
MOST_BYTES = 20_000
# Ids and our own paths are shorter than the last of them.
_CUTS = (2_000, 500, 200, 100)


def body(type_: str, at: datetime, data: Document) -> str:
    """Return `{"type", "timestamp", "data"}` in JSON.

    Where it would be longer than `MOST_BYTES`, its longest texts end in `…`: the whole of it is where `url` points.
    """
    payload = {"type": type_, "timestamp": at.astimezone(UTC), "data": data}
    told = msgspec.json.encode(payload)
    for most_chars in _CUTS:
        if len(told) <= MOST_BYTES:
            break
        told = msgspec.json.encode(payload | {"data": _cut(data, most_chars)})
    return told.decode()


def of_job(job_id: UUID, state: str, row: Mapping[str, Any] | None) -> Document:
    """Return what is told of a job that is over, by its row; of one whose row is gone, what is still known."""
    kept: Mapping[str, Any] = row or {}
    return {
        "id": str(job_id),
        "kind": kept.get("kind"),
        "state": state,
        "charged": kept.get("charged") or {},
        "error": kept.get("error"),
        "metadata": kept.get("labels") or {},
        "url": f"/v1/jobs/{job_id}",
    }


def _cut(value: Any, most_chars: int) -> Any:
    match value:
        case str():
            return value if len(value) <= most_chars else value[: most_chars - 1] + "…"
        case dict():
            return {key: _cut(each, most_chars) for key, each in cast("dict[str, Any]", value).items()}
        case list():
            return [_cut(each, most_chars) for each in cast("list[Any]", value)]
        case _:
            return value
