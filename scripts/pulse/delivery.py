"""One file from the announcement to the studio's decision: whatever breaks on the way, nothing is left half-done."""

import itertools
import time
from uuid import UUID

import httpx2
from msgspec import Struct

from scripts.pulse import sources, transfer
from scripts.pulse.answers import Announced, File
from scripts.pulse.bar import Bar
from scripts.pulse.client import Client
from scripts.pulse.problems import Ending, Problem, StudioAway
from scripts.pulse.sources import Measured, Source
from scripts.pulse.transfer import Spent
from scripts.pulse.words import Words

#: How long a decision is waited for before the command leaves.
PATIENCE_S = 600.0
_LONGEST_WAIT_S = 3.0
_UNDECIDED = frozenset({"uploading", "scanning"})
# The announcement has expired or gone; another one may do.
_VOID = frozenset({404, 410})


class UploadLost(Ending):
    """The upload of {path} broke off {tries} times. Nothing of it was kept; try again later."""

    ar = "انقطع رفع {path} {tries} مرات فلم يُحفظ منه شيء. حاول لاحقًا."


class UploadStopped(Ending):
    """{path} was not uploaded, and nothing of it was kept."""

    ar = "لم يُرفع {path} ولم يُحفظ منه شيء."
    exit_code = 130


class UploadLeft(Ending):
    """{path} was not uploaded, but the studio could not be told. Free its place with: {remove}"""

    ar = "لم يُرفع {path} ولكن تعذّر إبلاغ الاستوديو. حرّر مكانه بالأمر: {remove}"
    exit_code = 130


class CheckGoesOn(Ending):
    """{path} is uploaded and goes on being checked without you. See what becomes of it: {show}"""

    ar = "رُفع {path} ويستمر فحصه من دونك. اعرف ما يؤول إليه بالأمر: {show}"
    exit_code = 130


class NotDecidedYet(Ending):
    """{path} is uploaded, and after {seconds:.0f} s it is still not checked. See what becomes of it: {show}"""

    ar = "رُفع {path} ولم يكتمل فحصه بعد {seconds:.0f} ثانية. اعرف ما يؤول إليه بالأمر: {show}"


class Asked(Struct, frozen=True, kw_only=True):
    """Where a file goes and what it is for."""

    folder: str
    purpose: str | None


class Delivery:
    """Delivers one file."""

    def __init__(self, client: Client, source: Source, words: Words, bar: Bar) -> None:
        """Prepare; nothing is read or announced yet."""
        self._client, self._source, self._words, self._bar = client, source, words, bar
        #: What would be left half-done if the command ended now.
        self._announced: UUID | None = None

    def send(self, asked: Asked) -> bytes:
        """Upload the file and return it: a `File` that the studio has whole and checks now.

        Raises `Problem` where the studio or its store refuses it, `UploadLost`, what `sources.measure` and
        `transfer.upload` raise, and for a Ctrl-C `UploadStopped` or `UploadLeft`.
        """
        source = self._source
        try:
            self._bar.begin(self._words.reads, source.name, source.size_bytes)
            measured = sources.measure(source, self._bar.advance)
            return self._deliver(asked, measured)
        except KeyboardInterrupt:
            left = self._take_back()
            if left:
                raise UploadLeft(path=source.given, remove=f"pulse files rm {left}") from None
            raise UploadStopped(path=source.given) from None
        except Exception:
            self._take_back()
            raise

    def wait(self, file_id: UUID, *, patience_s: float = PATIENCE_S) -> bytes:
        """Return the file once it is decided: a `File`.

        Raises `Problem` where it has gone, `NotDecidedYet` after `patience_s` seconds, `CheckGoesOn` for a Ctrl-C.
        """
        show = f"pulse files show {file_id}"
        until_s = time.monotonic() + patience_s
        try:
            self._bar.begin(self._words.checks, self._source.name, None)
            for looks in itertools.count(1):
                try:
                    answer = self._client.file(file_id)
                    if self._client.read(answer, File).state not in _UNDECIDED:
                        return answer
                except StudioAway:
                    self._bar.lost()
                if time.monotonic() > until_s:
                    raise NotDecidedYet(path=self._source.given, seconds=patience_s, show=show)
                time.sleep(min(0.1 * 1.3 ** min(looks, 50), _LONGEST_WAIT_S))
        except KeyboardInterrupt:
            raise CheckGoesOn(path=self._source.given, show=show) from None
        raise AssertionError("the count has no end")

    def _deliver(self, asked: Asked, measured: Measured) -> bytes:
        announced = self._announce(asked, measured)
        spent: Spent | None = None
        for failures in itertools.count(1):
            self._bar.begin(self._words.sends, self._source.name, measured.size_bytes)
            had_spent, spent = spent, None
            try:
                transfer.upload(
                    announced.upload,
                    self._source,
                    measured,
                    language=self._words.language,
                    on_bytes=self._bar.advance,
                )
            except httpx2.TransportError:
                self._bar.lost()
            except Spent as error:
                spent = error
            # Also after a failure: the answer may be what was lost, and a form is used up by what it was good for.
            completed = self._complete(announced.file.id)
            if completed is not None:
                return completed
            if spent and had_spent:
                raise spent.problem
            if failures == transfer.TRIES:
                raise UploadLost(path=self._source.given, tries=failures)
            time.sleep(transfer.wait_s(failures))
            if spent:
                # First, so that the place which it holds is free for the next one.
                self._take_back()
            if self._announced is None:
                announced = self._announce(asked, measured)
        raise AssertionError("the count has no end")

    def _announce(self, asked: Asked, measured: Measured) -> Announced:
        request = {
            "name": self._source.name,
            "purpose": asked.purpose or self._source.purpose,
            "media_type": self._source.media_type,
            "size_bytes": measured.size_bytes,
            "sha256": measured.sha256,
            "folder": asked.folder,
        }
        announced = self._client.read(self._client.announce(request), Announced)
        self._announced = announced.file.id
        for code in announced.warnings:
            self._bar.note(self._words.warning.format(code=code, detail="").rstrip())
        return announced

    def _complete(self, file_id: UUID) -> bytes | None:
        """Return the file where all of it has arrived; after a None, it is announced still unless that is void."""
        try:
            completed = self._client.complete(file_id)
        except Problem as problem:
            if problem.members.get("status") in _VOID:
                self._announced = None
            elif problem.members.get("code") != "upload_missing":
                raise
            return None
        self._announced = None
        return None if self._client.read(completed, File).state == "expired" else completed

    def _take_back(self) -> UUID | None:
        """Delete what is announced and not uploaded; returns its id where that cannot be done."""
        file_id, self._announced = self._announced, None
        if file_id is not None:
            try:
                self._client.delete_file(file_id, tries=1)
            except StudioAway:
                return file_id
            except Problem as problem:
                return None if problem.members.get("status") == 404 else file_id
        return None
