"""When a failed delivery is tried again."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.outbox.schedule import DELAYS, TRIES, next_delay, retry_after_s

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def test_the_schedule_is_the_published_one():
    assert DELAYS == (5, 30, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
    assert TRIES == 11
    assert [next_delay(n, retry_after=None, chance=0.5) for n in range(1, 11)] == list(DELAYS)
    assert next_delay(11, retry_after=None, chance=0.5) is None
    assert next_delay(12, retry_after=10, chance=0.5) is None


@given(st.integers(1, 10), st.floats(0, 1, exclude_max=True))
def test_delays_spread_over_twenty_percent(tries, chance):
    delay = next_delay(tries, retry_after=None, chance=chance)
    assert DELAYS[tries - 1] * 0.799999 <= delay <= DELAYS[tries - 1] * 1.200001


def test_retry_after_only_makes_it_later():
    assert next_delay(1, retry_after=7, chance=0.9) == 7
    assert next_delay(1, retry_after=1, chance=0.0) == 4.0
    assert next_delay(10, retry_after=60, chance=0.5) == 86400


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None), ("7", 7.0), (" 7 ", 7.0), ("0", 0.0), ("86401", 86400.0), ("999999999", 86400.0), ("-1", None),
        ("1.5", None), ("soon", None), ("", None), ("７", None), ("9" * 50, None),
        ("Mon, 05 Jan 2026 12:01:00 GMT", 60.0), ("Mon, 05 Jan 2026 11:00:00 GMT", 0.0),
        ("Tue, 05 Jan 2027 12:00:00 GMT", 86400.0), ("Mon, 99 Jan 2026 12:00:00 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date_and_at_most_a_day(header, seconds):
    assert retry_after_s(header, NOW) == seconds
