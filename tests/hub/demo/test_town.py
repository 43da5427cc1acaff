"""The town: everybody has one place in one zone, one address, one meter that counts like a meter."""

from pathlib import Path

import numpy as np
import pytest
import shapely

from hub.demo import calendar
from hub.demo.consumption import Meters
from hub.demo.hydraulics import Water
from hub.demo.network import Network, geometry_to_lon_lat, streets, zone_polygons
from hub.demo.town import Town, build_town
from hub.demo.valves import Valves


def test_three_zones_of_known_length(network: Network) -> None:
    length = dict.fromkeys("ABC", 0.0)
    for pipe in network.pipes.values():
        length[network.zone_of_pipe(pipe)] += pipe.length_m / 1000
    assert length == pytest.approx({"A": 36.34, "B": 1.43, "C": 5.40}, abs=0.01)


def test_zones_do_not_overlap_and_hold_their_mains(network: Network) -> None:
    polygons = zone_polygons(network)
    assert sum(p.area for p in polygons.values()) == pytest.approx(shapely.union_all(list(polygons.values())).area)
    for pipe in network.pipes.values():
        line = network.line(pipe)
        inside = line.intersection(polygons[network.zone_of_pipe(pipe)]).length
        assert inside >= line.length - 8, f"{pipe.id} lies outside its zone"


def test_every_customer_stands_in_their_zone(town: Town) -> None:
    assert 4_500 < len(town.customers) < 5_500
    for zone, shape in town.polygons.items():
        here = [c for c in town.customers if c.zone == zone]
        points = shapely.points([(c.lon, c.lat) for c in here])
        assert here and shapely.contains(geometry_to_lon_lat(shape), points).all()


@pytest.mark.parametrize("key", ["address", "serial", "account", "service_point", "phone"])
def test_nothing_is_given_out_twice(town: Town, key: str) -> None:
    assert len({getattr(c, key) for c in town.customers}) == len(town.customers)


def test_phones_are_fictional(town: Town) -> None:
    assert all(c.phone.startswith("+1") and c.phone[5:10] == "55501" and len(c.phone) == 12 for c in town.customers)


def test_every_pipe_is_in_exactly_one_street(network: Network) -> None:
    named = [pipe.id for street in streets(network) for pipe in street]
    assert sorted(named) == sorted(network.pipes)


def test_the_same_town_every_time(network: Network, town: Town) -> None:
    assert build_town(network).customers == town.customers


def test_registers_rise_and_roll_over(hamlet: Town, still_water: Water) -> None:
    meters = Meters(hamlet, still_water)
    before, after = meters.registers(100.25), meters.registers(700.5)
    risen = meters.registered(100.25, 700.5)
    modulus = np.array([10.0**c.dials for c in hamlet.customers])
    assert np.allclose((after - before) % modulus, risen)
    assert (risen > 0).sum() == sum(not c.empty for c in hamlet.customers)
    assert (after < modulus).all()


def test_use_does_not_jump_between_weeks(hamlet: Town, still_water: Water) -> None:
    meters = Meters(hamlet, still_water)
    for hour in (168.0, 336.0, float(calendar.HOURS)):
        assert np.allclose(meters.used(hour), meters.used(hour - 1e-6), atol=1e-3)


def test_a_closed_valve_stops_its_dial(hamlet: Town, still_water: Water, tmp_path: Path) -> None:
    file = tmp_path / "valves.json"
    valves = Valves(file)
    free, seen = Meters(hamlet, still_water), Meters(hamlet, still_water, Valves(file))
    customer = next(c for c in hamlet.customers if free.registered(0, 48)[c.index] > 0.1)
    others = [c.index for c in hamlet.customers if c is not customer]
    valves.turn(customer.serial, closed=True, hour=10)
    valves.turn(customer.serial, closed=True, hour=11)
    assert seen.register_of(customer, 10) == free.register_of(customer, 10)
    assert seen.register_of(customer, 30) == pytest.approx(free.register_of(customer, 10))
    valves.turn(customer.serial, closed=False, hour=34)
    used = free.registered(34, 48)[customer.index]
    assert seen.register_of(customer, 48) == pytest.approx(free.register_of(customer, 10) + used)
    assert np.array_equal(seen.registers(48)[others], free.registers(48)[others])
    assert Valves(file).closed() == {customer.serial: [(10, 34)]}
