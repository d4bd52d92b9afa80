"""`python -m scripts.check`: everything a change must pass, each step told with its time; the tests come last.

Half of the tests run beside the other half and all that comes before, since some compute and most wait for something;
what they say is shown at the end. Where arguments choose tests, those run alone.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from infra.settings import ROOT

_BIN = Path(sys.executable).parent
_STEPS = {
    "format": ["ruff", "format", "--check"],
    "lint": ["ruff", "check"],
    "types": ["pyright"],
    "import contracts": ["lint-imports", "--no-logo"],
    "models": ["python", "-m", "providers.lifecycle"],
}
_PYTEST = (sys.executable, "-m", "pytest")
_BESIDE = (
    *("tests/workers/scan", "tests/infra/fetch", "tests/simulation", "tests/workers/chat"),
    *("tests/api", "tests/scripts", "tests/providers"),
)
# So long tests that are broken off have for ending the servers that they have started.
_PATIENCE_S = 30.0


def main() -> None:
    """Run every step, whatever the others say, and exit non-zero if one failed. Arguments go to pytest."""
    # Started in the background of a script, this would be deaf to SIGINT, and so would all that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # pyright would ask the npm registry whether there is a newer one.
    environ = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    chosen = sys.argv[1:]
    with tempfile.TemporaryFile() as said:
        # Two that write down what failed last would write over each other.
        apart = None if chosen else _start("-p", "no:cacheprovider", *_BESIDE, environ=environ, output=said)
        with _ending(apart):
            failed = [name for name, command in _STEPS.items() if not _passes(name, command, environ)]
            print("tests:", flush=True)
            rest = _start(*(chosen or [f"--ignore={folder}" for folder in _BESIDE]), environ=environ)
            with _ending(rest):
                codes = [rest.wait()]
            if apart is not None:
                codes.append(apart.wait())
                print(f"tests of {' and '.join(_BESIDE)}:", flush=True)
                said.seek(0)
                shutil.copyfileobj(said, sys.stdout.buffer)
                sys.stdout.flush()
    if failed:
        sys.exit(f"failed before the tests: {', '.join(failed)}")
    sys.exit(next((abs(code) for code in codes if code), 0))  # negative: a signal ended it


def _start(*arguments: str, environ: Mapping[str, str], output: IO[bytes] | None = None) -> "subprocess.Popen[bytes]":
    """Start tests; those whose output is kept are out of reach of Ctrl-C, which is passed on to them once."""
    group = None if output is None else 0
    return subprocess.Popen(
        [*_PYTEST, *arguments], cwd=ROOT, env=environ, stdout=output, stderr=output, process_group=group
    )


@contextmanager
def _ending(tests: "subprocess.Popen[bytes] | None") -> Generator[None]:
    """Leave nothing running of tests that are broken off: they have a while to end what they have started."""
    try:
        yield
    except BaseException:
        if tests is not None and tests.poll() is None:
            if os.getpgid(tests.pid) != os.getpgid(0):
                tests.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                tests.wait(_PATIENCE_S)
            tests.kill()
            tests.wait()
        raise


def _passes(name: str, command: list[str], environ: dict[str, str]) -> bool:
    started_s = time.monotonic()
    done = subprocess.run(
        [str(_BIN / command[0]), *command[1:]],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    passed = done.returncode == 0
    print(f"{name}: {'ok' if passed else 'FAILED'} ({time.monotonic() - started_s:.1f} s)", flush=True)
    if not passed:
        print(done.stdout, flush=True)
    return passed


if __name__ == "__main__":
    main()
