"""A viewer of one job: comes back after its last event id, whatever happens to its connection or to the studio."""

import asyncio
from typing import Any

import httpx2

from tests.support.chats import Client, events, text

TERMINAL = {"succeeded", "failed", "canceled", "expired"}


class Viewer:
    """Follows a job as a browser does."""

    def __init__(self, client: Client, url: str) -> None:
        """Follow the job whose events are at `url`."""
        self.client = client
        self.url = url
        self.told: list[tuple[str, dict[str, Any]]] = []

    async def watch(self) -> None:
        """Return at the terminal event."""
        while not self.told or self.told[-1][1]["type"] not in TERMINAL:
            headers = {"Last-Event-ID": self.told[-1][0]} if self.told else {}
            try:
                async with self.client.stream("GET", self.url, headers=headers) as answer:
                    if answer.status_code == 200:
                        await self._read(answer)
                    else:
                        assert answer.status_code >= 500, f"{answer.status_code} of {self.url}"
                        await asyncio.sleep(0.1)
            except httpx2.TransportError:
                await asyncio.sleep(0.1)

    async def _read(self, answer: httpx2.Response) -> None:
        buffer = ""
        async for piece in answer.aiter_text():
            *frames, buffer = (buffer + piece).split("\n\n")
            self.told += events("\n\n".join([*frames, ""]))

    @property
    def text(self) -> str:
        """The text that is shown in the end."""
        return text(self.told)

    @property
    def last_attempt(self) -> list[tuple[str, dict[str, Any]]]:
        """What the last attempt said, with the end."""
        attempt = place(self.told[-1][0])[0]
        return [(name, event) for name, event in self.told if place(name)[0] == attempt]


def place(name: str) -> tuple[int, int]:
    """Return the attempt and the number that an event id names."""
    attempt, n = name.split("-")
    return int(attempt), int(n)
