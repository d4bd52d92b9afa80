"""What headers say of waiting, in every form that vendors use."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from providers import headers
from providers.types import Limits


@pytest.mark.parametrize(
    ("given", "wish"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
        ({"retry-after": "Thu, 26 Nov 2026 12:00:30 GMT", "date": "Thu, 26 Nov 2026 12:00:00 GMT"}, 30.0),
        ({"retry-after": "Thu, 26 Nov 2026 12:00:00 GMT", "date": "Thu, 26 Nov 2026 12:00:30 GMT"}, 0.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "later"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_the_wish_is_read_in_every_form(given: dict[str, str], wish: float | None) -> None:
    assert headers.retry_after_s(given) == wish


def test_a_date_without_the_vendors_clock_is_read_by_ours() -> None:
    wish = headers.retry_after_s({"retry-after": format_datetime(datetime.now(UTC) + timedelta(seconds=40))})
    assert wish is not None
    assert 30 < wish <= 40


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("20ms", 0.02),
        ("1s", 1.0),
        ("1.5s", 1.5),
        ("6m0s", 360.0),
        ("1h2m3s", 3723.0),
        ("2d", 172_800.0),
        ("59", 59.0),
        ("", None),
        ("soon", None),
        ("1s later", None),
    ],
)
def test_what_is_left_is_read_as_openai_tells_it(reset: str, seconds: float | None) -> None:
    told = {
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": reset,
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-tokens": "6m0s",
    }
    assert headers.limits(told) == Limits(
        requests_left=59, requests_reset_s=seconds, tokens_left=149_984, tokens_reset_s=360.0
    )


def test_what_is_left_is_read_as_anthropic_tells_it() -> None:
    moment = datetime.now(UTC) + timedelta(seconds=60)
    told = {
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "anthropic-ratelimit-tokens-remaining": "80000",
        "anthropic-ratelimit-tokens-reset": "2020-01-01T00:00:00Z",
    }
    found = headers.limits(told)
    assert (found.requests_left, found.tokens_left, found.tokens_reset_s) == (0, 80_000, 0.0)
    assert found.requests_reset_s is not None
    assert 50 < found.requests_reset_s <= 60


@pytest.mark.parametrize("nonsense", ["many", "-1", "1e9", "٣", "9" * 400])
def test_nonsense_is_not_known(nonsense: str) -> None:
    assert headers.limits({"x-ratelimit-remaining-requests": nonsense}) == Limits()
    assert headers.limits({}) == Limits()
