"""The water of the simulated town, hour by hour: what enters each zone, what is used, what leaks; all of it known.

Two EPANET runs: the first, without leaks, gives the pressures; from them each leak's flow follows
(0.75 · A(t) · √(2 g p)); the second carries the leaks as demands. Zone volumes then follow from continuity, so the
true balance closes exactly. Deterministic; `simulate` writes nothing, `load_or_simulate` keeps the result in one file.
"""

import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hub.demo import calendar
from hub.demo.epanet import Project, opened
from hub.demo.network import ZONE_LINKS, Network

Series = npt.NDArray[np.float64]
Progress = Callable[[float], None]

VERSION = 1  # of the stored file; raise it when a change here or in the calendar makes old files wrong
SEED = 20260302
ZONES = ("A", "B", "C")
CLASSES = ("Residential", "Commercial", "Industrial")
TANK_AREA_M2 = np.pi * 16.0**2 / 4
_DISCHARGE = 0.75
_GRAVITY = 9.81
_LEAKAGE_EXPONENT = 1.5  # background leakage against pressure
# Background leakage in litres per hour, at 50 m, for each kilometre of main and each place water is used.
_BACKGROUND_PER_KM, _BACKGROUND_PER_PLACE = 20.0, 1.25
_UNAUTHORISED_SHARE = 0.0025  # of what customers use


@dataclass(frozen=True)
class Leak:
    """One leak with its truth. Hours count from the calendar's start; an incipient leak widens until `full_hour`."""

    id: str
    pipe: str
    node: str
    zone: str
    kind: str
    start_hour: float
    full_hour: float
    end_hour: float | None
    diameter_mm: float

    def area_m2(self, hours: Series) -> Series:
        """The hole's area at each hour: its diameter grows linearly from start to full."""
        if self.full_hour > self.start_hour:
            grown = np.clip((hours - self.start_hour) / (self.full_hour - self.start_hour), 0.0, 1.0)
        else:
            grown = (hours >= self.start_hour).astype(float)
        if self.end_hour is not None:
            grown = np.where(hours >= self.end_hour, 0.0, grown)
        return np.asarray(np.pi * (grown * self.diameter_mm / 1000.0) ** 2 / 4.0)

    def flow_m3_per_h(self, hours: Series, pressure_m: Series) -> Series:
        """Torricelli with a discharge coefficient of 0.75."""
        speed = np.sqrt(2 * _GRAVITY * np.maximum(pressure_m, 0.0))
        return np.asarray(_DISCHARGE * self.area_m2(hours) * speed * 3600.0)


@dataclass(frozen=True)
class Flushing:
    """Unbilled, unmetered water let out on purpose in one hour."""

    node: str
    zone: str
    hour: int
    volume_m3: float


@dataclass
class Water:
    """Hourly truth. Keys of `zone` are the ten-odd components below, then the zone code; volumes in m³ per hour."""

    hours: int
    leaks: list[Leak]
    flushings: list[Flushing]
    class_factor: dict[str, Series]
    zone_meter_m3: dict[str, Series]
    tank_level_m: Series
    components: dict[str, Series]
    leak_m3: dict[str, Series]
    pressure_m: dict[str, Series]
    split_error: float

    def component(self, name: str, zone: str) -> Series:
        """net_inflow, storage_increase, used, unauthorised, flushing, background or bursts of a zone."""
        return self.components[f"{name}/{zone}"]


# The town's known leaks: (pipe, kind, day it starts, days until full, day it is repaired or None, hole in mm).
# Day 0 is 1 January; day 60 is the Monday on which the story starts.
_LEAKS = (
    ("p257", "incipient", 9.4, 16.0, None, 9.5),
    ("p461", "incipient", 4.2, 30.0, 51.5, 17.0),
    ("p232", "burst", 22.1, 0.0, 27.4, 20.1),
    ("p628", "burst", 12.6, 0.0, 33.6, 15.0),
    ("p31", "incipient", 30.3, 20.0, None, 11.8),
    ("p673", "burst", 44.8, 0.0, None, 8.6),
    ("p810", "burst", 60.4, 0.0, None, 21.0),
    ("p514", "burst", 66.2, 0.0, 74.5, 17.5),
)


def plan_leaks(network: Network) -> list[Leak]:
    """The leaks of this town; a pipe the network lacks raises KeyError."""
    leaks = []
    for number, (pipe, kind, start, growth, end, diameter) in enumerate(_LEAKS, 1):
        link = network.pipes[pipe]
        leaks.append(
            Leak(
                id=f"L{number}",
                pipe=pipe,
                node=link.end if link.end in network.elevation_m else link.start,
                zone=network.zones[link.start],
                kind=kind,
                start_hour=start * 24,
                full_hour=(start + growth) * 24,
                end_hour=None if end is None else end * 24,
                diameter_mm=diameter,
            )
        )
    return leaks


def plan_flushings(network: Network, hours: int) -> list[Flushing]:
    """A hydrant flushed every six days or so, in the morning."""
    random = np.random.default_rng(SEED + 1)
    nodes = sorted(node for node in network.elevation_m if network.zones[node] != "B")
    found = []
    for day in range(3, hours // 24, 6):
        node = str(random.choice(nodes))
        hour = day * 24 + int(random.integers(9, 12))
        found.append(Flushing(node, network.zones[node], hour, round(float(random.uniform(8, 28)), 1)))
    return found


def class_factors(network: Network, hours: int) -> dict[str, Series]:
    """Use by class as a multiple of its base: L-Town's weekly shape, times how the town's days differ."""
    random = np.random.default_rng(SEED + 2)
    weekday_of_start = calendar.START.weekday()
    found = {}
    for name, spread in zip(CLASSES, (0.03, 0.02, 0.0), strict=True):
        week = np.asarray(network.patterns[name])
        index = (np.arange(hours) + weekday_of_start * 24) % 168
        day, level = np.empty(hours // 24 + 1), 0.0
        for number in range(len(day)):
            level = 0.6 * level + random.normal(0.0, spread)
            day[number] = 1.0 + level
        found[name] = week[index] * np.repeat(day, 24)[:hours]
    return found


def _node_demands(network: Network, factors: dict[str, Series]) -> dict[str, Series]:
    used = {zone: np.zeros(len(factors[CLASSES[0]])) for zone in ZONES}
    for (node, name), base in network.demands.items():
        used[network.zones[node]] += base * factors[name]
    return used


def _background_base(network: Network) -> dict[str, float]:
    """Background leakage of each junction at 50 m, m³/h: half of every pipe it ends, and the places it serves."""
    base = dict.fromkeys(network.elevation_m, 0.0)
    for link in network.pipes.values():
        for node in (link.start, link.end):
            if node in base:
                base[node] += link.length_m / 2000.0 * _BACKGROUND_PER_KM / 1000.0
    for (node, _), demand in network.demands.items():
        base[node] += demand / 0.03 * _BACKGROUND_PER_PLACE / 1000.0
    return base


@dataclass
class _Run:
    pressure: Series
    link_m3: Series
    level: Series


def _run(
    network: Network,
    hours: int,
    factors: dict[str, Series],
    extra: list[tuple[str, float, str, Series]],
    watch: list[str],
    progress: Progress,
    accuracy: float = 0.001,
) -> _Run:
    """One EPANET run; `extra` are (node, base, pattern name, hourly multipliers)."""
    result = _Run(np.zeros((hours, len(watch))), np.zeros((hours, len(ZONE_LINKS))), np.zeros(hours + 1))
    with opened(network.path) as project:
        project.hours(hours, accuracy=accuracy)
        for name, values in factors.items():
            project.set_pattern(f"P-{name}", values * (1 + _UNAUTHORISED_SHARE))
        for pattern, values in {name: values for _, _, name, values in extra}.items():
            project.set_pattern(pattern, values)
        for node, base, pattern, _ in extra:
            project.add_demand(node, base, pattern)
        nodes, tank = [project.node(name) for name in watch], project.node("T1")
        links = [project.link(name) for name in ZONE_LINKS.values()]
        _collect(project, result, nodes, links, tank, progress)
    return result


def _collect(project: Project, into: _Run, nodes: list[int], links: list[int], tank: int, progress: Progress) -> None:
    hours = len(into.pressure)

    def read() -> tuple[list[float], list[float], float]:
        return project.pressures(nodes), project.flows(links), project.level(tank)

    for began, seconds, (pressures, flows, level) in project.steps(read):
        hour = began // 3600
        if began % 3600 == 0:
            into.level[hour] = level
            if hour % 24 == 0:
                progress(hour / hours)
        if hour < hours:
            into.pressure[hour] += np.asarray(pressures) * (seconds / 3600.0)
            into.link_m3[hour] += np.asarray(flows) * (seconds / 3600.0)
    progress(1.0)


def simulate(network: Network, hours: int = calendar.HOURS, progress: Progress = lambda share: None) -> Water:
    """Both runs and the balance. About twenty seconds for the whole calendar on two cores."""
    factors = class_factors(network, hours)
    leaks, flushings = plan_leaks(network), plan_flushings(network, hours)
    background = _background_base(network)
    sample = {zone: sorted(n for n in network.elevation_m if network.zones[n] == zone)[::10] for zone in ZONES}
    watch = [leak.node for leak in leaks] + [node for zone in ZONES for node in sample[zone]]
    first = _run(network, hours, factors, [], watch, lambda share: progress(share / 2), accuracy=0.01)

    clock = np.arange(hours, dtype=float)
    zone_pressure, at = {}, len(leaks)
    for zone in ZONES:
        zone_pressure[zone] = first.pressure[:, at : at + len(sample[zone])].mean(axis=1)
        at += len(sample[zone])
    leak_m3 = {leak.id: leak.flow_m3_per_h(clock, first.pressure[:, i]) for i, leak in enumerate(leaks)}
    ratio = {zone: np.power(zone_pressure[zone] / 50.0, _LEAKAGE_EXPONENT) for zone in ZONES}

    extra = [(leak.node, 1.0, f"X-{leak.id}", leak_m3[leak.id]) for leak in leaks]
    extra += [
        (node, base, f"X-bg-{network.zones[node]}", ratio[network.zones[node]]) for node, base in background.items()
    ]
    for number, event in enumerate(flushings):
        extra.append((event.node, 1.0, f"X-fl-{number}", np.where(clock == event.hour, event.volume_m3, 0.0)))
    second = _run(network, hours, factors, extra, watch, lambda share: progress(0.5 + share / 2))
    return _balance(network, factors, leaks, flushings, leak_m3, background, ratio, second, zone_pressure)


def _balance(
    network: Network,
    factors: dict[str, Series],
    leaks: list[Leak],
    flushings: list[Flushing],
    leak_m3: dict[str, Series],
    background: dict[str, float],
    ratio: dict[str, Series],
    run: _Run,
    pressure: dict[str, Series],
) -> Water:
    hours = len(run.pressure)
    used = _node_demands(network, factors)
    parts: dict[str, Series] = {}
    for zone in ZONES:
        parts[f"used/{zone}"] = used[zone]
        parts[f"unauthorised/{zone}"] = used[zone] * _UNAUTHORISED_SHARE
        parts[f"bursts/{zone}"] = sum((leak_m3[x.id] for x in leaks if x.zone == zone), np.zeros(hours))
        total = sum(base for node, base in background.items() if network.zones[node] == zone)
        parts[f"background/{zone}"] = total * ratio[zone]
        let_out = np.zeros(hours)
        for event in flushings:
            if event.zone == zone:
                let_out[event.hour] += event.volume_m3
        parts[f"flushing/{zone}"] = let_out
        parts[f"storage_increase/{zone}"] = np.diff(run.level) * TANK_AREA_M2 if zone == "C" else np.zeros(hours)
        names = ("used", "unauthorised", "bursts", "background", "flushing")
        parts[f"net_inflow/{zone}"] = sum((parts[f"{name}/{zone}"] for name in names), np.zeros(hours))
    meters = _zone_meters(parts, run)
    simulated = run.link_m3.sum()
    error = abs(sum(series.sum() for series in meters.values()) - simulated) / simulated
    return Water(hours, leaks, flushings, factors, meters, run.level, parts, leak_m3, pressure, float(error))


def _zone_meters(parts: dict[str, Series], run: _Run) -> dict[str, Series]:
    """What passes M1..M4 in each hour, by continuity; EPANET only says how M1 and M2 share the inflow.

    A = M1 + M2 − M3 − M4, B = M3, C = M4 − increase of the tank's storage.
    """
    third = parts["net_inflow/B"]
    fourth = np.maximum(parts["net_inflow/C"] + parts["storage_increase/C"], 0.0)
    inlet = parts["net_inflow/A"] + third + fourth
    share = run.link_m3[:, 0] / np.maximum(run.link_m3[:, 0] + run.link_m3[:, 1], 1e-9)
    return {"M1": inlet * share, "M2": inlet * (1 - share), "M3": third, "M4": fourth}


_GROUPS = ("class_factor", "zone_meter_m3", "components", "leak_m3", "pressure_m")


def save(water: Water, path: Path) -> None:
    """Write the result to one file, complete or not at all."""
    arrays: dict[str, Any] = {"tank_level_m": water.tank_level_m}
    for group in _GROUPS:
        arrays |= {f"{group}|{name}": series for name, series in getattr(water, group).items()}
    about = {
        "version": VERSION,
        "hours": water.hours,
        "leaks": [asdict(leak) for leak in water.leaks],
        "flushings": [asdict(event) for event in water.flushings],
        "split_error": water.split_error,
    }
    half = path.with_suffix(".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with half.open("wb") as file:
        np.savez_compressed(file, about=np.frombuffer(json.dumps(about).encode(), dtype=np.uint8), **arrays)
    half.replace(path)


def load(path: Path) -> Water | None:
    """The stored result, or None when there is none of this version."""
    try:
        with path.open("rb") as file, np.load(file) as stored:
            about = json.loads(stored["about"].tobytes())
            if about["version"] != VERSION:
                return None
            groups: dict[str, dict[str, Series]] = {group: {} for group in _GROUPS}
            for key in stored.files:
                if "|" in key:
                    group, name = key.split("|", 1)
                    groups[group][name] = stored[key]
            return Water(
                hours=about["hours"],
                leaks=[Leak(**leak) for leak in about["leaks"]],
                flushings=[Flushing(**event) for event in about["flushings"]],
                tank_level_m=stored["tank_level_m"],
                split_error=about["split_error"],
                **groups,
            )
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile):
        return None


def load_or_simulate(network: Network, folder: Path, progress: Progress = lambda share: None) -> Water:
    """From `folder/water.npz` when it holds this version and calendar, else simulated and stored there."""
    path = folder / "water.npz"
    water = load(path)
    if water is None or water.hours != calendar.HOURS:
        water = simulate(network, progress=progress)
        save(water, path)
    return water
