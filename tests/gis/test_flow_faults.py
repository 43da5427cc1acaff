"""Which hours of a flow meter are no measurement."""

import math

import numpy as np

from gis.flow_faults import Fault, cleaned


def flow(days: int = 60) -> np.ndarray:
    """An ordinary meter: a daily wave with noise."""
    random = np.random.default_rng(3)
    hours = np.arange(days * 24)
    return 50 + 20 * np.sin(hours / 24 * 2 * np.pi) + random.normal(0, 2, len(hours))


def test_an_ordinary_flow_is_left_alone() -> None:
    series = flow()
    clean, faults = cleaned(series)
    assert np.array_equal(clean, series)
    assert faults == []


def test_each_fault_is_masked_and_named() -> None:
    series = flow()
    series[800:807] = 0
    series[900:910] = series[899]
    series[1000:1003] = math.nan
    series[1100] = 80_000
    clean, faults = cleaned(series)
    assert faults == [
        Fault("stuck_zero", 800, 807),
        Fault("frozen", 900, 910),
        Fault("gap", 1000, 1003),
        Fault("implausible", 1100, 1101),
    ]
    assert np.isnan(clean).sum() == 21
    assert clean[899] == series[899]


def test_a_pump_that_stops_every_night_is_no_fault() -> None:
    series = flow()
    series[np.arange(len(series)) % 24 < 4] = 0
    _, faults = cleaned(series)
    assert faults == []


def test_a_meter_that_counts_in_coarse_steps_is_not_frozen() -> None:
    _, faults = cleaned(np.round(flow() / 10) * 10)
    assert {fault.kind for fault in faults} <= {"frozen"}
    assert all(fault.first < 48 for fault in faults)


def test_a_burst_of_three_times_the_flow_is_believed() -> None:
    series = flow()
    series[700:] += 150
    assert cleaned(series)[1] == []


def test_the_past_decides_alone() -> None:
    series = flow()
    series[800:807] = 0
    series[900:910] = series[899]
    whole, _ = cleaned(series)
    part, _ = cleaned(series[:905])
    assert np.array_equal(whole[:905], part, equal_nan=True)


def test_infinite_and_empty_input() -> None:
    clean, faults = cleaned([None, math.inf, 3.0])
    assert np.isnan(clean[:2]).all()
    assert faults == [Fault("gap", 0, 2)]
    assert cleaned([])[1] == []
