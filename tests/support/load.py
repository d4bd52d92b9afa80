"""Clients that keep submitting, cancelling and following jobs whose answers are known, whatever the studio suffers."""

import asyncio
import random
from typing import Any

import httpx2
from msgspec import Struct

from tests.support.chats import Client, chat
from tests.support.vendor import Answer
from tests.support.viewer import TERMINAL, Viewer

_INPUT_TOKENS = 11
_OUTPUT_WEIGHT = 5


class Question(Struct, frozen=True):
    """What is asked: the vendor reads from it how to answer."""

    number: int
    pieces: int
    pause_ms: int

    def __str__(self) -> str:
        """Return what stands in the prompt."""
        return f"سؤال {self.number} {self.pieces} {self.pause_ms}"

    @classmethod
    def read(cls, request: dict[str, Any]) -> "Question":
        """Return the question of a request to the vendor."""
        _, *numbers = request["messages"][-1]["content"].split()
        return cls(*map(int, numbers))

    @property
    def deltas(self) -> list[str]:
        """The answer, piece by piece."""
        return [f"جواب {self.number}.{n} " for n in range(self.pieces)]

    @property
    def charge(self) -> int:
        """The units that the answer costs, another number for every question."""
        return _INPUT_TOKENS + self._output_tokens * _OUTPUT_WEIGHT

    @property
    def _output_tokens(self) -> int:
        return 1 + self.number % 60

    def answer(self) -> Answer:
        """Return what the vendor does."""
        return Answer(
            deltas=self.deltas,
            pause_s=self.pause_ms / 1000,
            input_tokens=_INPUT_TOKENS,
            output_tokens=self._output_tokens,
        )


def answer(request: dict[str, Any]) -> Answer:
    """Answer a request to the vendor as its question says."""
    return Question.read(request).answer()


async def persist(client: Client, method: str, url: str, **options: Any) -> httpx2.Response:
    """Send a request again and again until the studio has answered it."""
    while True:
        try:
            got = await client.request(method, url, **options)
            if got.status_code < 500:
                return got
            assert got.status_code == 503, f"{method} {url}: {got.status_code} {got.text}"
        except httpx2.TransportError:
            pass
        await asyncio.sleep(0.1)


async def over(client: Client, job: dict[str, Any], every_s: float = 0.1) -> dict[str, Any]:
    """Ask until the job is over and return it."""
    while job["state"] not in TERMINAL:
        await asyncio.sleep(every_s)
        job = (await persist(client, "GET", job["urls"]["self"])).json()
    return job


class Errand:
    """One job on its way: submitted under a key, perhaps followed, perhaps cancelled."""

    def __init__(self, client: Client, question: Question, dice: random.Random) -> None:
        """Decide by `dice` what becomes of it."""
        self.client = client
        self.question = question
        self.cancelled = dice.random() < 0.15
        self._patience_s = dice.uniform(0, 1.5)
        self._viewers = dice.choice([0, 1, 2])
        self.viewers: list[Viewer] = []
        #: What the API told of the job in the end.
        self.job: dict[str, Any] = {}

    async def run(self) -> None:
        """Submit the job and return when it is over, and everybody who followed it knows."""
        request = chat(str(self.question), max_output_tokens=64)
        headers = {"Idempotency-Key": f"errand {self.question.number}"}
        admitted = await persist(self.client, "POST", "/v1/jobs", json=request, headers=headers)
        assert admitted.status_code == 202, admitted.text
        self.job = admitted.json()["job"]
        self.viewers = [Viewer(self.client, self.job["urls"]["events"]) for _ in range(self._viewers)]
        watching = [asyncio.create_task(viewer.watch()) for viewer in self.viewers]
        try:
            if self.cancelled:
                await asyncio.sleep(self._patience_s)
                assert (await persist(self.client, "POST", self.job["urls"]["cancel"])).status_code == 202
            await asyncio.gather(*watching)
            self.job = await over(self.client, self.job, every_s=0.2 if self.viewers else 1.0)
        finally:
            for task in watching:
                task.cancel()


class Load:
    """Errands, sent out until told to stop."""

    def __init__(self, clients: list[Client], dice: random.Random) -> None:
        """Send them for each of `clients`, one account each."""
        self.errands: list[Errand] = []
        self._dice = dice
        self._clients = clients
        self._running: list[asyncio.Task[None]] = []
        self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        while True:
            question = Question(len(self.errands), self._dice.randint(3, 30), self._dice.randint(5, 90))
            errand = Errand(self._dice.choice(self._clients), question, self._dice)
            self.errands.append(errand)
            self._running.append(asyncio.create_task(errand.run()))
            await asyncio.sleep(self._dice.uniform(0.05, 0.3))

    async def over(self, within_s: float) -> None:
        """Send no more, and return when every errand has come to its end; raises what went wrong with one."""
        self._sending.cancel()
        try:
            async with asyncio.timeout(within_s):
                await asyncio.gather(*self._running)
        except TimeoutError:
            left = [e for e, task in zip(self.errands, self._running, strict=True) if not task.done()]
            told = [(str(e.question), e.job.get("id"), [viewer.told[-1:] for viewer in e.viewers]) for e in left]
            raise AssertionError(f"not over after {within_s} s: {told}") from None
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
