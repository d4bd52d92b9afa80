"""Fetchers for which loopback is the Internet."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from ipaddress import ip_network
from typing import Any, Protocol

import pytest

from infra.errors import PulseError
from infra.fetch import Fetcher, Policy
from tests.support.strangers import Authority, Stranger


class Reaching(Protocol):
    """Makes a fetcher."""

    def __call__(self, *servers: Stranger, tls: Authority | None = None, **policy: Any) -> Fetcher:
        """Let it reach the ports of `servers` on 127.0.0.1, which every name leads to, by http and https."""
        ...


@pytest.fixture
async def reaching() -> AsyncGenerator[Reaching]:
    """Make fetchers that end with the test."""
    async with AsyncExitStack() as stack:
        opened: list[Fetcher] = []

        def make(*servers: Stranger, tls: Authority | None = None, **policy: Any) -> Fetcher:
            facts: dict[str, Any] = {
                "schemes": frozenset({"http", "https"}),
                "ports": frozenset(server.port for server in servers),
                "allowed": (ip_network("127.0.0.1/32"),),
            }
            fetcher = Fetcher(Policy(**facts | policy), resolve=_here, tls=tls.client() if tls else None)
            opened.append(fetcher)
            stack.push_async_exit(fetcher)
            return fetcher

        yield make


async def _here(_host: str) -> list[str]:
    return ["127.0.0.1"]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def refused() -> Callable[[Awaitable[object]], Awaitable[PulseError]]:
    """Await what has to be refused, and return the fact."""

    async def refused(fetch: Awaitable[object]) -> PulseError:
        with pytest.raises(PulseError) as told:
            await fetch
        return told.value

    return refused
