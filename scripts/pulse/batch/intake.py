"""What is handed over: a file of lines or one JSON body, told apart, and streamed with the batch's options."""

import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import msgspec
from msgspec import UNSET, Struct, UnsetType

from scripts.pulse.problems import Ending
from scripts.pulse.sources import CHUNK_BYTES, PathUnreadable, inspect, readable, stdin_kept

STDIN = "-"
LINES, BODY = "application/jsonl", "application/json"
_LINE_ENDINGS = (".jsonl", ".ndjson", ".jsonlines")
# A member that only a line, or only a body, begins with; in a string its quotes would be escaped.
_TELLING = re.compile(rb'"(custom_id|requests|input_file_id)"\s*:')
_OPENS = re.compile(rb"(?:\xef\xbb\xbf)?\s*\{")
_CLOSES = re.compile(rb"\}\s*\Z")
_TAIL_BYTES = 4096


class InputChanged(Ending):
    """{path} changed while it was being handed over. Do it again when it is at rest."""

    ar = "تغيّر {path} أثناء تسليمه. سلّمه ثانيةً بعد أن يستقر."


class Options(Struct, frozen=True, kw_only=True):
    """What a batch is asked to be, by the API's names; what is unset, the studio decides."""

    mode: str | UnsetType = UNSET
    completion_window: str | UnsetType = UNSET
    metadata: Mapping[str, str] | UnsetType = UNSET
    webhook: str | UnsetType = UNSET

    def given(self) -> dict[str, str | Mapping[str, str]]:
        """Return those that are set."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value is not UNSET}


class Intake(Struct, frozen=True, kw_only=True):
    """A file to hand over. Options of a body go into it, after its first `closes_at` bytes; those of lines go beside.

    A body that does not close is handed over as it is: the studio says what is wrong with it.
    """

    given: str
    path: Path
    size_bytes: int
    modified_ns: int
    media_type: str
    closes_at: int | None

    def query(self, options: Options) -> str:
        """Return the options as a query where they stand beside the bytes."""
        if self.media_type != LINES:
            return ""
        members: dict[str, str] = {}
        for name, value in options.given().items():
            members[name] = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        return f"?{urlencode(members, errors='replace')}" if members else ""


@contextmanager
def opened(given: str) -> Generator[Intake]:
    """Find a file, or keep what comes on stdin, for the length of a block; raises what `inspect` does."""
    if given == STDIN:
        with stdin_kept() as path:
            yield _look(path, given)
    else:
        yield _look(Path(given), readable(given))


def _look(path: Path, given: str) -> Intake:
    found = inspect(path, given)
    with path.open("rb") as file:
        head = file.read(CHUNK_BYTES)
        file.seek(max(found.st_size - _TAIL_BYTES, 0))
        closes = _CLOSES.search(tail := file.read(_TAIL_BYTES))
    is_body = bool(_OPENS.match(head)) and _is_body(path.name.lower() if given != STDIN else "", head)
    return Intake(
        given=given,
        path=path,
        size_bytes=found.st_size,
        modified_ns=found.st_mtime_ns,
        media_type=BODY if is_body else LINES,
        closes_at=found.st_size - len(tail) + closes.start() if closes and is_body else None,
    )


def _is_body(name: str, head: bytes) -> bool:
    if name.endswith(_LINE_ENDINGS):
        return False
    telling = _TELLING.search(head)
    return telling[1] != b"custom_id" if telling else name.endswith(".json")


class Stream:
    """One sending of an intake."""

    def __init__(self, intake: Intake, options: Options, on_bytes: Callable[[int], None]) -> None:
        """Prepare; the file is opened only when it is sent. `on_bytes` hears of each chunk of it."""
        self._intake, self._on_bytes = intake, on_bytes
        members = msgspec.json.encode(options.given())[1:-1] if intake.closes_at is not None else b""
        # After the body's own, so that it is these that hold.
        self._inserted = b"," + members if members else b""
        self.headers = {
            "Content-Type": intake.media_type,
            "Content-Length": str(intake.size_bytes + len(self._inserted)),
        }

    def __iter__(self) -> Iterator[bytes]:
        """Yield it; raises `InputChanged` before the end of a file that is not as it was, and `PathUnreadable`."""
        sent_bytes = 0
        for chunk in self._unchanged():
            closes = -1 if self._intake.closes_at is None else self._intake.closes_at - sent_bytes
            yield chunk[:closes] + self._inserted + chunk[closes:] if 0 <= closes < len(chunk) else chunk
            sent_bytes += len(chunk)
            self._on_bytes(len(chunk))

    def _unchanged(self) -> Iterator[bytes]:
        """Yield the file's bytes, the last of them only where it is as it was: no wrong input is complete."""
        intake, read_bytes = self._intake, 0
        try:
            with intake.path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    read_bytes += len(chunk)
                    if read_bytes >= intake.size_bytes and self._has_changed():
                        raise InputChanged(path=intake.given)
                    yield chunk
        except OSError as error:
            raise PathUnreadable(path=intake.given, reason=error.strerror) from error
        if read_bytes != intake.size_bytes:
            raise InputChanged(path=intake.given)

    def _has_changed(self) -> bool:
        now = self._intake.path.stat()
        return (now.st_size, now.st_mtime_ns) != (self._intake.size_bytes, self._intake.modified_ns)
