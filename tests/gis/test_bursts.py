"""Leaks in a zone's inflow: found, sized, dated and closed; what is no leak is not named."""

import json
import math
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from gis.bursts import Detector, _middle_of_others, feed_together, local_hours
from gis.robust import least_variance_weights

FIRST = date(2026, 1, 5)
START = datetime.fromisoformat("2026-01-05")
DAYS = 120


def inflow(days: int = DAYS, seed: int = 5, noise: float = 0.03) -> np.ndarray:
    """Hourly m³/h of a zone of some 40: days and nights, livelier weekends, weather that scales all hours of a day."""
    random = np.random.default_rng(seed)
    hour, day = np.arange(days * 24) % 24, np.arange(days * 24) // 24
    shape = np.array([3, 2, 2, 2, 3, 6, 12, 15, 13, 12, 11, 11, 12, 12, 11, 10, 10, 11, 13, 15, 14, 11, 8, 5])[hour] / 9
    weekend = np.where(day % 7 >= 5, 1.1, 1.0)
    weather = np.repeat(1 + random.normal(0, 0.05, days), 24)
    return 30 * shape * weekend * weather * (1 + random.normal(0, noise, days * 24)) + 6


def events(flow: np.ndarray) -> list:
    return Detector(FIRST).feed(flow)


def at(day: float) -> datetime:
    return START + timedelta(days=day)


def test_quiet_years_raise_nothing() -> None:
    assert [found for seed in range(3) for found in events(inflow(365, seed))] == []


def test_a_burst_is_found_within_hours_sized_and_dated() -> None:
    flow = inflow()
    flow[80 * 24 + 14 :] += 12
    (event,) = events(flow)
    assert event.kind == "burst"
    assert event.detected_at - at(80 + 14 / 24) <= timedelta(hours=24)
    assert abs(event.onset_at - at(80 + 14 / 24)) <= timedelta(hours=6)
    assert event.low_m3h < 12 < event.high_m3h
    assert event.status == "open"


def test_a_growing_leak_is_one_event_with_updates() -> None:
    flow = inflow()
    growth = np.clip((np.arange(DAYS * 24) - 60 * 24) / (30 * 24), 0, 1) ** 2
    (event,) = events(flow + 20 * growth)
    assert at(63) < event.detected_at < at(80)
    assert event.updates > 0
    assert event.size_m3h == pytest.approx(20, rel=0.25)


def test_a_repair_closes_the_event_and_the_next_leak_is_a_new_one() -> None:
    flow = inflow()
    flow[60 * 24 : 75 * 24] += 12
    flow[85 * 24 :] += 12
    first, second = events(flow)
    assert first.status == "closed"
    assert first.closed_at is not None
    assert at(75) < first.closed_at <= at(77)
    assert second.status == "open"
    assert at(85) < second.detected_at <= at(86.1)


def test_a_second_burst_while_one_runs_is_an_event_of_its_own() -> None:
    flow = inflow()
    flow[60 * 24 :] += 10
    flow[68 * 24 + 10 :] += 15
    first, second = events(flow)
    assert second.detected_at - at(68 + 10 / 24) <= timedelta(days=1.5)
    assert second.size_m3h == pytest.approx(15, rel=0.25)
    assert first.size_m3h == pytest.approx(10, rel=0.25)


def test_weather_holidays_flushing_and_gaps_do_not_cry_wolf() -> None:
    flow = inflow()
    flow[70 * 24 : 80 * 24] *= 1.15  # ten hot days: every hour of use by a part more, not by the same volume
    flow[90 * 24 + 9] += 60  # an hour of flushing
    flow[95 * 24 : 97 * 24] = math.nan
    flow[100 * 24 + 3 : 100 * 24 + 9] = math.nan
    assert events(flow) == []


def test_hour_by_hour_and_all_at_once_agree() -> None:
    flow = inflow(90)
    flow[60 * 24 :] += 12
    whole, parts = Detector(FIRST), Detector(FIRST)
    whole.feed(flow)
    for start in range(0, len(flow), 7):
        parts.feed(flow[start : start + 7])
    assert [event.detected_at for event in parts.events] == [event.detected_at for event in whole.events]


def test_a_detector_goes_on_from_its_stored_state() -> None:
    flow = inflow(90)
    flow[60 * 24 :] += 12
    whole, before = Detector(FIRST), Detector(FIRST)
    whole.feed(flow)
    before.feed(flow[: 60 * 24 + 17])
    after = Detector.from_state(json.loads(json.dumps(before.to_state())))
    after.feed(flow[60 * 24 + 17 :])
    assert after.events == whole.events


def test_what_all_zones_show_at_once_is_no_leak_but_a_leak_in_one_is() -> None:
    flows = [inflow(90, seed) for seed in (1, 2, 3, 4)]
    for flow in flows:
        flow[70 * 24 : 72 * 24] += 7  # a fair, the start of watering: everywhere, and at night too
    flows[2][80 * 24 :] += 12
    alone = [events(flow) for flow in flows]
    assert sum(len(found) for found in alone) > 1
    together = feed_together([Detector(FIRST) for _ in flows], flows)
    assert [len(found) for found in together] == [0, 0, 1, 0]
    assert together[2][0].detected_at > at(80)
    assert feed_together([], []) == []


def test_the_middle_of_the_others_is_what_leaving_one_out_gives() -> None:
    chance = np.random.default_rng(2)
    for zones in range(1, 7):
        # ties and gaps
        z = np.round(chance.normal(0, 2, (zones, 40)))
        z[chance.random(z.shape) < 0.3] = np.nan
        found = _middle_of_others(z)
        for i, row in enumerate(found):
            for column, value in enumerate(row):
                rest = sorted(one for one in np.delete(z[:, column], i) if np.isfinite(one))
                assert value == (rest[(len(rest) - 1) // 2] if len(rest) >= 2 else 0)


def test_an_event_brings_what_a_person_needs_to_check_it() -> None:
    flow = inflow()
    flow[80 * 24 + 14 :] += 12
    (event,) = events(flow)
    facts = event.facts
    assert facts["statistic"] > facts["threshold"]
    assert facts["observed_night_m3h"] - facts["expected_night_m3h"] == pytest.approx(12, rel=0.3)
    assert len(facts["parts_m3h"]) == 6
    assert facts["baseline_days"] >= 10
    json.dumps(facts)


def test_strange_flows_raise_no_error_and_keep_the_state_plain() -> None:
    gap = inflow(150)
    gap[50 * 24 : 110 * 24] = math.nan
    wild = inflow(90)
    wild[::97] = math.inf
    wild[70 * 24] = -1e12
    strange = (np.full(80 * 24, math.nan), np.zeros(80 * 24), np.full(80 * 24, 5.0), gap, wild, inflow(3), np.array([]))
    for flow in strange:
        detector = Detector(FIRST)
        detector.feed(flow)
        json.dumps(detector.to_state(), allow_nan=False)
        assert [event for event in detector.events if event.detected_at < at(60)] == []


def test_a_leak_in_a_flow_without_noise_has_a_finite_statistic() -> None:
    flow = np.full(90 * 24, 5.0)
    flow[70 * 24 :] += 1
    (event,) = events(flow)
    assert math.isfinite(event.facts["statistic"])
    assert event.size_m3h == pytest.approx(1, rel=0.05)


def test_weights_prefer_the_quiet_hours_and_ignore_a_constant_flow() -> None:
    random = np.random.default_rng(1)
    noise = random.normal(0, np.where(np.arange(24) < 5, 1.0, 6.0), (60, 24))
    weights = least_variance_weights(noise, 0.5)
    assert weights.sum() == pytest.approx(1)
    assert weights[:5].sum() > 0.7
    assert (weights >= 0).all()


def test_local_hours_of_both_changes_of_clocks() -> None:
    rome = ZoneInfo("Europe/Rome")
    first = datetime(2026, 3, 28, 23, tzinfo=ZoneInfo("UTC"))
    day, flow = local_hours([first + timedelta(hours=i) for i in range(23)], [1.0] * 23, rome)
    assert day == date(2026, 3, 29)
    assert len(flow) == 24
    assert np.isnan(flow[2])
    assert np.isnan(flow).sum() == 1
    first = datetime(2026, 10, 24, 22, tzinfo=ZoneInfo("UTC"))
    _, flow = local_hours([first + timedelta(hours=i) for i in range(25)], [float(i) for i in range(25)], rome)
    assert len(flow) == 24
    assert flow[2] == 2.5
