"""Checks of the machine itself: Python, and what the documents, pictures and videos of later rooms need."""

import ctypes.util
import platform
import shutil
import subprocess
import sys
from importlib import util
from pathlib import Path

from scripts.pulse.doctor.finding import Finding, failed, ok, warning

_OLDEST_PYTHON = (3, 12)
_FONT_FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "/Library/Fonts",
    "/System/Library/Fonts",
)
_FONT_NAMES = ("arab", "naskh", "kufi", "amiri", "cairo", "tajawal", "almarai", "dejavusans.", "vazir", "geeza")


def check() -> list[Finding]:
    """Look at everything."""
    return [_python(), _font(), _fribidi(), _ffmpeg()]


def _python() -> Finding:
    if sys.version_info < _OLDEST_PYTHON:
        wanted = ".".join(map(str, _OLDEST_PYTHON))
        return failed("Python", platform.python_version(), f"install Python {wanted} or newer, then: make run")
    return ok("Python", platform.python_version())


def _font() -> Finding:
    font = _told_by_fontconfig() if shutil.which("fc-list") else _found_in_folders()
    if font:
        return ok("Arabic font", font)
    return warning("Arabic font", "none found", "documents will need one: apt install fonts-noto-core, for example")


def _told_by_fontconfig() -> str:
    told = subprocess.run(
        ["fc-list", ":lang=ar", "family"], capture_output=True, text=True, errors="replace", check=False
    )
    return next((line.split(",")[0].strip() for line in sorted(told.stdout.splitlines()) if line.strip()), "")


def _found_in_folders() -> str:
    files = (path for folder in _FONT_FOLDERS for path in Path(folder).expanduser().rglob("*.[ot]t[fc]"))
    return next((path.stem for path in files if any(name in path.name.lower() for name in _FONT_NAMES)), "")


def _fribidi() -> Finding:
    library = ctypes.util.find_library("fribidi")
    if library:
        return ok("libfribidi", library)
    return warning(
        "libfribidi",
        "not found",
        "pictures will need it for Arabic text: apt install libfribidi0, brew install fribidi",
    )


def _ffmpeg() -> Finding:
    path = shutil.which("ffmpeg")
    if path:
        return ok("ffmpeg", path)
    if util.find_spec("imageio_ffmpeg"):
        return ok("ffmpeg", "in the imageio-ffmpeg wheel")
    return warning("ffmpeg", "not found", "videos will need it: apt install ffmpeg, brew install ffmpeg")
