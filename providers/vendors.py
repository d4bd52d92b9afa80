"""The vendors that this process talks to, loaded by name when one is first needed."""

import importlib

from infra.settings import Settings
from providers.types import ChatModels

#: vendor -> module with `connect(settings) -> ChatModels`.
_CHAT = {"openai": "providers.openai", "local": "providers.openai"}


class Vendors:
    """Open clients, one per vendor."""

    def __init__(self, settings: Settings) -> None:
        """Remember the settings; nothing is imported or connected yet."""
        self._settings = settings
        self._chat: dict[str, ChatModels] = {}

    def chat(self, vendor: str) -> ChatModels:
        """Return the chat models of a vendor."""
        if vendor not in self._chat:
            self._chat[vendor] = importlib.import_module(_CHAT[vendor]).connect(self._settings)
        return self._chat[vendor]

    async def close(self) -> None:
        """Close every client."""
        for models in self._chat.values():
            await models.close()
        self._chat.clear()
