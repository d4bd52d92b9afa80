"""`python -m scripts.check`: everything a change must pass, each step told with its time; the tests come last."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from infra.settings import ROOT

_BIN = Path(sys.executable).parent
_STEPS = {
    "format": ["ruff", "format", "--check"],
    "lint": ["ruff", "check"],
    "types": ["pyright"],
    "import contracts": ["lint-imports", "--no-logo"],
}


def main() -> None:
    """Run every step, whatever the others say, and exit non-zero if one failed. Arguments go to pytest."""
    # Started in the background of a script, this would be deaf to SIGINT, and so would all that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # pyright would ask the npm registry whether there is a newer one.
    environ = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    failed = [name for name, command in _STEPS.items() if not _passes(name, command, environ)]
    print("tests:", flush=True)
    tests = subprocess.run([sys.executable, "-m", "pytest", *sys.argv[1:]], cwd=ROOT, env=environ, check=False)
    if failed:
        sys.exit(f"failed before the tests: {', '.join(failed)}")
    sys.exit(tests.returncode)


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
