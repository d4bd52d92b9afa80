"""What runs in the child: a file is what it was declared to be, byte for byte and by its content, or it is refused."""

import hashlib
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Final

from workers.craft.wire import Say
from workers.media import CLIPS, OFFICE, PICTURES, TEXTS
from workers.scan import clips, documents, pictures, sniff, texts
from workers.scan.findings import Asked, Findings
from workers.scan.refusals import EncryptedFile, HashMismatch, SizeMismatch, TypeMismatch

_STAGES: Final = ("hash", "type", "content")
#: The name that the real document has in the envelope of an encrypted one (MS-OFFCRYPTO, section 2.3.4.3).
_ENVELOPE: Final = "EncryptedPackage".encode("utf-16-le")
#: What may be declared of what was found, besides itself: content alone does not tell these apart.
_ALSO: Final = {
    sniff.TEXT: TEXTS,
    sniff.UNKNOWN: TEXTS,
    sniff.UTF_16: TEXTS,
    "video/mp4": ("audio/mp4",),
    "application/mp4": ("video/mp4", "audio/mp4"),
}


def examine(asked: Asked, say: Say | None = None) -> Findings:
    """Judge a file and return what may be kept of it; raises a `FileRefused`.

    Nothing is opened but the file itself and what is made of it in `asked.folder`.
    """
    say = say or _unheard
    say(0, len(_STAGES), _STAGES[0])
    _check_bytes(asked)
    say(1, len(_STAGES), _STAGES[1])
    check_type(asked)
    say(2, len(_STAGES), _STAGES[2])
    findings = _judged(asked)
    say(len(_STAGES), len(_STAGES), _STAGES[2])
    return findings


def _unheard(_done: int, _total: int, _stage: str) -> None:
    pass


def _check_bytes(asked: Asked) -> None:
    size = asked.path.stat().st_size
    if size != asked.size_bytes:
        raise SizeMismatch(actual_bytes=size, declared_bytes=asked.size_bytes)
    with asked.path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != asked.sha256:
            raise HashMismatch


def check_type(asked: Asked) -> None:
    """Raise `TypeMismatch` where the content is not what was declared, and `EncryptedFile` where nobody can tell."""
    found = sniff.sniff(asked.path)
    if found == sniff.OLE and asked.media_type in OFFICE and _holds(asked.path, _ENVELOPE):
        raise EncryptedFile
    if asked.media_type != found and asked.media_type not in _ALSO.get(found, ()):
        raise TypeMismatch(declared=asked.media_type, found=found)


def _holds(path: Path, words: bytes) -> bool:
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        return data.find(words) >= 0


def _judged(asked: Asked) -> Findings:
    if asked.media_type in PICTURES:
        return pictures.examine(asked)
    if asked.media_type in CLIPS:
        return clips.examine(asked)
    if asked.media_type == "application/pdf":
        return documents.pdf(asked)
    if asked.media_type in OFFICE:
        return documents.office(asked)
    return texts.examine(asked)
