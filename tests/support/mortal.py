"""The whole life of a file in processes that die: `python -m tests.support.mortal`, with settings in the environment.

A step is whatever leaves something behind: a transaction that is about to be committed, one that was, a statement of
its own, a call to the file store. Each process lives one file's life and kills itself at one step, as `kill -9` would.
They are forks of one that has loaded everything, so that a life takes a fraction of a second.
"""

import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from infra import ground as grounds
from infra import settings as config
from infra.ground import Ground
from infra.models import Account
from infra.settings import Settings
from tests.support.lives import tools
from tests.support.uploads import picture
from workers import files, intake
from workers.desk import Desk
from workers.files import Announcement
from workers.perform import perform

#: The exit code of a life that nothing cut short.
LIVED = 42


class Death:
    """Counts the steps, and comes at one of them."""

    def __init__(self, step: int) -> None:
        """Come at step `step`, counted from 1."""
        self._left = step

    def step(self) -> None:
        """Count one."""
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def doom(ground: Ground, death: Death) -> None:
    """Have death count the transactions of a ground and the calls to its store."""
    begin, ask = ground.database.begin, ground.database.ask

    @asynccontextmanager
    async def mortal() -> AsyncGenerator[Any]:
        async with begin() as session:
            yield session
            death.step()  # all is written and nothing committed
        death.step()  # committed, and nobody told

    async def asked(*args: Any) -> Any:
        death.step()
        answer = await ask(*args)
        death.step()
        return answer

    setattr(ground.database, "begin", mortal)  # noqa: B010 (a stand-in for a method)
    setattr(ground.database, "ask", asked)  # noqa: B010
    for name in ("put", "delete", "receive", "size"):
        setattr(ground.storage, name, _before(death, getattr(ground.storage, name)))


def _before(death: Death, deed: Callable[..., Any]) -> Callable[..., Any]:
    def mortal(*args: Any, **kwargs: Any) -> Any:
        death.step()
        return deed(*args, **kwargs)

    return mortal


async def live(settings: Settings, account_id: UUID, data: bytes, step: int) -> None:
    """Announce, upload, complete, scan and delete a picture, unless death comes first."""
    death = Death(step)
    async with grounds.opened(settings) as ground:
        async with ground.database.begin() as session:
            account = await session.get_one(Account, account_id)
        doom(ground, death)
        sha256 = hashlib.sha256(data).hexdigest()
        asked = Announcement(name=f"{step}.png", purpose="photo", size_bytes=len(data), sha256=sha256)
        file = (await files.announce(ground, account, asked)).file
        key = files.quarantine_key(account.id, file.id)
        await ground.storage.receive(key, _once(data), most_bytes=len(data))
        completed = await intake.complete(ground, Desk(ground), account, file.id)
        assert completed.job_id is not None
        await perform(tools(ground), completed.job_id)
        await files.delete(ground, account.id, file.id)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def main() -> None:
    """Live one life after another, each a step longer, until one is not cut short; prints how many that took."""
    settings, account_id = config.load(), UUID(sys.argv[1])
    step = 0
    while True:
        step += 1
        # Every other picture is one that the account has already: its objects are shared.
        data = picture(step if step % 2 else 0)
        pid = os.fork()
        if pid == 0:
            asyncio.run(live(settings, account_id, data, step))
            os._exit(LIVED)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == LIVED:
            sys.stdout.write(f"{step}\n")
            return
        if code != -signal.SIGKILL:
            sys.exit(f"step {step}: {code}")


if __name__ == "__main__":
    main()
