"""Leaks in the demo town's ground: crews fill in every form, find what runs, and what they repair runs no more."""

import copy
import json
import math
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from hub.demo import calendar, guide
from hub.demo.consumption import Meters, ZoneMeters
from hub.demo.crews import Crew, Phone
from hub.demo.fieldwork import Place, answers_for, visit
from hub.demo.ground import Ground
from hub.demo.hydraulics import TANK_AREA_M2, ZONES, Leak, Water
from hub.demo.network import Network
from hub.demo.town import Town
from hub.work import catalogue, forms
from tests.hub.demo.test_crews import HubStandIn, order

NOON = calendar.STORY + timedelta(hours=5)
HOUR = math.ceil(calendar.hours_since_start(NOON))  # the first full hour that a stop at noon changes
FLOW = 8.0


@pytest.fixture
def water(still_water: Water, network: Network) -> Water:
    """Still water with one leak in each zone since the beginning; the pump into C stands still every other hour."""
    found: Water = copy.deepcopy(still_water)
    hours = found.hours
    found.zone_meter_m3["M4"] = np.where(np.arange(hours) % 2, 0.0, 40.0)
    found.components["storage_increase/C"] = found.zone_meter_m3["M4"] - 20.0
    found.tank_level_m = 3.0 + np.concatenate([[0.0], np.cumsum(found.components["storage_increase/C"])]) / TANK_AREA_M2
    found.zone_meter_m3 |= {"M1": np.full(hours, 60.0), "M2": np.full(hours, 40.0)}
    for zone in ZONES:
        node = next(node for node in sorted(network.elevation_m) if network.zones[node] == zone)
        found.leaks.append(Leak(f"L{zone}", "p1", node, zone, "burst", 0.0, 0.0, None, 10.0))
        found.leak_m3[f"L{zone}"] = np.full(hours, FLOW)
        found.components[f"bursts/{zone}"] = np.full(hours, FLOW)
        found.components[f"net_inflow/{zone}"] = np.full(hours, 20.0)
    return found


@pytest.fixture
def ground(water: Water, network: Network, tmp_path: Path) -> Ground:
    return Ground(water, network, tmp_path)


def survey(zone: str) -> dict[str, Any]:
    described = forms.described(catalogue.load()["leak_survey"])
    return order(type="leak_survey", zone=zone, position=None, work_type=described)


def net(water: Water) -> dict[str, Any]:
    m = water.zone_meter_m3
    stored = np.diff(water.tank_level_m) * TANK_AREA_M2
    return {"A": m["M1"] + m["M2"] - m["M3"] - m["M4"], "B": m["M3"], "C": m["M4"] - stored}


@pytest.mark.parametrize("zone", ZONES)
def test_a_stopped_leak_is_missing_from_its_zone_alone(ground: Ground, zone: str) -> None:
    before = copy.deepcopy(net(ground.water))
    ground.stop(next(x for x in ground.water.leaks if x.zone == zone), NOON)
    for one, flow in net(ground.water).items():
        fallen = before[one] - flow
        assert np.allclose(fallen[:HOUR], 0)
        assert np.allclose(fallen[HOUR:], FLOW if one == zone else 0, atol=1e-6)
        assert np.allclose(
            ground.water.component("net_inflow", one)[HOUR:], 20.0 - (FLOW if one == zone else 0), atol=1e-6
        )
    assert all((flow >= -1e-9).all() for flow in ground.water.zone_meter_m3.values())


def test_other_processes_take_a_repair_over_and_a_register_never_falls(
    ground: Ground, still_water: Water, network: Network, tmp_path: Path, water: Water
) -> None:
    other = Ground(copy.deepcopy(water), network, tmp_path)
    assert not other.take_over()
    told = ZoneMeters(other.water).register("M3", HOUR + 3)
    ground.stop(ground.water.leaks[1], NOON)
    assert other.take_over(not_before=HOUR + 3) and not other.take_over()
    assert ZoneMeters(other.water).register("M3", HOUR + 3) == told
    assert other.flow(other.water.leaks[1], NOON + timedelta(hours=9)) == 0
    # a process that starts later, or again, knows it from the beginning
    again = Ground(copy.deepcopy(water), network, tmp_path)
    assert again.flow(again.water.leaks[1], NOON + timedelta(hours=9)) == 0


def test_a_crew_finds_the_leak_of_a_zone_and_ends_it(ground: Ground, hamlet_meters: Meters) -> None:
    client = httpx.Client(transport=httpx.MockTransport(HubStandIn()), base_url="http://hub")
    crew = Crew("c1", "North", Phone(client), Place(hamlet_meters, {}, ground=ground))
    leak = ground.largest("B", NOON)
    assert leak is not None
    found = visit(survey("B"), crew.place, NOON)
    assert (found.done, found.answers["code"], found.position) == (True, "found", ground.position(leak))
    assert visit(survey("nowhere"), crew.place, NOON).answers["code"] == "none_found"

    lon, lat = ground.position(leak)
    described = forms.described(catalogue.load()["leak_repair"])
    repair = order(2, type="leak_repair", position={"lon": lon, "lat": lat}, work_type=described)
    crew.phone.orders[repair["id"]] = repair
    crew.current = repair["id"]
    ended = visit(repair, crew.place, NOON)
    assert (ended.answers["code"], ended.answers["flow_m3_h"]) == ("repaired", "8.0")
    crew.report(ended, NOON)
    later = NOON + timedelta(hours=3)
    assert ground.largest("B", later) is None
    assert visit(repair, crew.place, later).answers["code"] == "none_found"


def test_a_visitor_who_reports_a_leak_found_stands_on_it(ground: Ground, hamlet_meters: Meters) -> None:
    hub = HubStandIn()
    client = httpx.Client(transport=httpx.MockTransport(hub), base_url="http://hub")
    crew = Crew("c1", "North", Phone(client), Place(hamlet_meters, {}, ground=ground))
    crew.phone.orders[survey("B")["id"]] = survey("B")
    crew.current = survey("B")["id"]
    guide._report(crew, {"result": "done:found"}, NOON)
    leak = ground.largest("B", NOON)
    assert leak is not None
    [told] = hub.commands
    assert (told["position"]["lon"], told["position"]["lat"]) == ground.position(leak)


@pytest.mark.parametrize("type", sorted(catalogue.load()))
def test_crews_fill_in_every_form(type: str, ground: Ground, hamlet: Town, hamlet_meters: Meters) -> None:
    kind = catalogue.load()[type]
    place = Place(hamlet_meters, {}, ground=ground)
    described = json.loads(json.dumps(forms.described(kind)))
    one = order(type=type, zone="B", meter=hamlet.customers[0].serial, work_type=described)
    for completion in kind.completion:
        forms.check_answers(kind, answers_for(one, completion.code, place, NOON))
    ended = visit(one, place, NOON, blocked=False)
    assert ended.done and kind.completion_of(ended.answers["code"]) is not None
