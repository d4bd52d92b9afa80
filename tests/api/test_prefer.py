"""How long a call is held, and what is asked in plain words of time."""

import pytest

from api import durations, prefer


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        (["wait=10"], 10),
        (["WAIT = 10"], 10),
        (['wait="10"'], 10),
        (["respond-async, wait=10"], 10),
        (["respond-async", "wait=10"], 10),
        (["wait=10;foo=bar; baz"], 10),
        (['foo="a, wait=3", wait=10'], 10),
        (["wait=10, wait=20"], 10),
        ([",, wait=10"], 10),
        (["wait=0"], 0),
        (["wait=100"], 60),
        (["wait=999999999"], 60),
        (["respond-async"], None),
        (["return=minimal"], None),
        (["waiting=10"], None),
        (["wait"], None),
        (["wait="], None),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["wait=soon, wait=10"], None),
        (["wait=\u0661"], None),
        (["(wait=10"], None),
        (["wait=10 ; foo = bar ;  ; baz ,x"], 10),
        # Tried in all the ways in which it can be parted, this one would take for ever.
        (["a" + "; b   " * 1000 + '"', "wait=10"], 10),
        ([""], None),
        ([], None),
    ],
)
def test_a_preference_to_wait_is_read_as_its_standard_says_and_nonsense_is_ignored(
    lines: list[str], seconds: int | None
) -> None:
    assert prefer.wait_s(lines, 60) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("1h30m", 5_400),
        ("2d", 172_800),
        ("1d2h3m4s", 93_784),
        ("45", 45),
        (" 2H ", 7_200),
        ("0", 0),
        ("", None),
        ("m", None),
        ("30m1h", None),
        ("1.5h", None),
        ("-5m", None),
        ("5 m", None),
        ("\u0665m", None),
        ("5w", None),
        ("9999999999s", None),
    ],
)
def test_a_length_of_time_is_read_as_people_write_it(text: str, seconds: int | None) -> None:
    assert durations.seconds(text) == seconds
