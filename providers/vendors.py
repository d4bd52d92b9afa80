"""The vendors that this process talks to, loaded by name when one is first needed."""

import asyncio
import importlib
from typing import Final

from providers.deployments import Deployment, Vendor
from providers.types import ChatModels

#: vendor -> module with `connect(deployment) -> ChatModels`.
_CHAT: Final[dict[Vendor, str]] = {
    "openai": "providers.openai",
    "anthropic": "providers.anthropic",
    "google": "providers.google",
    "compatible": "providers.compatible",
    "local": "providers.compatible",
}


class Vendors:
    """Open clients, one per deployment."""

    def __init__(self) -> None:
        """Import and connect nothing yet."""
        self._chat: dict[str, ChatModels] = {}
        self._loading: dict[str, asyncio.Task[ChatModels]] = {}

    async def load(self, deployment: Deployment) -> None:
        """Get ready to talk to a deployment, beside the loop: to import a vendor's library takes up to two seconds."""
        name = deployment.name
        if name in self._chat:
            return
        if name not in self._loading:
            self._loading[name] = asyncio.create_task(asyncio.to_thread(_connected, deployment))
        loading = self._loading[name]
        try:
            self._chat.setdefault(name, await asyncio.shield(loading))
        finally:
            if loading.done():
                self._loading.pop(name, None)

    def chat(self, deployment: Deployment) -> ChatModels:
        """Return the chat models behind a deployment."""
        if deployment.name not in self._chat:
            self._chat[deployment.name] = _connected(deployment)
        return self._chat[deployment.name]

    async def close(self) -> None:
        """Close every client."""
        for models in self._chat.values():
            await models.close()
        self._chat.clear()


def _connected(deployment: Deployment) -> ChatModels:
    return importlib.import_module(_CHAT[deployment.vendor]).connect(deployment)
