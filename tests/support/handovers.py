"""Batches as a client hands them over, and what the studio tells of their lines, put there by hand."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx2
from httpx2 import AsyncClient as Client
from sqlalchemy import text

from infra.ground import Ground
from infra.models import Batch
from tests.support.chats import chat
from workers.batches import results
from workers.batches.results import Outcome, Told


def element(number: int, content: str = "مرحبا") -> dict[str, Any]:
    """Return a request as a batch has it."""
    return {"custom_id": f"r-{number}", **chat(content)}


def jsonl(elements: Sequence[dict[str, Any]]) -> bytes:
    """Return requests as lines."""
    return b"".join(json.dumps(each, ensure_ascii=False, separators=(",", ":")).encode() + b"\n" for each in elements)


LINES = jsonl([element(n) for n in range(3)])


async def hand_over(client: Client, **options: Any) -> dict[str, Any]:
    """Hand over a batch of three lines, and return it."""
    answer = await client.post("/v1/batches", json={"requests": [element(n) for n in range(3)], **options})
    assert answer.status_code == 202, answer.text
    return answer.json()


async def stored(ground: Ground, batch: dict[str, Any]) -> bytes:
    """Return the lines of a batch as they were stored."""
    async with ground.database.begin() as session:
        owner = await session.scalar(text("SELECT account_id FROM batches WHERE id = :id"), {"id": batch["id"]})
    async with ground.storage.opened("quarantine", f"{owner}/{batch['id']}") as path:
        return await asyncio.to_thread(path.read_bytes)


def told(number: int, outcome: Outcome = "succeeded", *, words: str = "نص", is_kept: bool = True) -> Told:
    """Return what is told of a line."""
    line = {"custom_id": f"r-{number}", "line": number, "state": outcome, "result": words}
    return Told(line=number, outcome=outcome, is_kept=is_kept, told=json.dumps(line, ensure_ascii=False).encode())


async def tell(ground: Ground, batch: dict[str, Any], lines: Sequence[Told], *, state: str = "running") -> None:
    """Add to what is told of a batch, and have it be in a state."""
    async with ground.database.begin() as session:
        row = await session.get(Batch, UUID(batch["id"]), with_for_update=True)
        assert row is not None
        row.state = state
        if state not in {"validating", "running", "canceling"}:
            row.finished_at = datetime.now(UTC)
        await results.append(session, row, lines)


def bytes_of(lines: Sequence[Told]) -> bytes:
    """Return what is told, as it is downloaded."""
    return b"".join(each.told + b"\n" for each in lines)


def code(answer: httpx2.Response) -> tuple[int, str]:
    """Return how a call was refused."""
    return answer.status_code, answer.json()["code"]


async def left_behind(ground: Ground) -> list[str]:
    """Return what is in quarantine, on its way there, or written down to be removed from there."""
    folder = ground.settings.files
    found = [path.name for name in ("quarantine", "tmp") for path in (folder / name).rglob("*") if path.is_file()]
    async with ground.database.begin() as session:
        return found + list(await session.scalars(text("SELECT key FROM discards")))
