"""What is to be uploaded: files that can be, which is found out before anything is announced, and their SHA-256."""

import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from scripts.pulse.problems import Ending
from scripts.pulse.screen import harmless
from workers import media

CHUNK_BYTES = 256 * 1024


class NoSuchPath(Ending):
    """There is nothing at {path}."""

    ar = "لا شيء في المسار {path}"


class PathIsFolder(Ending):
    """{path} is a folder. Name the files in it."""

    ar = "المسار {path} مجلد. سمِّ الملفات التي فيه."


class PathIsNoFile(Ending):
    """{path} is no regular file. What a program writes can be given on stdin, as: -"""

    ar = "المسار {path} ليس ملفًا عاديًا. ما يكتبه برنامج يُمرَّر عبر الدخل القياسي بالرمز: -"


class PathUnreadable(Ending):
    """{path} cannot be read: {reason}"""

    ar = "تعذّرت قراءة {path}: {reason}"


class FileIsEmpty(Ending):
    """{path} is empty."""

    ar = "الملف {path} فارغ."


class TypeUnknown(Ending):
    """{path} does not end like a type that the studio takes: {endings}"""

    ar = "لا ينتهي اسم {path} بامتداد نوع يقبله الاستوديو: {endings}"


class FileChanged(Ending):
    """{path} changed while it was being uploaded. Nothing of it was kept; upload it again when it is at rest."""

    ar = "تغيّر {path} أثناء رفعه فلم يُحفظ منه شيء. ارفعه ثانيةً بعد أن يستقر."


class Source(Struct, frozen=True, kw_only=True):
    """A file to upload: what the person called it, where it lies, and what it is to be called."""

    given: str
    path: Path
    name: str
    media_type: str
    size_bytes: int

    @property
    def purpose(self) -> str:
        """What a file of this type is for where nobody said it."""
        return "clip" if self.media_type in media.CLIPS else "attachment"


class Measured(Struct, frozen=True, kw_only=True):
    """What is announced of a file; the SHA-256 is in hexadecimal."""

    size_bytes: int
    sha256: str


def look(path: Path, *, given: str = "", name: str = "") -> Source:
    """Return a file that can be uploaded; `given` and `name` are taken from its path where they are not given.

    Raises `NoSuchPath`, `PathIsFolder`, `PathIsNoFile`, `PathUnreadable`, `FileIsEmpty` or `TypeUnknown`.
    """
    given = given or readable(str(path))
    name = name or readable(path.name)
    size_bytes = inspect(path, given).st_size
    media_type = media.media_type_of(name)
    if media_type is None:
        endings = ", ".join(usual for usual, *_ in media.ENDINGS.values())
        raise TypeUnknown(path=name, endings=endings)
    return Source(given=given, path=path, name=name, media_type=media_type, size_bytes=size_bytes)


def inspect(path: Path, given: str) -> os.stat_result:
    """Return what is known of a file that can be read and has something in it.

    Raises `NoSuchPath`, `PathIsFolder`, `PathIsNoFile`, `PathUnreadable` or `FileIsEmpty`.
    """
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise PathIsFolder(path=given)
        if not stat.S_ISREG(found.st_mode):
            raise PathIsNoFile(path=given)
        path.open("rb").close()
    except (FileNotFoundError, NotADirectoryError):
        raise NoSuchPath(path=given) from None
    except OSError as error:
        raise PathUnreadable(path=given, reason=error.strerror) from error
    if not found.st_size:
        raise FileIsEmpty(path=given)
    return found


@contextmanager
def spooled(name: str) -> Generator[Source]:
    """Keep what comes on stdin in a file for the length of a block; raises what `look` does."""
    with stdin_kept() as path:
        yield look(path, given="-", name=readable(name))


@contextmanager
def stdin_kept() -> Generator[Path]:
    """Keep what comes on stdin in a file for the length of a block; raises `PathUnreadable`."""
    with tempfile.NamedTemporaryFile(prefix="pulse-") as file:
        try:
            shutil.copyfileobj(sys.stdin.buffer, file, CHUNK_BYTES)
            file.flush()
        except OSError as error:
            raise PathUnreadable(path="-", reason=error.strerror) from error
        yield Path(file.name)


def readable(path: str) -> str:
    """Return a path as it can be shown and sent: bytes of it that are no UTF-8 are marked."""
    return harmless(os.fsencode(path).decode("utf-8", "replace"))


def measure(source: Source, on_bytes: Callable[[int], None]) -> Measured:
    """Read a file once for its size and SHA-256. Raises `PathUnreadable`, or `FileIsEmpty` where it became so."""
    digest, size_bytes = hashlib.sha256(), 0
    try:
        with source.path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                size_bytes += len(chunk)
                on_bytes(len(chunk))
    except OSError as error:
        raise PathUnreadable(path=source.given, reason=error.strerror) from error
    if not size_bytes:
        raise FileIsEmpty(path=source.given)
    return Measured(size_bytes=size_bytes, sha256=digest.hexdigest())
