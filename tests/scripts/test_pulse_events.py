"""`pulse events` against a stand-in for the API, whose connections break and whose memory is short."""

import json
import re
import signal
from datetime import UTC, datetime
from typing import Any

import pytest

from scripts.pulse import feed
from scripts.pulse.client import Client
from scripts.pulse.place import Place
from scripts.pulse.problems import EventsLeft, EventsLost, Problem
from tests.scripts.conftest import Pulse, Start
from tests.scripts.stand_in import JOB_ID, KEY, PROBLEM, Break, Refusal, StandIn

OTHER_ID = "01a20000-0000-7000-8000-000000000002"
FAILED = {"type": "failed", "code": "answer_truncated", "en": "It broke off.", "ar": "انقطع الجواب."}


def of(job: str, **said: Any) -> dict[str, Any]:
    """Return what an account's stream says of a job."""
    return {"job": job, "kind": "chat", "batch": None, "event": said}


SAYS = [
    ("1764137105000-0", of(JOB_ID, type="started", attempt=1)),
    ("1764137105000-1", of(OTHER_ID, type="queued")),
    ("1764137106000-0", of(JOB_ID, type="progress", done=1, total=3, stage="page\x1b[2J")),
    ("1764137106000-1", of(OTHER_ID, type="warning", code="quota_80", detail={"meter": "chat_tokens"})),
    ("1764137107000-0", of(JOB_ID, type="succeeded", charged={"chat_tokens": 46})),
    ("1764137108000-0", of(OTHER_ID, **FAILED)),
]
# What the stand-in holds back.
HELD = ("1764137108000-0", {"type": "failed"})
# What ends the command, which goes on for ever otherwise.
END = Refusal(401, PROBLEM)


@pytest.fixture
def ending(api: StandIn) -> StandIn:
    """A stand-in that tells everything once, and then refuses."""
    api.says = SAYS
    api.stream_refusals = [None, END]
    return api


def test_a_person_sees_a_line_an_event(pulse: Pulse, ending: StandIn) -> None:
    done = pulse("events")
    at = [
        datetime.fromtimestamp(second, UTC).astimezone().strftime("%H:%M:%S")
        for second in range(1764137105, 1764137109)
    ]
    assert done.stdout.splitlines() == [
        f"{at[0]}  {JOB_ID}  chat  started",
        f"{at[0]}  {OTHER_ID}  chat  queued",
        f"{at[1]}  {JOB_ID}  chat  progress   1/3 page[2J",
        f"{at[1]}  {OTHER_ID}  chat  warning    quota_80 chat_tokens",
        f"{at[2]}  {JOB_ID}  chat  succeeded  46 chat tokens",
        f"{at[3]}  {OTHER_ID}  chat  failed     answer_truncated  It broke off.",
    ]
    assert (done.exit_code, ending.streams[0].path) == (1, "/v1/events")
    assert "code quota_exceeded" in done.stderr


def test_in_arabic_it_is_said_in_arabic(pulse: Pulse, ending: StandIn) -> None:
    ending.says = [("", {"type": "missed"}), *SAYS]
    done = pulse("events", LANG="ar_EG.UTF-8")
    assert "answer_truncated  انقطع الجواب.\n" in done.stdout
    assert "46 chat tokens" not in done.stdout
    assert done.stderr.startswith("بعض الأحداث التي سبقت لم تعد محفوظة\n")
    assert {call.headers["accept-language"] for call in ending.streams} == {"ar"}


def test_a_program_gets_every_event_as_it_came_with_its_id(pulse: Pulse, ending: StandIn) -> None:
    ending.says = [*SAYS[:2], ("", {"type": "missed"}), *SAYS[2:]]
    told = [json.loads(line) for line in pulse("events", "--json").stdout.splitlines()]
    assert told == [{**({"id": event_id} if event_id else {}), **said} for event_id, said in ending.says]


def test_what_is_left_out_of_the_events_stands_in_the_call(pulse: Pulse, ending: StandIn) -> None:
    pulse("events", "--kind", "a&b", "--after", "1764137106000-1")
    assert ending.streams[0].path == "/v1/events?kind=a%26b"
    assert ending.streams[0].headers["last-event-id"] == "1764137106000-1"


def test_all_that_is_kept_can_be_asked_for(pulse: Pulse, api: StandIn) -> None:
    api.says, api.breaks = SAYS, [Break(0), Break(2)]
    api.stream_refusals = [None, None, None, END]
    pulse("events", "--after", "0")
    assert {call.path for call in api.streams} == {"/v1/events?after=0"}
    seen = [call.headers.get("last-event-id") for call in api.streams]
    assert seen == [None, None, "1764137105000-1", "1764137108000-0"], "an id that is known wins"


@pytest.mark.parametrize("how", ["cut", "half a frame", "end"])
def test_a_broken_connection_loses_and_repeats_nothing(pulse: Pulse, api: StandIn, how: Any) -> None:
    api.says, api.breaks, api.stream_refusals = SAYS, [Break(2, how), Break(1, how)], [None, None, None, END]
    done = pulse("events", "--json")
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [event_id for event_id, _ in SAYS]
    seen = [call.headers.get("last-event-id") for call in api.streams]
    assert seen == [None, "1764137105000-1", "1764137106000-0", "1764137108000-0"]


def test_how_far_everything_was_told_is_where_it_goes_on(pulse: Pulse, api: StandIn) -> None:
    api.says, api.stream_refusals = [SAYS[0], ("1764137200000-0", {})], [None, END]
    done = pulse("events", "--json")
    assert len(done.stdout.splitlines()) == 1
    assert api.streams[1].headers["last-event-id"] == "1764137200000-0"


def test_a_connection_that_stays_lost_is_told_once(pulse: Pulse, api: StandIn) -> None:
    api.says, api.stream_refusals = SAYS[:1], [None, Refusal(502), Refusal(502), END]
    assert pulse("events").stderr.count("the connection is lost; trying again\n") == 1


def test_ctrl_c_says_how_to_go_on(start: Start, api: StandIn) -> None:
    api.says = [*SAYS[:5], HELD]
    api.hold.clear()
    process = start("events", "--kind", "chat")
    assert process.stdout is not None
    for _ in range(5):
        assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == 130
    # The last one that was seen; or where it was on the screen only just now, the one before.
    assert re.search(r"Go on from here with: pulse events --kind chat --after 176413710(7000-0|6000-1)\n$", stderr)


class Leaving:
    """A viewer who leaves when the second line is shown."""

    def __init__(self) -> None:
        """Begin."""
        self._seen = 0

    def show(self, line: feed.Line) -> None:  # noqa: ARG002
        """See one, or leave."""
        self._seen += 1
        if self._seen == 2:
            raise KeyboardInterrupt

    def lost(self, failures: int) -> None:
        """Say nothing."""


def test_what_was_missed_is_no_place_to_go_on_from(api: StandIn) -> None:
    api.says = [("", {"type": "missed"}), SAYS[1]]
    client = Client(Place(api.url, KEY), "en")
    with pytest.raises(EventsLeft, match=r"pulse events --after 1764137105000-0$"):
        feed.watch(client, None, "1764137105000-0", Leaving())
    client.close()


def test_a_studio_that_stays_away_is_given_up_with_the_way_back(api: StandIn) -> None:
    api.says, api.breaks = SAYS, [Break(1), *[Break(0)] * 100]
    client = Client(Place(api.url, KEY), "en")
    told = feed.follow(client, "chat", "", on_lost=lambda _: None, patience_s=0.3)
    assert next(told).id == "1764137105000-0"
    with pytest.raises(EventsLost, match="pulse events --kind chat --after 1764137105000-0"):
        next(told)
    client.close()


def test_a_studio_that_still_counts_the_stream_that_broke_is_asked_again(api: StandIn) -> None:
    api.says, api.breaks = SAYS, [Break(1)]
    too_many = Refusal(429, {**PROBLEM, "status": 429})
    api.stream_refusals = [None, too_many, None, END]
    client = Client(Place(api.url, KEY), "en")
    told: list[str] = []
    with pytest.raises(Problem) as refused:
        told.extend(line.id for line in feed.follow(client, None, "", on_lost=lambda _: None))
    assert told == [name for name, _ in SAYS]
    api.stream_refusals = [too_many]
    with pytest.raises(Problem) as refused:
        next(feed.follow(client, None, "", on_lost=lambda _: None))
    assert refused.value.members["status"] == 429, "whoever comes for the first time is told"
    client.close()


def test_what_is_no_studio_is_told(pulse: Pulse, api: StandIn) -> None:
    api.says = [("1764137105000-0", {"job": 7, "event": {"type": "queued"}})]
    done = pulse("events")
    assert (done.exit_code, "is not a Pulse studio" in done.stderr) == (1, True)
