"""Every hostile file of the tests by name, written where it is wanted: pictures, texts, lies, clips and documents."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from tests.support import corpus, corpus_clips, corpus_documents
from tests.support.corpus_clips import Canary


class Written(Struct, frozen=True, kw_only=True):
    """A file that has to be refused: where it lies, what is declared of it, and the code of its refusal."""

    name: str
    path: Path
    media_type: str
    size_bytes: int
    sha256: str
    code: str

    @property
    def is_sent(self) -> bool:
        """Whether it gets as far as a scan: no store takes what is empty, or lies about its size or hash."""
        data = self.path.read_bytes()
        return len(data) == self.size_bytes > 0 and hashlib.sha256(data).hexdigest() == self.sha256


NAMES = (*corpus.HOSTILE, *corpus_clips.HOSTILE, *corpus_documents.HOSTILE)


def write(names: tuple[str, ...], folder: Path, canary: Canary) -> Iterator[Written]:
    """Write these files, one after another, each into a folder of its own in `folder`."""
    for number, name in enumerate(names):
        place = folder / str(number)
        place.mkdir()
        yield _written(name, place, canary)


def _written(name: str, folder: Path, canary: Canary) -> Written:
    path, size_bytes, sha256 = folder / "upload", None, None
    if name in corpus.HOSTILE:
        hostile = corpus.HOSTILE[name]
        path.write_bytes(hostile.make())
        size_bytes, sha256 = hostile.size_bytes, hostile.sha256
    else:
        hostile = corpus_clips.HOSTILE.get(name) or corpus_documents.HOSTILE[name]
        hostile.write(path, canary)
    data = path.read_bytes()
    return Written(
        name=name,
        path=path,
        media_type=hostile.media_type,
        size_bytes=len(data) if size_bytes is None else size_bytes,
        sha256=sha256 or hashlib.sha256(data).hexdigest(),
        code=hostile.refusal.code,
    )
