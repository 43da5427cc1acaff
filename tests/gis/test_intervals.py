"""Meters that report interval volumes: gaps and frozen signals."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from gis.intervals import interval_volume

START = datetime(2026, 1, 1, tzinfo=UTC)
ZONE = ZoneInfo("UTC")


def hourly(days: int) -> list[tuple[datetime, float]]:
    """10.5 m³ in each hour of the day, 2.25 at night."""
    hours = (START + timedelta(hours=n) for n in range(24 * days))
    return [(at + timedelta(hours=1), (2.25 if at.hour < 6 else 10.5) + at.hour / 100) for at in hours]


DAY = sum(m3 for _, m3 in hourly(1))


def test_complete() -> None:
    found = interval_volume(hourly(10), START + timedelta(days=2), START + timedelta(days=5), ZONE)
    assert found.measured_m3 == pytest.approx(3 * DAY)
    assert (found.filled_m3, found.covered_s) == (0, 3 * 86400)
    assert (found.first_at, found.last_at) == (START + timedelta(days=2), START + timedelta(days=5))


def test_a_gap_is_filled_by_the_hour_of_day() -> None:
    readings = [
        (at, m3) for at, m3 in hourly(10) if not START + timedelta(days=3, hours=2) < at <= START + timedelta(days=4)
    ]
    found = interval_volume(readings, START, START + timedelta(days=10), ZONE)
    assert found.measured_m3 + found.filled_m3 == pytest.approx(10 * DAY)
    assert found.covered_s == (240 - 22) * 3600


def test_a_frozen_signal_is_a_gap() -> None:
    readings = hourly(10)
    for n in range(60, 70):
        readings[n] = (readings[n][0], readings[60][1])
    found = interval_volume(readings, START, START + timedelta(days=10), ZONE)
    assert found.measured_m3 + found.filled_m3 == pytest.approx(10 * DAY)
    assert found.covered_s < 240 * 3600


def test_coarse_steps_are_not_frozen() -> None:
    readings = [(at, float(m3 > 5)) for at, m3 in hourly(10)]
    found = interval_volume(readings, START, START + timedelta(days=10), ZONE)
    assert (found.measured_m3, found.filled_m3) == (180, 0)


def test_a_stopped_pump_is_no_fault() -> None:
    readings = [(at, 0.0) for at, _ in hourly(2)]
    found = interval_volume(readings, START, START + timedelta(days=2), ZONE)
    assert (found.measured_m3, found.filled_m3, found.covered_s) == (0, 0, 2 * 86400)


def test_clocks_that_drift() -> None:
    readings = [(at + timedelta(seconds=at.hour), m3) for at, m3 in hourly(3)]
    found = interval_volume(readings, START, START + timedelta(days=3, minutes=1), ZONE)
    assert found.filled_m3 == 0


@pytest.mark.parametrize("readings", [[], hourly(1)[:1]])
def test_nothing_to_go_by(readings: list[tuple[datetime, float]]) -> None:
    found = interval_volume(readings, START, START + timedelta(days=3), ZONE)
    assert (found.measured_m3, found.first_at) == (0, None)
