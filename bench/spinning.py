"""What `bench cancel` lets a child do; apart from the rest, so that the child loads nothing else."""

import itertools
import os

from workers.craft.wire import Say


def spin(say: Say) -> int:
    """Say which process it is, then compute for ever in C code that never lets go of the interpreter's lock."""
    say(0, os.getpid(), "spins")
    return sum(itertools.repeat(0))


def nothing(say: Say) -> None:
    """Say a word and return."""
    say(1, 1, "said")
