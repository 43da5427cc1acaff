"""Night flow and component analysis, worked by hand."""

from datetime import UTC, datetime, timedelta

import pytest

from gis import babe, night_flow


def test_pressure_and_exponents() -> None:
    assert night_flow.pressure_factor(30, 60, 1.0) == pytest.approx(0.5)
    assert night_flow.pressure_factor(30, 60, 0.5) == pytest.approx(0.5**0.5)
    assert night_flow.exponent_of(8.0, 1.0, 40, 10) == pytest.approx(1.5)
    assert night_flow.exponent_of(8.0, 1.0, 40, 40) is None
    assert night_flow.exponent_of(0.0, 1.0, 40, 10) is None
    mains = {"PVC": 3.0, "Cast iron": 1.0, "": 4.0, "HDPE 100": 0.0}
    assert night_flow.exponent_of_materials(mains) == pytest.approx((3 * 1.5 + 0.5 + 4 * 1.0) / 8)
    assert night_flow.exponent_of_materials({}) == 1.0


def test_a_day_is_not_24_nights() -> None:
    assert night_flow.night_day_factor([50.0] * 24, 50.0, 1.5) == pytest.approx(24)
    # by day the pressure falls to a quarter for twelve hours
    assert night_flow.night_day_factor([40.0] * 12 + [10.0] * 12, 40.0, 1.0) == pytest.approx(12 + 3)


def test_background_and_bursts() -> None:
    # 10 km, 500 connections, 1 km of private pipe: (200 + 625 + 33) l/h at 50 m
    assert night_flow.background_m3_h(10, 500, 1, 50) == pytest.approx(0.858)
    assert night_flow.background_m3_h(10, 500, 1, 12.5, 2.0) == pytest.approx(0.858 * 2 / 8)
    assert night_flow.equivalent_bursts(3.2, 50) == pytest.approx(2)
    assert night_flow.equivalent_bursts(3.2, 200) == pytest.approx(1)
    assert night_flow.equivalent_bursts(-1, 50) == 0


def test_night_use_is_metered_where_enough_places_report() -> None:
    seen = {
        "residential": night_flow.Reporting(40, 3.0, 0.5),
        "commercial": night_flow.Reporting(4, 99.0, 0.5),
        "industrial": night_flow.Reporting(6, 70.0, 0.5),
    }
    places = {"residential": 1000.0, "commercial": 10.0, "industrial": 2.0}
    found = {one.premise_class: one for one in night_flow.night_use(places, seen, {"residential": 8.0})}
    # half of the eight litres that a home takes on average, though the sample's homes are smaller
    assert (found["residential"].source, found["residential"].m3_h) == ("metered", pytest.approx(4.0))
    # four of ten shops report: what they use counts, the others are assessed
    assert (found["commercial"].source, found["commercial"].m3_h) == ("assessed", pytest.approx(0.099 * 4 + 0.008 * 6))
    assert found["industrial"].m3_h == pytest.approx(0.14)
    # 2.5 people, 6 % of them awake, 10 litres each
    (assessed,) = night_flow.night_use({"residential": 1000}, {}, {})
    assert assessed.m3_h == pytest.approx(1.5)


def test_assessed_night_use_follows_what_a_class_uses() -> None:
    assert night_flow.assessed_litres_h("residential", 1, None) == pytest.approx(1.5)
    # a block of twenty flats; homes that use as much as four people do
    assert night_flow.assessed_litres_h("Residential", 20, 100) == pytest.approx(20 * 2.5 * 0.6)
    assert night_flow.assessed_litres_h("", 1, 4 * 150 / 24) == pytest.approx(4 * 0.6)
    assert night_flow.assessed_litres_h("commercial", 1, 10) == 8
    assert night_flow.assessed_litres_h("commercial", 1, 400) == pytest.approx(100)
    assert night_flow.assessed_litres_h("Industrial", 1, 5000) == pytest.approx(3000)
    # the only factory of a zone reports by the hour: it is measured, however few it is
    (factory,) = night_flow.night_use({"industrial": 1}, {"industrial": night_flow.Reporting(1, 700.0, 0.9)}, {})
    assert (factory.source, factory.m3_h) == ("metered", pytest.approx(0.7))


def test_minimum_night_flow_is_the_middle_of_the_whole_nights() -> None:
    nights = [night_flow.Night("1", 5.0, 4.0), night_flow.Night("2", None, 1.0), night_flow.Night("3", 9.0, 6.0)]
    assert night_flow.minimum_night_flow(nights, "mean_02_04") == 7
    assert night_flow.minimum_night_flow(nights, "lowest_hour") == 4
    assert night_flow.minimum_night_flow(nights[1:2], "mean_02_04") is None


def test_a_burst_from_the_times_of_its_order() -> None:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    day = timedelta(days=1)
    known = babe.Burst("W1", "service", at, at + 2 * day, at + 3 * day, at + 7 * day, 2.0)
    assert (known.awareness, known.location, known.repair) == (2 * day, day, 4 * day)
    assert known.volume_m3(at - day, at + 30 * day, 40.0, 1.0) == pytest.approx(7 * 24 * 2)
    # only what ran within the window
    assert known.volume_m3(at + 5 * day, at + 6 * day, 40.0, 1.0) == pytest.approx(24 * 2)
    assert known.volume_m3(at + 8 * day, at + 9 * day, 40.0, 1.0) == 0
    # nobody knows when it began, or measured it: standard times and flows, at the zone's pressure
    unknown = babe.Burst("W2", "unreported_main", None, at, at, at + day, None)
    assert unknown.awareness == 50 * day
    assert unknown.volume_m3(at - 100 * day, at + 2 * day, 25.0, 1.0) == pytest.approx(51 * 24 * 3)
