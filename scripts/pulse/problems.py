"""How the command ends when something is wrong: a problem (RFC 9457) on stderr, and an exit code.

0    done
1    refused, failed, expired, or nobody answers
2    the command line is wrong (click's own)
3    the job was cancelled, or the batch is over and not all of its lines succeeded
130  left with Ctrl-C; the jobs go on
"""

import sys
from typing import ClassVar

import msgspec
from rich.console import Console
from rich.text import Text

from infra.errors import PulseError
from scripts.pulse.words import Language


class Problem(Exception):
    """Something that a person has to be told; `members` are those of the problem.

    `retry_after_s` is how soon to come back, 0 where nobody said it.
    """

    def __init__(self, members: dict[str, object], *, retry_after_s: float = 0.0) -> None:
        """Keep what was said."""
        super().__init__(members.get("detail"))
        self.members, self.retry_after_s = members, retry_after_s


class Ending(PulseError):
    """A way for the command itself to end; its text says everything."""

    exit_code: ClassVar[int] = 1


class StudioAway(Ending):
    """The studio does not answer at {url}. Start it with: make run"""

    ar = "الاستوديو لا يجيب في {url}. شغّله بالأمر: make run"


class NotAStudio(Ending):
    """What answers at {url} is not a Pulse studio."""

    ar = "ما يجيب في {url} ليس استوديو Pulse."


class StudioLost(Ending):
    """The studio at {url} has not answered for {seconds:.0f} s. The job goes on without you; go on with: {resume}"""

    ar = "لم يجب الاستوديو في {url} منذ {seconds:.0f} ثانية. المهمة مستمرة من دونك؛ تابعها بالأمر: {resume}"


class Interrupted(Ending):
    """The job goes on without you. Follow it: {resume} - or stop it: {cancel}"""

    ar = "المهمة مستمرة من دونك. تابعها بالأمر: {resume} أو أوقفها بالأمر: {cancel}"
    exit_code = 130


class EventsLost(Ending):
    """The studio at {url} has not answered for {seconds:.0f} s. Go on with: {resume}"""

    ar = "لم يجب الاستوديو في {url} منذ {seconds:.0f} ثانية. تابع بالأمر: {resume}"


class EventsLeft(Ending):
    """Go on from here with: {resume}"""

    ar = "تابع من هنا بالأمر: {resume}"
    exit_code = 130


class JobCanceled(Ending):
    """The job was cancelled."""

    ar = "أُلغيت المهمة."
    exit_code = 3


class JobExpired(Ending):
    """The job was not started in time. Nothing was charged."""

    ar = "لم تبدأ المهمة في الوقت المحدد، ولم يُحتسب شيء."


def members(error: PulseError | Problem, language: Language) -> dict[str, object]:
    """Return the problem that an error is, in the form that the API gives its own."""
    if isinstance(error, Problem):
        return error.members
    facts = {key: value for key, value in error.facts.items() if key not in error.hidden}
    title = error.code.replace("_", " ").capitalize()
    urn = f"urn:pulse:problem:{error.code}"
    return {"type": urn, "title": title, "code": error.code, "detail": error.text(language), **facts}


def exit_code(error: PulseError | Problem) -> int:
    """Return the exit code that an error ends the command with."""
    return error.exit_code if isinstance(error, Ending) else 1


def show(error: PulseError | Problem, language: Language, *, as_json: bool) -> None:
    """Tell a person, or a program, what is wrong."""
    told = members(error, language)
    if as_json:
        print(msgspec.json.encode(told, enc_hook=str).decode(), file=sys.stderr)
        return
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text(str(told.get("detail", "")), style="" if isinstance(error, Ending) else "red"))
    if not isinstance(error, Ending):
        where = [f"{name} {told[name]}" for name in ("code", "field") if told.get(name)]
        console.print(Text("  " + ", ".join(where), style="dim"))
