"""How much memory processes take for themselves at their most, above what they had."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self

_EVERY_S = 0.05
_PROC = Path("/proc")


def own_kib(pid: int) -> int:
    """Return what a process has for itself: no file, and no memory that it shares (PostgreSQL's buffers)."""
    for line in (_PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    return 0


def family(pid: int) -> list[int]:
    """Return a process and its children."""
    found = [pid]
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            try:
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended in this moment
            if int(parent) == pid:
                found.append(int(folder.name))
    return found


class Growth:
    """Watches processes and their children for the length of a block; one that is born meanwhile grows from nothing."""

    def __init__(self, processes: Mapping[str, int]) -> None:
        """Watch processes, by name."""
        self._processes = dict(processes)
        self._before: dict[int, int] = {}
        self._most = dict.fromkeys(processes, 0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        """Remember what they have now."""
        for pid in self._processes.values():
            self._before |= {each: own_kib(each) for each in family(pid)}
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def mib(self) -> dict[str, float]:
        """Return by name how much the one that grew most has grown, of the process and its children."""
        return {name: round(kib / 1024, 1) for name, kib in self._most.items()}

    def _watch(self) -> None:
        while not self._over.wait(_EVERY_S):
            for name, pid in self._processes.items():
                for each in family(pid):
                    try:
                        grown = own_kib(each) - self._before.get(each, 0)
                    except (FileNotFoundError, ProcessLookupError):
                        continue
                    self._most[name] = max(self._most[name], grown)
