"""The fall of the night flow at a repair, and how often a survey pays."""

from datetime import date, datetime

import numpy as np
import pytest

from gis import repairs, survey_economics

FIRST = date(2026, 3, 1)
STOP = datetime(2026, 3, 15, 11)  # noqa: DTZ001  (the local clock)


def nights(before: float, after: float, noise: float, days: int = 30) -> np.ndarray:  # type: ignore[type-arg]
    flows = np.full(days * 24, float(before))
    flows[14 * 24 + 11 :] = after
    return flows + np.random.default_rng(5).normal(0, noise, len(flows))


def test_a_clear_fall_is_verified() -> None:
    found = repairs.drop(FIRST, nights(10, 6, 0.2), STOP)
    assert found is not None
    assert found.m3h == pytest.approx(4, abs=0.3) and found.low_m3h < 4 < found.high_m3h
    assert found.verdict(None) == found.verdict(4.0) == "verified"
    assert (found.nights_before, found.nights_after) == (7, 7)


def test_the_limits_hold_nineteen_times_of_twenty() -> None:
    held = 0
    for seed in range(400):
        flows = np.full(720, 10.0)
        flows[14 * 24 + 11 :] = 7.0
        # a night's flow wanders as a whole
        flows += np.repeat(np.random.default_rng(seed).normal(0, 1.0, 30), 24)
        found = repairs.drop(FIRST, flows, STOP)
        assert found is not None
        held += found.low_m3h <= 3.0 <= found.high_m3h
    assert 0.92 <= held / 400 <= 0.99


def test_a_weekend_is_no_fall() -> None:
    """Nine weeks in which weekend nights lie 3 m³/h above others; the leak of 4 ends on a Thursday."""
    day = np.arange(9 * 7 + 4)
    # FIRST is a Sunday
    flows = np.repeat(10.0 + 3 * np.isin(day % 7, (0, 6)) + np.random.default_rng(3).normal(0, 0.3, len(day)), 24)
    stop = datetime(2026, 4, 30, 11)  # noqa: DTZ001  (the local clock)
    flows[(60 * 24 + 11) :] -= 4
    # Friday and the two nights of the weekend
    found = repairs.drop(FIRST, flows[: 64 * 24], stop)
    assert found is not None and found.nights_after == 3
    assert found.m3h == pytest.approx(4, abs=0.6) and found.low_m3h < 4 < found.high_m3h


def test_no_fall_is_not_seen_and_little_is_uncertain() -> None:
    none = repairs.drop(FIRST, nights(10, 10.5, 0.2), STOP)
    assert none is not None and none.verdict(None) == none.verdict(4.0) == "not_seen"
    little = repairs.drop(FIRST, nights(10, 9.8, 1.5), STOP)
    assert little is not None and little.verdict(None) == "uncertain" and little.verdict(40.0) == "not_seen"


def test_a_leak_of_two_nights_is_judged_by_those() -> None:
    flows = nights(6, 6, 0.2)
    flows[12 * 24 + 20 : 14 * 24 + 11] += 4
    without = repairs.drop(FIRST, flows, STOP)
    assert without is not None and without.m3h == pytest.approx(0, abs=0.5)
    found = repairs.drop(FIRST, flows, STOP, began_at=datetime(2026, 3, 13, 20))  # noqa: DTZ001
    assert found is not None and found.m3h == pytest.approx(4, abs=0.5)
    assert (found.nights_before, found.verdict(4.0)) == (2, "verified")
    # begun after the last night: no night tells, and the verdict stays careful
    none = repairs.drop(FIRST, flows, STOP, began_at=datetime(2026, 3, 15, 8))  # noqa: DTZ001
    assert none is not None and none.nights_before == 7


def test_few_nights_say_nothing() -> None:
    flows = nights(10, 6, 0.2)
    assert repairs.drop(FIRST, flows[: 16 * 24], STOP) is None
    assert repairs.drop(FIRST, flows, datetime(2026, 3, 2, 12)) is None  # noqa: DTZ001
    flows[15 * 24 :] = np.nan
    assert repairs.drop(FIRST, flows, STOP) is None
    assert repairs.drop(FIRST, np.array([]), STOP) is None


def test_a_survey_pays_the_more_often_the_faster_leakage_rises() -> None:
    # √(0.789 · (200 / 0.4) / 10) = 6.28 months
    found = survey_economics.plan(mains_km=50, cost_per_km=200, cost_per_m3=0.4, rise_m3_km_day_year=10)
    assert found is not None
    assert found.months == pytest.approx(6.281, abs=0.001)
    assert found.share_per_year == pytest.approx(12 / 6.281, abs=0.001)
    assert found.budget_per_year == pytest.approx(found.share_per_year * 50 * 200)
    assert found.unreported_m3_per_year == pytest.approx(found.budget_per_year / 0.4)
    faster = survey_economics.plan(mains_km=50, cost_per_km=200, cost_per_m3=0.4, rise_m3_km_day_year=40)
    assert faster is not None and faster.months == pytest.approx(found.months / 2)
    assert survey_economics.plan(mains_km=50, cost_per_km=200, cost_per_m3=0.4, rise_m3_km_day_year=0) is None
