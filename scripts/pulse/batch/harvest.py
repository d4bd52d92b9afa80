"""The results of a batch brought home, each byte once: what there is, or all of it as it grows until the end."""

import io
import os
import time
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

import httpx2
from msgspec import Struct

from infra import backoff
from scripts.pulse.bar import Bar
from scripts.pulse.batch import calls
from scripts.pulse.batch.answers import Batch
from scripts.pulse.batch.calls import Part
from scripts.pulse.batch.watching import is_away
from scripts.pulse.client import Client
from scripts.pulse.problems import Ending, Problem, StudioAway
from scripts.pulse.screen import FAILURES_TO_TELL
from scripts.pulse.sources import CHUNK_BYTES, readable
from scripts.pulse.target import PathUnwritable, refuse_taken
from scripts.pulse.transfer import DownloadDamaged, after
from scripts.pulse.words import Words

#: So many failures in a row take about five minutes of waiting; whoever follows waits without an end.
TRIES = 60
_LONGEST_WAIT_S = 10.0
_POLL_S = 1.0
_NOTHING_THERE = 416


class ResultsLost(Ending):
    """The results could not be downloaded in {tries} tries. Go on with: {resume}"""

    ar = "تعذّر تنزيل النتائج في {tries} محاولة. تابع بالأمر: {resume}"


class ResultsLeft(Ending):
    """The results are not downloaded whole; the batch is not touched by that. Go on with: {resume}"""

    ar = "لم يكتمل تنزيل النتائج، ولا يمسّ ذلك الدفعة. تابع بالأمر: {resume}"
    exit_code = 130


class Wanted(Struct, frozen=True, kw_only=True):
    """What of a batch is to be downloaded, whether until it is over, and the command that goes on with it."""

    batch_id: UUID
    part: Part
    follow: bool
    resume: str

    def length(self, batch: Batch) -> int:
        """Return how long it is by now, in bytes."""
        return batch.results_bytes if self.part == "results" else batch.errors_bytes


def save(client: Client, wanted: Wanted, path: Path, words: Words, bar: Bar, *, force: bool) -> int:
    """Download into `path`, going on with what an earlier try left beside it; returns the size in bytes.

    Raises `PathTaken`, `PathUnwritable`, and what `pour` does.
    """
    # It grows at its end alone, so that what was left is the beginning of it: of this batch and part, by its name.
    part = path.with_name(f"{path.name}.{wanted.batch_id}.{wanted.part}.part")
    try:
        # Whoever else writes in this folder could have laid a link there.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(part, flags, 0o666), "r+b") as file:
            _fill(file, _Harvest(client, wanted, file, words, bar, had_bytes=_whole_lines(file)), part)
            size_bytes = file.tell()
        refuse_taken(path, force=force)
        part.replace(path)
    except OSError as error:
        raise PathUnwritable(path=readable(str(error.filename or path)), reason=error.strerror) from error
    return size_bytes


def pour(client: Client, wanted: Wanted, out: BinaryIO, words: Words, bar: Bar) -> int:
    """Write it into a stream as it comes, and return its size in bytes.

    Raises `Problem` for a refusal, `ResultsLost`, `ResultsLeft` for a Ctrl-C, and `DownloadDamaged` where there is
    more of it than the studio says.
    """
    try:
        return _Harvest(client, wanted, out, words, bar, had_bytes=0).fetch()
    except BrokenPipeError:  # the reader has enough
        raise
    except OSError as error:
        raise PathUnwritable(path="-", reason=error.strerror) from error


class _Harvest:
    """One download, whatever becomes of the connection."""

    def __init__(
        self, client: Client, wanted: Wanted, out: BinaryIO, words: Words, bar: Bar, *, had_bytes: int
    ) -> None:
        self.is_whole = False
        self._client, self._wanted, self._out, self._words, self._bar = client, wanted, out, words, bar
        self._path = f"{calls.path(wanted.batch_id)}/{wanted.part}"
        self._had_bytes, self._failures = had_bytes, 0

    def fetch(self) -> int:
        """Download it and return its size; raises what `pour` does."""
        try:
            self._fetch()
        except KeyboardInterrupt:
            raise ResultsLeft(resume=self._wanted.resume) from None
        self.is_whole = True
        return self._had_bytes

    def _fetch(self) -> None:
        wanted, until_bytes = self._wanted, None
        self._bar.begin(self._words.fetches, wanted.part, None, done_bytes=self._had_bytes)
        while True:
            batch = self._look()
            if until_bytes is None and (batch.is_over or not wanted.follow):
                until_bytes = wanted.length(batch)
                self._bar.begin(self._words.fetches, wanted.part, until_bytes, done_bytes=self._had_bytes)
            if until_bytes is not None and self._had_bytes > until_bytes:
                raise DownloadDamaged
            if until_bytes == self._had_bytes:
                return
            self._read(until_bytes)

    def _look(self) -> Batch:
        while True:
            try:
                return self._client.read(calls.get(self._client, self._wanted.batch_id, tries=1), Batch)
            except (StudioAway, Problem) as error:
                if not is_away(error):
                    raise
                self._wait(error.retry_after_s if isinstance(error, Problem) else 0.0)

    def _read(self, until_bytes: int | None) -> None:
        """Read on once: until `until_bytes`, or for as long as more comes."""
        had_bytes, follows = self._had_bytes, until_bytes is None
        try:
            self._take(until_bytes)
        except httpx2.ReadTimeout:
            silent = follows  # which is no failure: there was nothing to say
        except httpx2.TransportError:
            silent = False
        except Problem as problem:
            nothing_there = problem.members.get("status") == _NOTHING_THERE
            if not (nothing_there or is_away(problem)):
                raise
            silent = follows and nothing_there
        else:
            silent = follows
        if self._had_bytes > had_bytes:
            self._failures = 0
        elif silent:
            time.sleep(_POLL_S)
        else:
            self._wait()

    def _take(self, until_bytes: int | None) -> None:
        last = "" if until_bytes is None else until_bytes - 1
        with self._client.opened(
            "GET",
            self._path + ("?follow=true" if until_bytes is None else ""),
            headers={"Range": f"bytes={self._had_bytes}-{last}"},
        ) as response:
            for chunk in after(response, self._had_bytes):
                self._write(chunk if until_bytes is None else chunk[: until_bytes - self._had_bytes])

    def _write(self, chunk: bytes) -> None:
        self._out.write(chunk)
        self._out.flush()
        self._had_bytes += len(chunk)
        self._bar.advance(len(chunk))

    def _wait(self, at_least_s: float = 0.0) -> None:
        self._failures += 1
        if self._failures == TRIES and not self._wanted.follow:
            raise ResultsLost(tries=TRIES, resume=self._wanted.resume)
        if self._failures == FAILURES_TO_TELL:
            self._bar.lost()
        time.sleep(max(at_least_s, backoff.wait_s(self._failures, base_s=0.5, most_s=_LONGEST_WAIT_S)))


def _fill(file: BinaryIO, harvest: _Harvest, part: Path) -> None:
    try:
        size_bytes = harvest.fetch()
        file.flush()
        os.fsync(file.fileno())
        _check_length(file, size_bytes)
    except DownloadDamaged:
        file.truncate(0)
        raise
    finally:
        file.flush()
        if not harvest.is_whole and not os.fstat(file.fileno()).st_size:
            part.unlink(missing_ok=True)


def _check_length(file: BinaryIO, size_bytes: int) -> None:
    if os.fstat(file.fileno()).st_size != size_bytes:
        raise DownloadDamaged


def _whole_lines(file: BinaryIO) -> int:
    """Leave a file at the end of its last whole line, without what stands after it, and return its length.

    What a machine that lost its power leaves at the end of a file may be anything.
    """
    end = file.seek(0, io.SEEK_END)
    while end:
        start = max(end - CHUNK_BYTES, 0)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    file.truncate(end)
    return file.seek(end)
