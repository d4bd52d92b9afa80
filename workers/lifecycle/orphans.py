"""Answers that a vendor may still be making for jobs that are over, until they are stopped there.

Whoever ends such a job may be the API, which speaks to no vendor: the tender has them stopped. What Redis loses of this
is made to its end, and paid for; the job's account is not charged for it.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from infra import redis as road
from infra.ground import Ground
from infra.models import Document

_KEY: Final = "pulse:orphans"
# What nobody has stopped for so long is over by itself.
_KEEP_S: Final = 3600
_MOST_AT_ONCE: Final = 100


def note(pipe: Any, left: Sequence[Document]) -> None:
    """Have the answers of these tokens stopped, with the commands of a pipe."""
    if left:
        pipe.rpush(_KEY, *map(msgspec.json.encode, left))
        pipe.expire(_KEY, _KEEP_S)


async def keep(ground: Ground, left: Document) -> None:
    """Have the answer of this token stopped."""
    await road.execute(ground.redis, lambda pipe: note(pipe, [left]))


async def take(ground: Ground) -> list[Document]:
    """Return the tokens of some answers that are to be stopped, each once."""
    commands: Any = ground.redis
    found: list[bytes] | None = await commands.lpop(_KEY, _MOST_AT_ONCE)
    return [msgspec.json.decode(each) for each in found or ()]
