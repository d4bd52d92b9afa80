"""Whoever dies while it carries a parcel leaves one batch at the vendor, and every line charged once."""

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from infra import ground as grounds
from infra.models import Account
from infra.settings import ROOT, Settings
from tests.support.batches import METER, assert_exact, batch_of
from tests.support.books import assert_charged_once
from tests.support.parcels import ANTHROPIC, OPENAI, at, carry_all, carrying, hurry, put
from tests.support.process import environ
from tests.support.vendor_batches import VendorBatches
from workers.batches.carrying import Carrier

_MOST_STEPS = 32
_SAYS = ("one", "two", "refuse")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "stride"),
    [
        (OPENAI, 7),
        pytest.param(OPENAI, 1, marks=pytest.mark.trial),
        pytest.param(ANTHROPIC, 1, marks=pytest.mark.trial),
    ],
)
async def test_a_death_at_any_step_leaves_one_batch_upstream_and_every_line_charged_once(
    settings: Settings, account: Account, model: str, stride: int
) -> None:
    with VendorBatches.serving() as upstream:
        keys = ",".join(f"key-{step}" for step in range(1, _MOST_STEPS + 1))
        lives = _MOST_STEPS // stride
        settings = at(settings, upstream, keys=keys)
        async with grounds.opened(settings) as ground, carrying(settings) as carrier:
            batches = [await put(ground, account, *((model, f"{said} {n}") for said in _SAYS)) for n in range(lives)]
            lived = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-m", "tests.support.carriers", str(stride), *(str(batch.id) for batch in batches)],
                cwd=ROOT,
                env=environ(settings),
                capture_output=True,
                text=True,
                check=False,
            )
            assert lived.returncode == 0, lived.stdout[-2000:] + lived.stderr[-4000:]
            steps = int(lived.stdout.split()[-1])  # what it logs comes before
            assert steps > 14
            await _find_again(carrier, ground)
            await carry_all(ground, carrier)
            over = [await batch_of(ground, batch.id) for batch in batches]
            assert {(batch.state, batch.succeeded, batch.failed) for batch in over} == {("completed", 2, 1)}
            assert len({batch.charged[METER] for batch in over}) == 1
            assert upstream.asked() == sorted(f"{said} {n}" for said in _SAYS for n in range(lives))
            await assert_exact(ground)
            await assert_charged_once(ground)


async def _find_again(carrier: Carrier, ground: grounds.Ground) -> None:
    """Look for what may be at its vendor; what is not found then cannot come any more."""
    await hurry(ground)
    await carrier.round()
    await hurry(ground, sent_at=datetime.now(UTC) - timedelta(seconds=301))
