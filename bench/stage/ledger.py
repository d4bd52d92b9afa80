"""`python -m bench.stage.ledger BATCHES SIZE`: admits jobs of one account in process, as the API does under load.

This is the database's part of a submission: no HTTP, no queue. Prints one line of JSON.
"""

import sys
import time

import msgspec
import uvloop
from msgspec import Struct

from bench.stage import crowd
from infra import ground, ids, settings, telemetry
from infra.errors import PulseError
from infra.models import Account
from quotas import accounts
from workers import lifecycle
from workers.chat.spec import Chat, ChatInput
from workers.lifecycle import Submission

_WARM_BATCHES = 5
#: What the benches ask for.
INPUT = {"messages": [{"role": "user", "content": "مرحبا"}], "max_output_tokens": 1}


class Told(Struct, frozen=True, kw_only=True):
    """Jobs admitted, and of those after the first few, how many a second and what they cost this process."""

    accepted: int
    per_s: float
    cpu_us: float


async def admitted(batches: int, size: int) -> Told:
    """Admit so many batches, one after the other. Raises what refuses a job."""
    async with ground.opened(settings.load()) as opened:
        async with opened.database.begin() as session:
            account = await accounts.find(session, crowd.email(0))
        assert account is not None, "the crowd is made before"
        run = str(ids.new())
        begun_s = used_s = 0.0
        for number in range(batches + _WARM_BATCHES):
            if number == _WARM_BATCHES:
                begun_s, used_s = time.perf_counter(), time.process_time()
            for answer in await lifecycle.admit(opened, _batch(account, run, number, size)):
                if isinstance(answer, PulseError):
                    raise answer
        took_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - used_s
    jobs = batches * size
    return Told(accepted=jobs + _WARM_BATCHES * size, per_s=jobs / took_s, cpu_us=cpu_s / jobs * 1e6)


def _batch(account: Account, run: str, number: int, size: int) -> list[Submission]:
    request = Chat(input=msgspec.convert(INPUT, ChatInput))
    names = [f"{run}-{number}-{turn}" for turn in range(size)]
    return [Submission(account=account, request=request, idempotency_key=name) for name in names]


def main() -> None:
    """Do it."""
    telemetry.configure(settings.load(), "bench")
    batches, size = map(int, sys.argv[1:])
    print(msgspec.json.encode(uvloop.run(admitted(batches, size))).decode())


if __name__ == "__main__":
    main()
