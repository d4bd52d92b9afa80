"""Which library talks to a vendor is found at the first call, and stops no other call while it is read."""

import asyncio
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from infra.settings import Settings
from providers import vendors
from providers.gateway import Gateway
from tests.support.cast import heard, model

_SLOW = """
import threading

from providers.types import Finish, Opened, TextDelta

IMPORTED_BY = threading.current_thread()
CONNECTED_BY = []


def connect(deployment):
    CONNECTED_BY.append(threading.current_thread())
    return Models()


class Models:
    async def stream(self, call):
        yield Opened()
        yield TextDelta("Hello.")
        yield Finish(reason="stop", counted=None)

    async def close(self):
        pass
"""


async def test_a_library_is_read_beside_the_loop_once_for_all_that_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_vendor.py").write_text(_SLOW, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setitem(vendors._CHAT, "google", "slow_vendor")  # pyright: ignore[reportPrivateUsage]
    gateway = Gateway(Settings(google_api_key="k"))
    hasty = asyncio.create_task(heard(gateway, [model("one", "google")]))
    await asyncio.sleep(0)
    hasty.cancel()  # which stops nobody else's reading
    found = await asyncio.gather(*(heard(gateway, [model("one", "google")]) for _ in range(5)))
    await gateway.close()
    assert [each.text for each in found] == ["Hello."] * 5
    slow: Any = __import__("slow_vendor")
    assert slow.IMPORTED_BY is not threading.main_thread()
    assert [each is not threading.main_thread() for each in slow.CONNECTED_BY] == [True]
