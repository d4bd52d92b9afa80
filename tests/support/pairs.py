"""A kind that draws on two meters, as much as it is told to."""

from collections.abc import Generator
from contextlib import contextmanager
from unittest.mock import patch

from msgspec import Struct

from infra.models import Account
from workers import pools
from workers.lifecycle import Submission
from workers.request import Asking, Request

FIRST, SECOND = "chat_tokens", "images"


class PairInput(Struct, kw_only=True, forbid_unknown_fields=True):
    """What is held."""

    most: dict[str, int]
    text: str = ""


class Pair(Request, tag="pair"):
    """Nothing is made of it."""

    input: PairInput

    def resolved(self, asking: Asking) -> "Pair":  # noqa: ARG002
        """Return it as it is."""
        return self

    def most(self, asking: Asking) -> dict[str, int]:  # noqa: ARG002
        """Return what is held."""
        return self.input.most


@contextmanager
def pairs() -> Generator[None]:
    """Let the kind have a pool."""
    with patch.dict(pools.POOLS, {"pair": ("pair",)}):
        yield


def pair(account: Account, first: int, second: int = 0, *, text: str = "", **facts: object) -> Submission:
    """Return a submission that holds so much of each meter."""
    named = {key: facts.pop(key) for key in ("unique_key",) if key in facts}
    request = Pair(input=PairInput(most={FIRST: first, SECOND: second}, text=text), **named)  # type: ignore[arg-type]
    return Submission(account=account, request=request, **facts)  # type: ignore[arg-type]
