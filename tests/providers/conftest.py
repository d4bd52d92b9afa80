"""Servers that others wrote, which speak the wires of the vendors."""

from collections.abc import AsyncGenerator, Generator

import pytest

from tests.support import aimock as ai
from tests.support import llmock as ll
from tests.support.aimock import AIMock
from tests.support.llmock import LLMock


@pytest.fixture(scope="session")
def llmock_process() -> Generator[LLMock]:
    """One llmock for the whole run."""
    with ll.serving() as served:
        yield served


@pytest.fixture
async def llmock(llmock_process: LLMock) -> AsyncGenerator[LLMock]:
    """llmock, told nothing yet; breaks as it is told and judges its client."""
    await llmock_process.reset()
    yield llmock_process
    await llmock_process.reset()


@pytest.fixture(scope="session")
def aimock_process() -> Generator[AIMock]:
    """One aimock for the whole run."""
    try:
        with ai.serving() as served:
            yield served
    except ai.NotHere as why:
        pytest.skip(f"aimock is not here: {why}")


@pytest.fixture
async def aimock(aimock_process: AIMock) -> AIMock:
    """aimock, asked nothing yet; it answers by the fixtures of tests/aimock."""
    await aimock_process.forget()
    return aimock_process
