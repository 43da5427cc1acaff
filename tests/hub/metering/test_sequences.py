"""Counters: what is missing, what came late, what began again."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from hub.metering.sequences import MOST_MISSING, Counter

START = datetime(2026, 5, 4, tzinfo=UTC)


def counted(*numbers: int) -> Counter:
    """A counter that took the numbers, one a minute."""
    counter = Counter()
    for minute, number in enumerate(numbers):
        counter.take(number, START + timedelta(minutes=minute))
    return counter


def missing(counter: Counter) -> list[tuple[int, int]]:
    return sorted((gap.first, gap.last) for gap in counter.gaps if not gap.closed)


def test_a_leap_is_a_gap_and_late_numbers_fill_it() -> None:
    assert missing(counted(1, 2, 6)) == [(3, 5)]
    assert missing(counted(1, 2, 6, 4)) == [(3, 3), (5, 5)]
    assert missing(counted(1, 2, 6, 4, 3, 5)) == []
    assert counted(1, 2, 6, 4, 3, 5, 7).last == 7


def test_a_repeat_is_no_gap_and_no_restart() -> None:
    counter = counted(100, 100, 99, 101)
    assert (missing(counter), counter.last) == ([], 101)


def test_a_counter_that_begins_again_is_no_gap() -> None:
    assert missing(counted(65_534, 65_535, 0, 1)) == []
    assert missing(counted(500, 1, 2)) == []
    assert missing(counted(500, 1, 3)) == [(2, 2)]
    assert missing(counted(1, MOST_MISSING + 100)) == []


@given(st.sets(st.integers(0, 60), min_size=1), st.randoms(use_true_random=False))
def test_whatever_the_order_what_is_missing_is_what_never_came(numbers: set[int], random: object) -> None:
    order = sorted(numbers)
    # the first stays first: before it nothing is known to be missing
    rest = order[1:]
    random.shuffle(rest)  # type: ignore[attr-defined]
    counter = Counter()
    for number in [order[0], *rest]:
        # measured in the order counted, received in another
        counter.take(number, START + timedelta(minutes=number))
    found = {n for first, last in missing(counter) for n in range(first, last + 1)}
    assert found == set(range(order[0], order[-1] + 1)) - numbers
