"""What tests of webhooks stand on."""

import pytest

from infra.ground import Ground
from tests.support.hooks import loopback
from workers.webhooks import pool


@pytest.fixture
def hooked(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> Ground:
    """The ground where webhooks may lead to loopback, receivers have a second, and nobody sleeps for long."""
    monkeypatch.setattr(pool, "IDLE_S", 0.05)
    return loopback(ground)
