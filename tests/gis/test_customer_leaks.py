"""Leaks behind the meter: what names one, what does not, and how estimates and gaps count."""

import math
from datetime import datetime, timedelta

import numpy as np
import pytest

from gis.customer_leaks import find_customer_leaks

FIRST = datetime.fromisoformat("2026-03-02")


def household(days: int, seed: int = 1) -> np.ndarray:
    """Litres of a house: nothing at night and in a third of the other hours."""
    random = np.random.default_rng(seed)
    hours = np.arange(days * 24) % 24
    awake = (hours >= 6) & (hours < 23) & (random.random(days * 24) > 0.33)
    return np.where(awake, np.floor(random.gamma(1.5, 20, days * 24)) + 1, 0.0)


def test_a_running_toilet_is_named_with_start_rate_and_end() -> None:
    litres = household(20)
    litres[100:300] += 7
    (leak,) = find_customer_leaks(FIRST, litres)
    # the run begins where the last dry hour before the leak ends
    assert FIRST + timedelta(hours=90) <= leak.started_at <= FIRST + timedelta(hours=100)
    assert timedelta(hours=24) <= leak.detected_at - leak.started_at <= timedelta(hours=30)
    assert leak.ended_at is not None
    assert FIRST + timedelta(hours=300) <= leak.ended_at <= FIRST + timedelta(hours=312)
    assert leak.litres_per_hour == pytest.approx(7)
    assert not leak.open_ended


def test_a_house_without_leak_and_an_empty_house_are_not_named() -> None:
    assert find_customer_leaks(FIRST, household(60)) == []
    assert find_customer_leaks(FIRST, np.zeros(500)) == []
    assert find_customer_leaks(FIRST, []) == []
    assert find_customer_leaks(FIRST, [math.nan] * 100) == []


def test_a_leak_older_than_the_data_is_named_and_says_so() -> None:
    litres = household(10) + 4
    (leak,) = find_customer_leaks(FIRST, litres)
    assert leak.open_ended
    assert leak.ended_at is None
    assert leak.detected_at - leak.started_at < timedelta(days=4)


@pytest.mark.parametrize("seed", range(5))
def test_who_works_around_the_clock_is_not_named(seed: int) -> None:
    random = np.random.default_rng(seed)
    # a plant whose flow is steady for a day and another on the next; a hospital that varies by the hour
    plant = np.repeat(random.normal(500, 90, 60), 24).round()
    hospital = np.floor(random.gamma(16, 40, 60 * 24))
    assert find_customer_leaks(FIRST, plant) == []
    assert find_customer_leaks(FIRST, hospital) == []


def test_a_declared_user_of_all_hours_is_exempt() -> None:
    litres = household(20) + 7
    assert find_customer_leaks(FIRST, litres)
    assert find_customer_leaks(FIRST, litres, always_on=True) == []


def test_estimates_neither_start_nor_clear_a_leak() -> None:
    quiet = household(20)
    estimated = np.zeros(len(quiet), dtype=bool)
    # thirty estimated hours of steady flow in a house without a leak
    quiet[100:130], estimated[100:130] = 9, True
    assert find_customer_leaks(FIRST, quiet, estimated) == []

    leaking = household(20)
    leaking[100:300] += 7
    marks = np.zeros(len(leaking), dtype=bool)
    leaking[200:206], marks[200:206] = 0, True
    (leak,) = find_customer_leaks(FIRST, leaking, marks)
    assert leak.ended_at is not None
    assert leak.ended_at >= FIRST + timedelta(hours=300)


def test_missing_hours_do_not_end_a_leak_but_hours_are_needed_to_begin_one() -> None:
    litres = household(20)
    litres[100:400] += 5
    litres[150:152] = math.nan
    assert len(find_customer_leaks(FIRST, litres)) == 1
    litres[100:400:2] = math.nan
    assert find_customer_leaks(FIRST, litres) == []
