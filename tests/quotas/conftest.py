"""What tests of limits ask for besides: a Valkey of their own, which they may kill or freeze."""

import tempfile
from collections.abc import AsyncGenerator

import pytest

from infra import embedded
from infra.embedded import valkey
from infra.settings import Settings
from tests.support.fleet import Backend


@pytest.fixture
async def mortal() -> AsyncGenerator[tuple[Settings, Backend]]:
    """A running Valkey of this test alone, and settings that point at it."""
    # pytest's own folders are too deep for a unix socket's path.
    with tempfile.TemporaryDirectory(prefix="pulse-mortal-") as folder:
        settings = Settings(env="test", home=folder)
        backend = Backend(valkey.server(settings), settings, "valkey")
        await backend.start()
        try:
            yield Settings(env="test", home=folder, redis_url=embedded.redis_url(settings)), backend
        finally:
            backend.thaw()
            await backend.stop()
