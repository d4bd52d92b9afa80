"""Decides when the studio is ready, and says once how to use it."""

import http.client
import json
import shlex
import threading
import time

from msgspec import Struct
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from infra.settings import Settings

_LOOK_EVERY_S = 0.05
_PATIENCE_S = 20.0
_QUESTION = "Tell me a short story about the sea"


class Address(Struct, frozen=True):
    """Where something answers, as a client on this machine reaches it, and how it says that it is ready."""

    name: str
    host: str
    port: int
    path: str

    @property
    def ready(self) -> bool:
        """Ask it."""
        line = http.client.HTTPConnection(self.host, self.port, timeout=2)
        try:
            line.request("GET", self.path)
            return line.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            line.close()


def reachable(host: str) -> str:
    """Return an address of this machine to call when the API listens on `host`, which may mean all of them."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared with, not bound to


def url(settings: Settings) -> str:
    """Return the API's address on this machine."""
    host = reachable(settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def greet_when_ready(settings: Settings, key: str, started_s: float) -> None:
    """Wait in a thread of its own until everything answers, then print the block. Call it after the last fork."""
    waited_for = [Address("the API", reachable(settings.host), settings.port, "/readyz")]
    if not settings.cloud:
        waited_for.append(Address("the local model", "127.0.0.1", settings.local_port, "/health"))
    threading.Thread(target=_greet, args=(waited_for, settings, key, started_s), daemon=True).start()


def _greet(waited_for: list[Address], settings: Settings, key: str, started_s: float) -> None:
    console = Console(highlight=False, soft_wrap=True)
    complain_at_s = time.monotonic() + _PATIENCE_S
    for address in waited_for:
        while not address.ready:
            if time.monotonic() > complain_at_s:
                console.print(f"still waiting for {address.name}: see its lines above", style="yellow")
                complain_at_s += _PATIENCE_S
            time.sleep(_LOOK_EVERY_S)
    with console.capture() as captured:
        _write(console, settings, key, time.monotonic() - started_s)
    console.file.write(captured.get())  # in one piece: the pools' lines come from another thread
    console.file.flush()


def _write(console: Console, settings: Settings, key: str, took_s: float) -> None:
    address = url(settings)
    job = {"kind": "chat", "input": {"messages": [{"role": "user", "content": _QUESTION}]}}
    curl = [
        "curl",
        f"{address}/v1/jobs",
        *("-H", f"Authorization: Bearer {key}"),
        *("-H", "Content-Type: application/json"),
        *("-d", json.dumps(job)),
    ]
    facts = {
        "API": address,
        "Docs": f"{address}/docs",
        "API key": key,
        "Try": shlex.join([".venv/bin/pulse", "chat", _QUESTION]),
        "or": shlex.join(curl),
        "Data": f"{settings.folder} (kept when the studio stops)",
        "Stop": "Ctrl-C",
    }
    console.print()
    console.print(Rule(f"Pulse AI Studio is ready ({took_s:.1f} s)", style="green"))
    for name, fact in facts.items():
        console.print(Text.assemble((f"{name:>9}  ", "bold"), fact))
    console.print(Rule(style="green"))
