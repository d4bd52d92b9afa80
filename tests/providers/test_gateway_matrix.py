"""The gateway with each vendor's adapter against every fault of llmock, which judges it strictly: nothing to find."""

import asyncio
import random
from collections.abc import Callable, Generator
from typing import Any

import msgspec
import pytest

from infra.settings import Settings
from providers.deployments import Vendor
from providers.gateway import Gateway
from tests.support import llmock as ll
from tests.support.cast import CALL, Heard, heard, model
from tests.support.llmock import LLMock

pytestmark = pytest.mark.slow

#: Whose adapters are judged: the settings of a key of each, where its server is at the address.
VENDORS: dict[Vendor, Callable[[str], dict[str, str]]] = {
    "compatible": lambda url: {"compatible_url": url, "compatible_api_key": "k"},
    "openai": lambda url: {"openai_base_url": url, "openai_api_key": "k"},
    "anthropic": lambda url: {"anthropic_base_url": url, "anthropic_api_key": "k"},
    "google": lambda url: {"google_base_url": url, "google_api_key": "k"},
}
TEXT = "All that the vendor says of it, word by word, and nothing else."
#: Each befalls a model of its own, once or as often as it says.
FAULTS: dict[str, dict[str, Any]] = {
    "fine": {},
    "drop": {"type": "stream_fault", "kind": "disconnect", "after_chunks": 7},
    "drop-at-once": {"type": "stream_fault", "kind": "disconnect", "after_chunks": 0},
    "truncate": {"type": "stream_fault", "kind": "truncate", "after_chunks": 7},
    "corrupt": {"type": "stream_fault", "kind": "malformed", "after_chunks": 7},
    "stall": {"type": "stream_fault", "kind": "stall", "after_chunks": 7, "stall_seconds": 3},
    "slow-first-token": {"type": "slow_first_token", "seconds": 3},
    "nothing-at-all": {"type": "delay", "seconds": 3},
    "limited": {"type": "fail", "status": 429, "retry_after": 1},
    "limited-untold": {"type": "fail", "status": 429},
    "limited-twice": {"type": "fail", "status": 429, "retry_after": 1, "times": 2},
    "error": {"type": "fail", "status": 500, "times": 2},
    "away": {"type": "fail", "status": 503, "times": 2},
    "away-until": {"type": "fail", "status": 503, "retry_after": 1},
    "overloaded": {"type": "fail", "status": 529, "times": 2},
    "outage": {"type": "fail", "status": 503, "times": None},
    "outage-of-the-first": {"type": "fail", "status": 503, "times": None},
    "wrong": {"type": "fail", "status": 400, "times": None},
    "no-access": {"type": "fail", "status": 401, "times": None},
}
#: What cannot end well: the code that is told then.
HOPELESS = {"outage": "provider_unavailable", "wrong": "provider_refused", "no-access": "provider_misconfigured"}


@pytest.fixture(scope="module")
def judge() -> Generator[LLMock]:
    """llmock, which speaks at a model's pace, so that it sees who leaves."""
    with ll.serving("--stream-chunk-delay-ms", "20") as served:
        yield served


async def test_every_fault_is_survived_or_told_and_the_judge_finds_nothing(judge: LLMock) -> None:
    random.seed(1)  # so that no pause is too short for the judge to have seen us leave
    await judge.reply(TEXT, times=None)
    for vendor in VENDORS:
        for name, fault in FAULTS.items():
            if fault:
                fields = {"times": 1} | {key: value for key, value in fault.items() if key != "type"}
                await judge.add(fault["type"], **fields, match={"model": f"{name}-{vendor}"})
    settings = Settings(first_token_s=1.5, idle_s=1.0)
    gateways: dict[Vendor, Gateway] = {
        vendor: Gateway(msgspec.structs.replace(settings, **at(judge.base_url(vendor))))
        for vendor, at in VENDORS.items()
    }
    for vendor, gateway in gateways.items():  # what loading a library takes of the loop is no silence of a vendor's
        await _asked(gateway, vendor, "fine")
    # All at once, since most of the time is waited.
    await asyncio.gather(*(_survived(gateway, vendor) for vendor, gateway in gateways.items()))
    verdict = await judge.verdict()
    assert verdict["findings"] == []
    assert verdict["faults_injected"] >= len(VENDORS) * (len(FAULTS) - 3), "which count as faults but for the slow ones"


async def _survived(gateway: Gateway, vendor: Vendor) -> None:
    """Let a vendor's models have every fault, and judge what is heard of them."""
    found = dict(zip(FAULTS, await asyncio.gather(*(_asked(gateway, vendor, name) for name in FAULTS)), strict=True))
    await gateway.close()
    for name, answer in found.items():
        where = (vendor, name, answer.fact)
        if name in HOPELESS:
            assert answer.fact is not None, where
            assert (answer.finish, answer.fact.code) == (None, HOPELESS[name]), where
        else:
            assert answer.finish is not None, where
            assert answer.text == TEXT, where
    assert found["outage-of-the-first"].served == [f"fine-{vendor}"]
    for name in ("drop", "truncate", "corrupt", "stall"):
        assert found[name].turned, (vendor, name)


async def _asked(gateway: Gateway, vendor: Vendor, name: str) -> Heard:
    names = [name, "fine"] if name == "outage-of-the-first" else [name]
    chain = [msgspec.structs.replace(model(f"{one}-{vendor}", vendor), vendor_id=f"{one}-{vendor}") for one in names]
    return await heard(gateway, chain, msgspec.structs.replace(CALL, output_tokens=400))
