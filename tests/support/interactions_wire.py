"""A small server of Gemini's Interactions: answers made in the background, read from any event on, and broken at will.

What it says has the shapes that google-genai 3.6 reads: tests/providers/test_interactions.py points that at it.
"""

import asyncio
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct, field

from tests.support.sse_wire import Fault, Request, Wire, frame, reply, stream

WORDS = ["سلام", " عليكم", ", dear", " wire", "."]
USAGE = {
    "total_input_tokens": 21,
    "total_output_tokens": 7,
    "total_thought_tokens": 3,
    "total_cached_tokens": 5,
    "total_tool_use_tokens": 2,
    "total_tokens": 33,
}
_PATH = re.compile(r"/v1beta/interactions(?:/(?P<id>[^/]+))?(?P<cancel>/cancel)?")


def words(*pieces: str) -> dict[str, Any]:
    """Return a step that says these pieces."""
    return {"type": "model_output", "deltas": [{"type": "text", "text": piece} for piece in pieces]}


def thought(signature: str) -> dict[str, Any]:
    """Return a step of thinking, with what signs it."""
    summary = {"type": "thought_summary", "content": {"type": "text", "text": "Hm."}}
    return {"type": "thought", "deltas": [summary, {"type": "thought_signature", "signature": signature}]}


def call(id_: str, name: str, *pieces: str) -> dict[str, Any]:
    """Return a step that calls a tool; its arguments come in these pieces of JSON."""
    deltas = [{"type": "arguments_delta", "arguments": piece} for piece in pieces]
    return {"type": "function_call", "id": id_, "name": name, "arguments": {}, "deltas": deltas}


class Script(Struct, kw_only=True):
    """How one interaction goes."""

    steps: list[dict[str, Any]] = field(default_factory=lambda: [words(*WORDS)])
    status: str = "completed"
    usage: dict[str, int] | None = field(default_factory=lambda: dict(USAGE))
    #: An `error` event that takes the place of the end.
    error: dict[str, str] | None = None


class Interaction:
    """One that was begun; all its events are there at once, since it is made whether anybody listens or not."""

    def __init__(self, number: int, request: dict[str, Any], script: Script) -> None:
        """Make it."""
        self.id = f"v1_{number}"
        self.request = request
        self.status = script.status
        events = enumerate(_events(self.id, request, script))
        self.events = [{**event, "event_id": f"{self.id}.{at}"} for at, event in events]

    def told(self) -> dict[str, Any]:
        """Return it as a GET tells it."""
        return {"id": self.id, "object": "interaction", "status": self.status, "steps": []}


class InteractionsWire(Wire):
    """The server."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        super().__init__()
        #: Each interaction takes the first of these.
        self.scripts: list[Script] = []
        #: What was generated, and is to be paid for.
        self.journal: list[Interaction] = []

    async def answer(self, request: Request, fault: Fault | None, writer: asyncio.StreamWriter) -> None:
        """Begin an interaction, tell of one, or cancel it."""
        target = urlsplit(request.target)
        asked, query = _PATH.fullmatch(target.path), parse_qs(target.query)
        if asked is not None and request.method == "POST" and asked["id"] is None:
            script = self.scripts.pop(0) if self.scripts else Script()
            self.journal.append(Interaction(len(self.journal), request.body, script))
            await _tell(writer, self.journal[-1].events, fault)
            return
        found = next((each for each in self.journal if asked is not None and each.id == asked["id"]), None)
        if found is None or asked is None:
            await reply(writer, 404)
        elif asked["cancel"]:
            found.status = "cancelled"
            await reply(writer, 200, found.told())
        elif query.get("stream") == ["true"]:
            await _go_on(writer, found.events, query.get("last_event_id", [""])[0], fault)
        else:
            await reply(writer, 200, found.told())


def _events(id_: str, request: dict[str, Any], script: Script) -> list[dict[str, Any]]:
    about = {"id": id_, "object": "interaction", "model": request.get("model")}
    events: list[dict[str, Any]] = [
        {"event_type": "interaction.created", "interaction": {**about, "status": "in_progress"}},
        {"event_type": "interaction.status_update", "interaction_id": id_, "status": "in_progress"},
    ]
    for index, step in enumerate(script.steps):
        begun = {name: value for name, value in step.items() if name != "deltas"}
        events.append({"event_type": "step.start", "index": index, "step": begun})
        events += [{"event_type": "step.delta", "index": index, "delta": delta} for delta in step["deltas"]]
        events.append({"event_type": "step.stop", "index": index})
    if script.error is not None:
        return [*events, {"event_type": "error", "error": script.error}]
    end = {**about, "status": script.status} | ({} if script.usage is None else {"usage": script.usage})
    return [*events, {"event_type": "interaction.completed", "interaction": end}]


async def _go_on(writer: asyncio.StreamWriter, events: list[dict[str, Any]], last: str, fault: Fault | None) -> None:
    places = [event["event_id"] for event in events]
    if last and last not in places:
        await reply(writer, 400)
    else:
        await _tell(writer, events[places.index(last) + 1 if last else 0 :], fault)


async def _tell(writer: asyncio.StreamWriter, events: list[dict[str, Any]], fault: Fault | None) -> None:
    await stream(writer, [*(frame(event, event["event_type"]) for event in events), frame("[DONE]", "done")], fault)
