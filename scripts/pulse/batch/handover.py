"""One batch from the file to the studio's answer: however often it has to be sent, it makes one batch."""

import itertools
import time

import httpx2

from infra import backoff
from scripts.pulse.bar import Bar
from scripts.pulse.batch import calls, wording
from scripts.pulse.batch.intake import Intake, Options, Stream
from scripts.pulse.client import Client, NotReady
from scripts.pulse.problems import Ending, Problem
from scripts.pulse.words import Words

#: So many failures take about five minutes of waiting.
TRIES = 60
_LONGEST_WAIT_S = 10.0
_IN_FLIGHT = "request_in_flight"
_TIMED_OUT, _TOO_MANY = 408, 429


class HandoverLost(Ending):
    """{path} was sent {tries} times without an answer. Send it again, still as one batch, with: {again}"""

    ar = "أُرسل {path} {tries} مرة بلا جواب. أرسله ثانيةً، ويبقى دفعة واحدة، بالأمر: {again}"


class HandoverLeft(Ending):
    """{path} was left before the studio had answered. Send it again, still as one batch, with: {again}"""

    ar = "تُرك {path} قبل أن يجيب الاستوديو. أرسله ثانيةً، ويبقى دفعة واحدة، بالأمر: {again}"
    exit_code = 130


def send(client: Client, intake: Intake, options: Options, key: str, again: str, words: Words, bar: Bar) -> bytes:
    """Hand a file over under an idempotency key and return the answer: a `Batch`.

    What gets no answer is sent again, and a sending that is under way still is waited for; `again` is the command that
    does the same under the same key. Raises `Problem` for a refusal, `HandoverLost`, `HandoverLeft` for a Ctrl-C, and
    what `Stream` does.
    """
    try:
        for failures in itertools.count(1):
            bar.begin(words.sends, intake.given, intake.size_bytes)
            try:
                return _send(client, intake, options, key, bar)
            except httpx2.TransportError as error:
                at_least_s = error.wait_s if isinstance(error, NotReady) else 0.0
            except Problem as problem:
                if not _passes(problem):
                    raise
                at_least_s = problem.retry_after_s
            bar.note(wording.of(words.language).busy.format(seconds=at_least_s) if at_least_s else words.lost)
            if failures == TRIES:
                raise HandoverLost(path=intake.given, tries=failures, again=again)
            time.sleep(max(at_least_s, backoff.wait_s(failures, base_s=0.5, most_s=_LONGEST_WAIT_S)))
    except KeyboardInterrupt:
        raise HandoverLeft(path=intake.given, again=again) from None
    raise AssertionError("the count has no end")


def _send(client: Client, intake: Intake, options: Options, key: str, bar: Bar) -> bytes:
    stream = Stream(intake, options, bar.advance)
    headers = {**stream.headers, "Idempotency-Key": key}
    with client.opened("POST", calls.ALL + intake.query(options), headers=headers, content=stream) as response:
        return response.read()


def _passes(problem: Problem) -> bool:
    """Return whether the same request may be taken later."""
    if problem.members.get("code") == _IN_FLIGHT:
        return True
    # Without a time to come back it is no matter of a moment: an account's batches are at their most.
    return problem.members.get("status") in {_TIMED_OUT, _TOO_MANY} and problem.retry_after_s > 0
