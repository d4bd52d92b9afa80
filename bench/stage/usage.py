"""What the processes under measurement use, as the kernel counts it: CPU time and private memory."""

import os
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used, in all its threads."""
    fields = _fields(_PROC / str(pid))
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def cpu_of_family_s(pid: int) -> float:
    """Return the CPU seconds of a process, its children, and those of them that have ended."""
    used = 0
    for folder in _PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = _fields(folder)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended in this moment
        if int(folder.name) == pid:
            used += sum(map(int, fields[11:15]))
        elif int(fields[1]) == pid:
            used += int(fields[11]) + int(fields[12])
    return used / _TICKS_PER_S


def private_kib(pid: int) -> int:
    """Return the memory that is a process's own: what would be free again without it."""
    lines = (line.split() for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:])
    return sum(int(line[1]) for line in lines if line[0].startswith("Private_"))


def _fields(folder: Path) -> list[str]:
    """Return what `stat` says after the process's name: from its state, the third field of proc(5), on."""
    return (folder / "stat").read_text().rpartition(")")[2].split()
