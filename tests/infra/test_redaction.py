"""What is secret is found in texts however it got there, and nothing else is."""

import pytest

from infra.redaction import REDACTED, Redactor

KEY = "gsk_1a2B3c4D5e6F7g8H9i0J"
REDACTOR = Redactor([KEY, "short", 'p/+="w\\x-é-0123'])


@pytest.mark.parametrize(
    ("told", "left"),
    [
        (f"Bearer {KEY}", "Bearer *"),
        (f"https://x/v1?key={KEY}&a=1", "https://x/v1?key=*&a=1"),
        (f"{KEY}{KEY} {KEY}.", "** *."),
        (f"cut off: {KEY[:-5]}", "cut off: *"),
        ("masked: gsk_1a****9i0J!", "masked: *!"),
        ("masked: gsk_1a2B...9i0J", "masked: *"),
        ("Incorrect API key provided: sk-proj-********wxyz. You can", "Incorrect API key provided: *. You can"),
        ("sk-ant-api03-AAAA_BBBB-CCCC of somebody else", "* of somebody else"),
        ("key=AIzaSyA-1234567890abcdefghij", "key=*"),
        ("p%2F%2B%3D%22w%5Cx-%C3%A9-0123", "*"),
        (r'p/+=\\"w\\\\x-\\u00e9-0123'.replace("\\\\", "\\"), "*"),
        (repr('p/+="w\\x-é-0123'.encode()), "b'*'"),
    ],
)
def test_a_secret_is_taken_out(told: str, left: str) -> None:
    assert REDACTOR.text(told) == left.replace("*", REDACTED)


@pytest.mark.parametrize(
    "told",
    ["short", "risk-taking and ask-me-anything", "gsk_ is how they begin", "مرحبا بك", "scikit: sk-learn", "", "..."],
)
def test_nothing_else_is(told: str) -> None:
    assert REDACTOR.text(told) == told


def test_it_shows_no_secrets_itself_and_works_without_any() -> None:
    assert KEY not in repr(REDACTOR)
    assert Redactor([]).values({"en": "fine", "ar": "حسنًا"}) == {"en": "fine", "ar": "حسنًا"}
