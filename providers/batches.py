"""Vendors' own batches: many requests handed over together, answered within a day, for half of the price.

A vendor's file has `connect(deployment) -> Batches` and is loaded by name when it is first needed.
"""

import importlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, Protocol, cast

from msgspec import Struct

from infra.settings import Settings
from providers import deployments
from providers.catalog import Model
from providers.deployments import Deployment, Vendor
from providers.types import ChatCall, Chunk, ProviderError

_BATCHES: Final[dict[Vendor, str]] = {
    "openai": "providers.openai_batches",
    "anthropic": "providers.anthropic_batches",
}
#: The longest that a vendor takes for a batch; both say so.
WINDOW_S: Final = 86_400.0


class BatchInDoubt(Exception):
    """It is not known whether the vendor has taken the batch."""


class Ask(Struct, frozen=True, kw_only=True):
    """One request of a batch, under a name (letters, digits, `-` and `_`, 64 at most) that no other of it has."""

    custom_id: str
    call: ChatCall


class Answer(Struct, frozen=True, kw_only=True):
    """What became of one request.

    `said` are the chunks of a whole answer. Otherwise the vendor has charged nothing for it: `refused` by its own
    fault (`error`), `undone` by the vendor's or for want of time, `canceled` because the batch was.
    """

    custom_id: str
    outcome: Literal["succeeded", "refused", "undone", "canceled"]
    said: Sequence[Chunk] = ()
    error: ProviderError | None = None


class Mark(Struct, frozen=True, kw_only=True):
    """By what a batch is known again at its vendor: a name, how many requests it has, and when it was sent.

    `others` are the vendor's ids of batches that are known to be others.
    """

    name: str
    requests: int
    sent_at: datetime
    others: Sequence[str] = ()


class Found(Struct, frozen=True, kw_only=True):
    """A batch at its vendor; `is_sure` where the vendor knows it by its name."""

    id: str
    is_sure: bool


class Batches(Protocol):
    """A vendor's batches, behind one key. Everything raises `ProviderError`; nothing is tried twice here."""

    async def upload(self, name: str, asks: Sequence[Ask]) -> Any:
        """Return what `submit` takes; nothing is charged for it, and what is never submitted goes by itself."""
        ...

    async def submit(self, name: str, uploaded: Any) -> str:
        """Hand a batch over, known by `name`; returns the vendor's id of it.

        Raises `BatchInDoubt` where it may have been taken all the same; any other fact says that it was not.
        """
        ...

    async def find(self, mark: Mark) -> Found | None:
        """Look for a batch of which it is not known whether it was taken."""
        ...

    async def is_over(self, batch_id: str) -> bool:
        """Tell whether all that will come of a batch has come. Raises `AnswerLost` where there is no such batch."""
        ...

    def answers(self, batch_id: str) -> AsyncIterator[Answer]:
        """Yield what became of the requests of a batch that is over, in any order, of some perhaps nothing."""
        ...

    async def cancel(self, batch_id: str) -> None:
        """Ask for a batch to be stopped; what was made until then is among its answers."""
        ...

    async def close(self) -> None:
        """Close the vendor's connections."""
        ...


class Doors:
    """Open clients, one per deployment."""

    def __init__(self, settings: Settings) -> None:
        """Import and connect nothing yet."""
        self._deployments = deployments.of(settings)
        self._open: dict[str, Batches] = {}

    def of(self, model: Model) -> list[Deployment]:
        """Return the deployments whose vendor has batches for a model."""
        return self._deployments.get(model.vendor, []) if model.vendor in _BATCHES else []

    def all(self) -> list[Deployment]:
        """Return every deployment whose vendor has batches."""
        return [each for vendor in _BATCHES for each in self._deployments.get(vendor, [])]

    def behind(self, deployment: Deployment) -> Batches:
        """Return the batches behind a deployment."""
        if deployment.name not in self._open:
            module = importlib.import_module(_BATCHES[deployment.vendor])
            self._open[deployment.name] = module.connect(deployment)
        return self._open[deployment.name]

    async def close(self) -> None:
        """Close every client."""
        for batches in self._open.values():
            await batches.close()
        self._open.clear()


def members(value: object) -> Mapping[str, Any]:
    """Return the members of what a vendor's line has for an object, none where it is no object."""
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def objects(value: object) -> list[Mapping[str, Any]]:
    """Return the objects of what a vendor's line has for a list of them."""
    return [members(each) for each in cast("list[object]", value)] if isinstance(value, list) else []


def tokens(value: object) -> int | None:
    """Return a vendor's count, where it is one that can be charged."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None


def has(settings: Settings, model: Model) -> bool:
    """Tell whether a model's vendor has batches, and this installation a key to them."""
    return model.vendor in _BATCHES and model.vendor in deployments.of(settings)
