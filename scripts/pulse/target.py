"""Where a download goes: a file that is whole and right when it appears, and beside it what has come so far."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from scripts.pulse.bar import Bar
from scripts.pulse.problems import Ending
from scripts.pulse.shelf import one_line
from scripts.pulse.sources import CHUNK_BYTES, readable
from scripts.pulse.transfer import DownloadDamaged, DownloadLost, Tally, download
from scripts.pulse.words import Words

# Linux allows 255 bytes, and `.part` is added.
_LONGEST_NAME_BYTES = 240


class PathTaken(Ending):
    """{path} is there already. Name another with -o, or say --force to write over it."""

    ar = "الملف {path} موجود. اختر غيره بالخيار ‎-o أو استعمل ‎--force للكتابة فوقه."


class PathUnwritable(Ending):
    """{path} cannot be written: {reason}"""

    ar = "تعذّرت الكتابة في {path}: {reason}"


class DownloadStopped(Ending):
    """What came so far is kept in {part}. The same command goes on from there."""

    ar = "ما نُزّل محفوظ في {part}. الأمر نفسه يتابع من هناك."
    exit_code = 130


class DownloadBroken(Ending):
    """The connection broke off too often. What came so far is kept in {part}; the same command goes on from there."""

    ar = "انقطع الاتصال مرات كثيرة. ما نُزّل محفوظ في {part}، والأمر نفسه يتابع من هناك."


class Wanted(Struct, frozen=True, kw_only=True):
    """What is to be downloaded. Of a small picture of a file, neither size nor SHA-256 is known beforehand."""

    name: str
    link: Callable[[], str]
    size_bytes: int | None
    sha256: str | None


def safe_name(told: str, otherwise: str) -> str:
    """Return the file name that may be made of what a server calls a file: no folder, no hidden file, not too long."""
    name = one_line(told.replace("\\", "/").rsplit("/", 1)[-1]).lstrip(". ") or otherwise
    stem, dot, ending = name.rpartition(".") if "." in name[-16:] else (name, "", "")
    room = _LONGEST_NAME_BYTES - len(f"{dot}{ending}".encode())
    return stem.encode()[:room].decode(errors="ignore") + dot + ending


def choose(output: str | None, name: str, *, force: bool) -> Path:
    """Return the path to write: `output`, or `name` in it where it is a folder. Raises `PathTaken`."""
    path = Path(output) if output else Path(name)
    if output and (path.is_dir() or output.endswith(os.sep)):
        path /= name
    refuse_taken(path, force=force)
    return path


def save(wanted: Wanted, path: Path, words: Words, bar: Bar, *, force: bool) -> int:
    """Download into `path`, going on with what an earlier try left beside it; returns the size in bytes.

    Raises `DownloadDamaged`, `PathTaken`, `PathUnwritable`, what `transfer.download` raises, and where something came:
    `DownloadBroken`, or `DownloadStopped` for a Ctrl-C.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        # Whoever else writes in this folder could have laid a link there.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(part, flags, 0o666), "r+b") as file:
            try:
                size_bytes = _fill(file, wanted, words, bar)
                file.flush()
                os.fsync(file.fileno())
            except DownloadDamaged:
                file.truncate(0)
                raise
            finally:
                file.flush()
                if not os.fstat(file.fileno()).st_size:
                    part.unlink(missing_ok=True)
        refuse_taken(path, force=force)
        part.replace(path)
    except DownloadLost:
        if not part.exists():
            raise
        raise DownloadBroken(part=readable(str(part))) from None
    except KeyboardInterrupt:
        if not part.exists():
            raise
        raise DownloadStopped(part=readable(str(part))) from None
    except OSError as error:
        raise PathUnwritable(path=readable(str(error.filename or path)), reason=error.strerror) from error
    return size_bytes


def pour(wanted: Wanted, out: BinaryIO, words: Words, bar: Bar) -> int:
    """Download into a stream and return the size; raises `DownloadDamaged` at the end where it was not the file."""
    try:
        size_bytes = _download(out, wanted, Tally(), words, bar)
        out.flush()
    except BrokenPipeError:  # the reader has enough
        raise
    except OSError as error:
        raise PathUnwritable(path="-", reason=error.strerror) from error
    return size_bytes


def _fill(file: BinaryIO, wanted: Wanted, words: Words, bar: Bar) -> int:
    tally = _left(file, wanted, words, bar)
    if tally.size_bytes:
        with contextlib.suppress(DownloadDamaged):
            return _download(file, wanted, tally, words, bar)
        # What was left is the beginning of something else.
        file.seek(0)
        file.truncate()
    return _download(file, wanted, Tally(), words, bar)


def _left(file: BinaryIO, wanted: Wanted, words: Words, bar: Bar) -> Tally:
    """Read what an earlier try left; what nothing vouches for, or is too long, is thrown away."""
    tally, there = Tally(), os.fstat(file.fileno()).st_size
    if wanted.sha256 is None or wanted.size_bytes is None or there > wanted.size_bytes:
        file.truncate(0)
        return tally
    bar.begin(words.reads, wanted.name, there)
    while chunk := file.read(CHUNK_BYTES):
        tally.add(chunk)
        bar.advance(len(chunk))
    return tally


def _download(out: BinaryIO, wanted: Wanted, tally: Tally, words: Words, bar: Bar) -> int:
    """Write what is missing in `tally` and return the size of it all; raises what `transfer.download` does."""
    bar.begin(words.fetches, wanted.name, wanted.size_bytes, done_bytes=tally.size_bytes)
    download(
        wanted.link,
        out.write,
        tally,
        wanted.size_bytes,
        language=words.language,
        on_bytes=bar.advance,
        on_lost=bar.lost,
    )
    if wanted.sha256 and tally.sha256 != wanted.sha256:
        raise DownloadDamaged
    return tally.size_bytes


def refuse_taken(path: Path, *, force: bool) -> None:
    """Raise `PathTaken` where something is there that may not be written over."""
    if not force and os.path.lexists(path):
        raise PathTaken(path=readable(str(path)))
