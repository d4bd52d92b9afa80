"""Examines a file in a child as a worker does, and tells what that took. For the tests' corpus and for the bench."""

import resource
import sys
import time

from msgspec import Struct

from workers.scan.examine import examine
from workers.scan.findings import Asked
from workers.scan.refusals import FileRefused

_PER_MIB = 1024 if sys.platform == "linux" else 1024**2


class Examined(Struct, frozen=True, kw_only=True):
    """How an examination ended (`code` of the refusal; None: the file may be kept), and what it took in the child."""

    code: str | None
    en: str = ""
    ar: str = ""
    seconds: float
    peak_mib: float


def measured(asked: Asked) -> Examined:
    """Examine a file; to be called in a child of its own."""
    start = time.perf_counter()
    refused = None
    try:
        examine(asked)
    except FileRefused as refusal:
        refused = refusal
    return Examined(
        code=refused and refused.code,
        en=refused.text("en") if refused else "",
        ar=refused.text("ar") if refused else "",
        seconds=time.perf_counter() - start,
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _PER_MIB,
    )
