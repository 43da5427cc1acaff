"""The simulated water closes, leaks as its holes say, and is the same every time."""

from pathlib import Path

import numpy as np
import pytest

from hub.demo import hydraulics
from hub.demo.consumption import Meters, ZoneMeters, truth
from hub.demo.hydraulics import ZONES, Leak, Water, load, save, simulate
from hub.demo.network import Network
from hub.demo.town import Town

HOURS = 30
LEAKS = (
    ("p257", "incipient", 0.1, 0.8, None, 12.0),
    ("p232", "burst", 0.25, 0.0, 0.9, 20.0),
    ("p673", "burst", 0.5, 0.0, None, 9.0),
)


@pytest.fixture(scope="module")
def water(network: Network) -> Water:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hydraulics, "_LEAKS", LEAKS)
        return simulate(network, HOURS)


def test_each_zone_balances(water: Water) -> None:
    for zone in ZONES:
        parts = sum(
            water.component(name, zone) for name in ("used", "unauthorised", "bursts", "background", "flushing")
        )
        assert np.allclose(water.component("net_inflow", zone), parts)


def test_zone_meters_tell_the_net_inflow(water: Water) -> None:
    m = water.zone_meter_m3
    storage = np.diff(water.tank_level_m) * np.pi * 64
    assert np.allclose(m["M1"] + m["M2"] - m["M3"] - m["M4"], water.component("net_inflow", "A"))
    assert np.allclose(m["M3"], water.component("net_inflow", "B"))
    assert np.allclose(m["M4"] - storage, water.component("net_inflow", "C"), atol=0.05)
    assert abs(storage).max() > 1, "the tank fills and empties"


def test_continuity_agrees_with_the_simulated_flows(water: Water) -> None:
    assert water.split_error < 1e-4


def test_leaks_are_seen_in_the_zone_they_are_in(water: Water) -> None:
    zones = {leak.zone for leak in water.leaks}
    assert zones == {"A", "B", "C"}
    for leak in water.leaks:
        flow = water.leak_m3[leak.id]
        assert flow[: int(leak.start_hour)].sum() == 0
        assert water.component("bursts", leak.zone)[HOURS - 10] == pytest.approx(flow[HOURS - 10])
        if leak.end_hour is not None:
            assert flow[int(np.ceil(leak.end_hour)) :].sum() == 0


def test_a_leak_flows_as_torricelli_says() -> None:
    leak = Leak("L", "p", "n", "A", "burst", start_hour=2, full_hour=2, end_hour=None, diameter_mm=20)
    flow = leak.flow_m3_per_h(np.arange(4.0), np.full(4, 45.0))
    # 0.75 · π·0.01² m² · √(2·9.81·45) m/s · 3600 s/h
    assert flow == pytest.approx([0, 0, 25.20, 25.20], abs=0.01)


def test_an_incipient_leak_widens_linearly() -> None:
    leak = Leak("L", "p", "n", "A", "incipient", start_hour=0, full_hour=10, end_hour=None, diameter_mm=10)
    area = leak.area_m2(np.array([0.0, 5.0, 10.0, 20.0]))
    assert area / area[-1] == pytest.approx([0, 0.25, 1, 1])


def test_the_same_again(network: Network) -> None:
    first, second = simulate(network, 6), simulate(network, 6)
    assert np.array_equal(first.zone_meter_m3["M1"], second.zone_meter_m3["M1"])


def test_a_stored_result_comes_back(water: Water, tmp_path: Path) -> None:
    save(water, tmp_path / "water.npz")
    again = load(tmp_path / "water.npz")
    assert again is not None
    assert again.leaks == water.leaks
    assert np.array_equal(again.component("net_inflow", "C"), water.component("net_inflow", "C"))


def test_water_without_leaks_is_kept_too(still_water: Water, tmp_path: Path) -> None:
    save(still_water, tmp_path / "water.npz")
    again = load(tmp_path / "water.npz")
    assert again is not None and again.leaks == [] and again.leak_m3 == {}


def test_a_broken_or_foreign_file_is_simulated_anew(tmp_path: Path) -> None:
    path = tmp_path / "water.npz"
    path.write_bytes(b"PK\x03\x04 not really")
    assert load(path) is None
    assert load(tmp_path / "none.npz") is None


def test_customers_use_exactly_the_networks_demand(town: Town, water: Water) -> None:
    meters = Meters(town, water)
    used = meters.used(HOURS)
    zone = np.array([customer.zone for customer in town.customers])
    for code in ZONES:
        assert used[zone == code].sum() == pytest.approx(water.component("used", code).sum(), rel=1e-9)


def test_the_truth_adds_up(town: Town, water: Water) -> None:
    for parts in truth(water, Meters(town, water), 0, HOURS).values():
        assert parts["real_losses"] == pytest.approx(parts["background"] + parts["bursts"])
        lost = parts["real_losses"] + parts["unauthorised"] + parts["flushing"] + parts["under_registration"]
        assert parts["non_revenue"] == pytest.approx(lost)


def test_zone_registers_rise_by_what_passes(water: Water) -> None:
    meters = ZoneMeters(water)
    for name in ("M1", "M2", "M3", "M4"):
        risen = meters.register(name, HOURS) - meters.register(name, 0)
        assert risen == pytest.approx(water.zone_meter_m3[name].sum())
