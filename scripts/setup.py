"""Sets the project's environment up, from whatever Python runs this: the one file that even an old one can read.

`python3 scripts/setup.py [--dev]`. It hands over to scripts/environment.py under the best Python it finds: 3.12 or
newer if there is one, else 3.8 or newer, which can still fetch uv and, through it, a newer Python.
"""

# ruff: noqa: PLC0415, PTH100, PTH123, RUF005, S606, UP030, UP032

import os
import subprocess
import sys

NEEDED = (3, 12)
CAN_FETCH_UV = (3, 8)
CANDIDATES = ("python3.13", "python3.14", "python3.12", "python3", "python")


def main():
    found = sys.version_info[:2]
    if found < NEEDED:
        better = find()
        if better:
            os.execvp(better, [better, os.path.abspath(__file__)] + sys.argv[1:])
    if found < CAN_FETCH_UV:
        sys.exit(needed())
    import environment  # not at the top: an old Python could not read it

    environment.main(needed())


def find():
    """Return a command on PATH that really is a Python as new as needed: a shim may stand for nothing."""
    question = "import sys; sys.exit(sys.version_info < {0})".format(NEEDED)
    for command in (os.environ.get("PYTHON"),) + CANDIDATES:
        if command:
            try:
                with open(os.devnull, "w") as nowhere:
                    if subprocess.call([command, "-c", question], stdout=nowhere, stderr=nowhere) == 0:
                        return command
            except OSError:
                continue
    return None


def needed():
    """Return the one line that says what is missing."""
    return (
        "Pulse needs Python {0}.{1} or newer; this is {2}.{3}. Install one (python.org, your system's packages, or "
        "`uv python install 3.13`), then run the same command again."
    ).format(NEEDED[0], NEEDED[1], sys.version_info[0], sys.version_info[1])


if __name__ == "__main__":
    main()
