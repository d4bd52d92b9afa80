"""The vendors that this process talks to, loaded by name when one is first needed."""

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

    def chat(self, deployment: Deployment) -> ChatModels:
        """Return the chat models behind a deployment."""
        if deployment.name not in self._chat:
            self._chat[deployment.name] = importlib.import_module(_CHAT[deployment.vendor]).connect(deployment)
        return self._chat[deployment.name]

    async def close(self) -> None:
        """Close every client."""
        for models in self._chat.values():
            await models.close()
        self._chat.clear()
