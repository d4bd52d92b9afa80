"""A large batch goes up, and its results go down, in the memory that a small one takes."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from infra.ground import Ground
from infra.settings import Settings
from tests.support.chats import Client, chat
from tests.support.handovers import LINES, hand_over, jsonl, stored
from tests.support.process import environ, peak_mib, started
from tests.support.serving import until_serving

MIB = 1024**2
_PIECE = jsonl([{"custom_id": "r", **chat("نص " * 40)} for _ in range(800)])
_MANY = 48 * MIB // len(_PIECE)
# So many bytes a line of the results, so that there are as many of them.
_TOLD = 4096


async def as_lines() -> AsyncIterator[bytes]:
    """Yield the lines."""
    for _ in range(_MANY):
        yield _PIECE


async def as_json() -> AsyncIterator[bytes]:
    """Yield them as JSON."""
    yield b'{"requests": ['
    for n in range(_MANY):
        yield (b"," if n else b"") + _PIECE.replace(b"}\n", b"},").removesuffix(b",")
    yield b"]}"


async def put_results(ground: Ground, batch: dict[str, Any], size_bytes: int) -> None:
    """Put so many bytes of results there."""
    async with ground.database.begin() as session:
        await session.execute(
            text("""
            INSERT INTO batch_results (batch_id, results_end, errors_end, line, is_error, is_kept, told)
            SELECT :batch, n * :told, 0, n, false, false, repeat('x', :told - 1) || E'\n'
            FROM generate_series(1, :many) n
            """),
            {"batch": batch["id"], "told": _TOLD, "many": size_bytes // _TOLD},
        )
        await session.execute(text("UPDATE batches SET results_bytes = :size"), {"size": size_bytes})


@pytest.mark.slow
async def test_a_large_batch_goes_up_and_its_results_go_down_in_flat_memory(
    settings: Settings, ground: Ground, key: str, tmp_path: Path
) -> None:
    address, headers = f"http://127.0.0.1:{settings.port}", {"Authorization": f"Bearer {key}"}
    grown = dict[str, float]()
    with started("api", env=environ(settings), log=tmp_path / "api.log") as process:
        async with Client(base_url=address, headers=headers, timeout=60) as client:
            await until_serving(client)
            batch = await hand_over(client)
            await client.post("/v1/batches", content=LINES, headers={"Content-Type": "application/jsonl"})
            await put_results(ground, batch, _TOLD)
            await client.get(batch["urls"]["results"])
            before = peak_mib(process)
            sent = hashlib.sha256(_PIECE * _MANY).hexdigest()
            for media_type, body in (("application/jsonl", as_lines()), ("application/json", as_json())):
                answer = await client.post("/v1/batches", content=body, headers={"Content-Type": media_type})
                assert answer.json()["size_bytes"] == len(_PIECE) * _MANY, answer.text
                assert hashlib.sha256(await stored(ground, answer.json())).hexdigest() == sent
                grown[media_type] = peak_mib(process) - before
            made = await hand_over(client)
            await put_results(ground, made, 48 * MIB)
            length = 0
            async with client.stream("GET", made["urls"]["results"]) as download:
                async for chunk in download.aiter_bytes():
                    length += len(chunk)
            grown["results"] = peak_mib(process) - before
    assert length == 48 * MIB
    assert max(grown.values()) < 24, grown
