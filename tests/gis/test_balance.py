"""The water balance's arithmetic, against published and worked cases."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from gis.balance import (
    Balance,
    BalanceInputs,
    Component,
    Network,
    banded_meter_error,
    corrected_source,
    indicators,
    meter_inaccuracy,
    water_balance,
)
from gis.bands import ili_band, loss_band


def test_a_balance_worked_by_hand() -> None:
    # 1000 in, 300 on to the next zone, 20 more in the tank; 500 billed, 30 metered but not billed
    balance = water_balance(
        BalanceInputs(
            days=31,
            sources=[Component(1000, 0.02), Component(-300, 0.02), Component(-20, 0.05)],
            billed_metered=500,
            unbilled_metered=30,
            unauthorised=[Component(7, 0.5)],
            meter_under_registration=0.02,
            meter_error_margin=0.5,
        )
    )
    assert balance.system_input == 680
    assert balance.nrw == 180
    assert balance.water_losses == 150
    assert balance.meter_inaccuracy == pytest.approx(500 / 0.98 - 500)
    assert balance.real_losses == pytest.approx(150 - 7 - (500 / 0.98 - 500))
    half = math.sqrt(20**2 + 6**2 + 1**2)
    assert balance.limits_95()["nrw"] == pytest.approx([180 - half, 180 + half])


def test_more_billed_than_supplied_stays_negative() -> None:
    balance = water_balance(BalanceInputs(days=30, sources=[Component(100)], billed_metered=120))
    assert balance.water_losses == -20
    assert balance.margin("water_losses") == 0


def test_no_input_has_no_margin() -> None:
    assert water_balance(BalanceInputs(days=1, sources=[Component(0, 0.1)])).margin("system_input") is None


def test_meter_errors() -> None:
    assert corrected_source(1015, 0.015) == pytest.approx(1000)
    assert corrected_source(992, -0.008) == pytest.approx(1000)
    assert meter_inaccuracy(980, 0.02) == pytest.approx(20)
    # M36's worked example of large meters: bands of 90 %, 96.54 % and 101 % registration
    bands = banded_meter_error(939.2, [(0.1, 0.9), (0.65, 0.9654), (0.25, 1.01)])
    assert bands == pytest.approx([10.4356, 21.8796, -2.3248], abs=5e-5)


@pytest.mark.parametrize(("ili", "high", "low"), [(1.49, "A1", "A1"), (1.5, "A2", "A1"), (4, "C", "B"), (16, "D", "D")])
def test_bands(ili: float, high: str, low: str) -> None:
    assert (ili_band(ili, "high_income"), ili_band(ili, "low_middle_income")) == (high, low)


def evaluated(inputs: dict[str, Any]) -> tuple[Balance, dict[str, Any]]:
    """A case file's inputs through the balance and its indicators."""
    balance = water_balance(
        BalanceInputs(
            days=inputs["days"],
            sources=[Component(*source) for source in inputs["sources"]],
            billed_metered=inputs["billed_metered"],
            billed_unmetered=inputs["billed_unmetered"],
            unbilled_metered=inputs["unbilled_metered"],
            unbilled_unmetered=[Component(*part) for part in inputs["unbilled_unmetered"]],
            unauthorised=[
                Component(per_day * inputs["days"], margin) for per_day, margin in inputs["unauthorised_m3_per_day"]
            ],
            meter_under_registration=inputs["meter_under_registration"],
            meter_error_margin=inputs["meter_error_margin"],
            data_handling_m3=inputs["data_handling_m3"],
            data_handling_margin=inputs["data_handling_margin"],
        )
    )
    network = Network(
        mains_km=inputs["mains_km"],
        connections=inputs["connections"],
        private_pipe_m=inputs["avg_private_pipe_m"],
        pressure_areas=tuple((count, pressure) for count, pressure in inputs["pressure_areas"]),
        mains_margin=inputs["mains_margin"],
        connections_margin=inputs["connections_margin"],
        private_margin=inputs["private_margin"],
        pressure_margin=inputs["pressure_margin"],
    )
    return balance, indicators(balance, network, inputs["days"])


@pytest.mark.parametrize("case", ["easycalc_s1", "easycalc_s2"])
def test_the_workbook_agrees(samples: Path, case: str) -> None:
    known = json.loads((samples / "waterloss" / "cases" / f"{case}.json").read_text())
    balance, found = evaluated(known["inputs"])
    found |= balance.terms() | {f"{term}_margin": balance.margin(term) for term in balance.half_widths}
    for name, expected in known["expected"].items():
        assert found[name] == (expected if isinstance(expected, str) else pytest.approx(expected, rel=1e-9)), name


@pytest.mark.parametrize(
    ("litres", "pressure", "table", "high", "low"),
    [
        (99.9, 40, "real_losses", "A2", "A1"),
        (100, 40, "real_losses", "B", "A2"),
        (24, 15, "real_losses", None, "A1"),
        (24, 15.1, "real_losses", "A1", "A1"),
        (700, 80, "nrw", "D", "C"),
        (1300, 80, "nrw", "D", "D"),
        (-5, 30, "nrw", "A1", "A1"),
    ],
)
def test_loss_bands(litres: float, pressure: float, table: str, high: str | None, low: str) -> None:
    assert loss_band(litres, pressure, table, "high_income") == high
    assert loss_band(litres, pressure, table, "low_middle_income") == low


def test_the_printed_bands(samples: Path) -> None:
    printed = json.loads((samples / "waterloss" / "performance_bands.json").read_text())
    names = {"real_losses": "physical_loss_l_conn_day_when_pressurised", "nrw": "nrw_l_conn_day_when_pressurised"}
    for table, name in names.items():
        for countries in ("high_income", "low_middle_income"):
            for band, bounds in printed[name][countries].items():
                for pressure, bound in zip(printed[name]["pressure_m"], bounds, strict=True):
                    below = None if bound is None else band
                    assert loss_band((bound or 1) - 0.01, pressure, table, countries) == below
