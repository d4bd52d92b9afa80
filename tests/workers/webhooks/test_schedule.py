"""The waits between tries, without waiting for them."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest

from workers.webhooks import schedule

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
MANY = 300


def test_there_are_ten_tries_at_the_moments_that_the_standard_suggests() -> None:
    assert schedule.WAITS_S == (0, 5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
    for failures, usual in enumerate(schedule.WAITS_S[1:], start=1):
        waits = [schedule.wait_s(failures) or 0 for _ in range(MANY)]
        assert usual * 0.9 <= min(waits) < usual * 0.95, failures
        assert usual * 1.05 < max(waits) <= usual * 1.1, failures
    assert schedule.wait_s(len(schedule.WAITS_S)) is None


def test_pauses_grow_to_an_hour_and_do_not_end_together() -> None:
    longest = [max(schedule.pause_s(pauses, None) for _ in range(MANY)) for pauses in range(20)]
    assert 4.5 < longest[0] <= 5
    assert all(one < other for one, other in pairwise(longest[:10]))
    assert 3300 < longest[-1] <= 3600
    assert min(schedule.pause_s(0, None) for _ in range(MANY)) >= 2.5


def test_what_a_receiver_asks_for_is_done_and_never_nothing() -> None:
    assert [schedule.pause_s(9, asked) for asked in (0.0, 7.0, 86_400.0)] == [1.0, 7.0, 86_400.0]


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("9" * 400, 86_400),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(days=2), usegmt=True), 0),
        (format_datetime(NOW + timedelta(days=20), usegmt=True), 86_400),
        ("Thu, 26 Nov 2026 12:01:00", 60),
        (None, None),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("1.5", None),
        ("٣", None),
        ("Thu, 99 Nov 2026 12:01:00 GMT", None),
        ("Thu, 26 Nov 99999999999 12:01:00 GMT", None),
        ("Thu, 26 Nov 2026 12:01:00 +99999999999999", None),
    ],
)
def test_a_retry_after_is_seconds_or_a_date(header: str | None, told: float | None) -> None:
    assert schedule.retry_after_s(header, NOW) == told
