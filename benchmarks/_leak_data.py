"""The zones, leaks and customers of a folder of the shared layout, or of the demo town, as the benchmark takes them."""

import csv
import gzip
import json
import math
import re
import tempfile
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import holidays as calendars
import numpy as np

from gis.bursts import MIDNIGHT, Array, local_hours
from gis.flow_faults import cleaned

LEAST_SHARE = 0.03
MERCY = timedelta(days=14)
# What the parameters were chosen on: these areas, and a town's year up to its middle.
TUNED_AREAS = ("DMA1", "DMA2", "DMA3")
TUNED_TOWN = "ltown_2018"
# The areas are in Italy; of a town nothing is known.
AREA_CLOCK = ZoneInfo("Europe/Rome")
# The shared layout names a tank's level but not its size and place: those of L-Town's tank.
TANK_AREA_M2, TANK_METER = math.pi * 8**2, "M4"


@dataclass(slots=True, frozen=True)
class Leak:
    """One true leak. `share`: its largest flow as a part of the zone's mean inflow. It is found in time by `until`."""

    start: datetime
    counts_from: datetime
    until: datetime
    kind: str
    share: float

    def __str__(self) -> str:
        return f"{self.kind} {self.share:.0%} from {self.start:%Y-%m-%d %H:%M}"


@dataclass(slots=True)
class Zone:
    """Hourly net inflow from a local midnight on (NaN where unknown), and what was to be found in it."""

    name: str
    first: datetime
    flow: Array
    leaks: list[Leak]
    holidays: Container[date] = ()
    tuned_until: datetime | None = None


@dataclass(slots=True)
class CustomerReads:
    """Litres of each hour from `first` on, and whether there was a leak for at least a day of them."""

    name: str
    first: datetime
    litres: Array
    leaks: bool


@dataclass(slots=True)
class Dataset:
    """A town or a set of areas."""

    title: str
    zones: list[Zone]
    customers: list[CustomerReads] = field(default_factory=list)


def read(folder: Path) -> Iterator[Dataset]:
    """Every town and set of areas in a folder and below it."""
    for path in sorted(folder.rglob("*")):
        if path.name == "truth.json" and (path.parent / "zone_meters.csv").exists():
            yield _town(path.parent)
        elif path.name == "bursts_truth.json":
            yield _areas(path.parent)


def _rows(path: Path) -> list[dict[str, str]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", newline="") as file:
        return list(csv.DictReader(file))


def _number(text: str | None) -> float:
    return float(text) if text else math.nan


# -- a town ---------------------------------------------------------------------------------------------------


def _town(folder: Path) -> Dataset:
    rows = _rows(folder / "zone_meter_hourly.csv.gz")
    first = datetime.fromisoformat(rows[0]["timestamp"])
    size = int((datetime.fromisoformat(rows[-1]["timestamp"]) - first) / timedelta(hours=1)) + 1
    place = [int((datetime.fromisoformat(row["timestamp"]) - first) / timedelta(hours=1)) for row in rows]

    def column(name: str) -> Array:
        values = np.full(size, np.nan)
        values[place] = [_number(row[name]) for row in rows]
        return values

    flows: dict[str, Array] = {}
    for meter in _rows(folder / "zone_meters.csv"):
        clean, _ = cleaned(column(meter["meter_id"]))
        clean = clean / (1 + _number(meter["known_error_pct"] or "0") / 100)
        for zone, sign in ((meter["from_zone"], -1), (meter["to_zone"], 1)):
            if zone:
                flows[zone] = flows.get(zone, np.zeros(size)) + sign * clean
        if meter["meter_id"] == TANK_METER:
            for name in rows[0]:
                if re.fullmatch(r"T\d+_level_m", name):
                    flows[meter["to_zone"]] -= TANK_AREA_M2 * np.append(np.diff(column(name)), np.nan)
    truth = json.loads((folder / "truth.json").read_text())
    half = datetime.fromisoformat(f"{truth['year']}-07-01") if folder.name == TUNED_TOWN else None
    zones = [
        Zone(name, first, flow, _town_leaks(name, flow, truth["leaks"]), (), half)
        for name, flow in sorted(flows.items())
    ]
    return Dataset(folder.name, zones, _customers(folder, truth))


def _town_leaks(zone: str, flow: Array, leaks: list[dict[str, Any]]) -> list[Leak]:
    """Leaks that reach the least share. The diameter grows linearly until the peak, so the flow with its square."""
    found, mean = [], float(np.nanmean(flow))
    for row in leaks:
        share = row["max_m3h"] / mean
        if zone.rpartition("-")[2] != row["zone"].rpartition("-")[2] or share < LEAST_SHARE:
            continue
        start, peak = datetime.fromisoformat(row["start"]), datetime.fromisoformat(row["peak"])
        counts = start + (peak - start) * math.sqrt(LEAST_SHARE / share)
        found.append(Leak(start, counts, counts + MERCY, row["type"], share))
    return found


def _customers(folder: Path, truth: dict[str, Any]) -> list[CustomerReads]:
    path = folder / "ami_hourly.csv.gz"
    if not path.exists():
        return []
    reads: dict[str, dict[datetime, float]] = {}
    for row in _rows(path):
        reads.setdefault(row["customer_id"], {})[datetime.fromisoformat(row["hour_start"])] = _number(row["litres"])
    first = min(min(hours) for hours in reads.values())
    last = max(max(hours) for hours in reads.values())
    hours = int((last - first) / timedelta(hours=1)) + 1
    leaks = {row["customer_id"]: row["leak"] for row in truth["ami"]}
    found = []
    for name, by_hour in reads.items():
        litres = np.array([by_hour.get(first + timedelta(hours=hour), math.nan) for hour in range(hours)])
        leak = leaks.get(name)
        ran = leak is not None and min(last, datetime.fromisoformat(leak["end"])) - max(
            first, datetime.fromisoformat(leak["start"])
        ) >= timedelta(days=1)
        found.append(CustomerReads(name, first, litres, bool(ran)))
    return found


# -- metered areas --------------------------------------------------------------------------------------------


def _areas(folder: Path) -> Dataset:
    rows = _rows(folder / "inflow_with_bursts.csv.gz")
    truth = json.loads((folder / "bursts_truth.json").read_text())
    times = [datetime.fromisoformat(row["hour_start_utc"]) for row in rows]
    years = range(times[0].year, times[-1].year + 1)
    zones = []
    for name in [column for column in rows[0] if column != "hour_start_utc"]:
        clean, _ = cleaned([_number(row[name]) for row in rows])
        day, flow = local_hours(times, clean.tolist(), AREA_CLOCK)
        leaks = [_area_leak(row, float(np.nanmean(clean))) for row in truth["bursts"] if row["dma"] == name]
        flows_end = datetime.combine(day, MIDNIGHT) + timedelta(hours=len(flow))
        zones.append(
            Zone(
                name,
                datetime.combine(day, MIDNIGHT),
                flow,
                [leak for leak in leaks if leak is not None],
                set(calendars.country_holidays("IT", years=years)),
                flows_end if name in TUNED_AREAS else None,
            )
        )
    return Dataset(folder.name, zones)


def _area_leak(row: dict[str, Any], mean: float) -> Leak | None:
    """An incipient burst grows with the square of time and is full in the middle of its life."""
    share = row["size_pct_of_mean"] / 100 if "size_pct_of_mean" in row else row["size_L_s"] / mean
    if share < LEAST_SHARE:
        return None
    start, end = (
        datetime.fromisoformat(row[key]).astimezone(AREA_CLOCK).replace(tzinfo=None) for key in ("start", "end")
    )
    grows = (end - start) / 2 if row["type"] == "incipient" else timedelta(0)
    counts = start + grows * math.sqrt(LEAST_SHARE / share)
    return Leak(start, counts, min(end, counts + MERCY), row["type"], share)


# -- the demo town --------------------------------------------------------------------------------------------


def demo_town() -> Dataset:
    """Twelve weeks of the simulated town, without meter errors or faults."""
    from hub.demo import calendar, hydraulics
    from hub.demo.network import read_network

    with tempfile.TemporaryDirectory() as folder:
        water = hydraulics.load_or_simulate(read_network(), Path(folder))
    first = calendar.START.replace(tzinfo=None)
    zones = []
    for name in hydraulics.ZONES:
        flow = water.component("net_inflow", name)
        leaks = []
        for leak in water.leaks:
            share = float(water.leak_m3[leak.id].max() / flow.mean())
            over = np.flatnonzero(water.leak_m3[leak.id] >= LEAST_SHARE * flow.mean())
            if leak.zone == name and len(over):
                counts = first + timedelta(hours=int(over[0]))
                start = first + timedelta(hours=leak.start_hour)
                leaks.append(Leak(start, counts, counts + MERCY, leak.kind, share))
        zones.append(Zone(name, first, flow, leaks))
    return Dataset("demo town", zones)


# -- simulated zones ------------------------------------------------------------------------------------------

# Litres per person and hour, in the shape of a working day.
_SHAPE = np.array([3, 2, 2, 2, 3, 6, 12, 15, 13, 12, 11, 11, 12, 12, 11, 10, 10, 11, 13, 15, 14, 11, 8, 5]) / 9.25


def simulated(zones: int = 8, days: int = 730, seed: int = 7) -> Dataset:
    """Zones of many kinds, the even ones without any leak: what cries wolf there would cry it anywhere.

    All share the weather: a season, hot spells that scale use and start watering, school holidays. Each has its own
    size, share of old leakage and its drift, noise, habits at weekends, growth, gaps and flushing.
    """
    shared = np.random.default_rng(seed)
    day = np.arange(days)
    season = 0.5 - 0.5 * np.cos((day - 15) / 365.25 * 2 * np.pi)  # 0 in mid-January, 1 in mid-July
    spell = np.zeros(days)
    for i in range(1, days):
        spell[i] = 0.8 * spell[i - 1] + shared.normal(0, 0.6)
    heat = np.clip(spell + 2 * season - 1, 0, None)
    first = datetime.fromisoformat("2024-01-01")
    found = []
    for number in range(zones):
        random = np.random.default_rng([seed, number])
        use = random.choice([6, 20, 60, 200])
        weekday = (first.weekday() + day) % 7
        scale = 1 + random.uniform(0.05, 0.3) * season + 0.05 * heat + random.normal(0, 0.03, days)
        scale *= np.where(weekday >= 5, random.uniform(0.9, 1.1), 1.0) * (1 + random.uniform(-0.03, 0.05) * day / 365)
        scale *= np.where((day % 365 > 212) & (day % 365 < 240), random.uniform(0.85, 1.0), 1.0)
        shape = np.where((weekday >= 5)[:, None], np.roll(_SHAPE, 1), _SHAPE)
        flow = use * scale[:, None] * shape
        watering = np.isin(np.arange(24), random.choice(24, 4, replace=False))
        flow += use * random.uniform(0, 0.15) * heat[:, None] * watering
        noise = random.uniform(0.02, 0.12) * (20 / use) ** 0.25
        flow *= 1 + random.normal(0, noise, flow.shape)
        drift = np.cumsum(random.normal(0, 0.003, days)) * use
        flow += use * random.uniform(0.1, 0.8) + drift[:, None]
        flat = np.maximum(flow, 0).ravel()
        for at in random.choice(len(flat) - 50, 12, replace=False):
            if random.random() < 0.5:
                flat[at] += use * random.uniform(0.3, 2)  # flushing
            else:
                flat[at : at + int(random.integers(2, 40))] = np.nan
        leaks = _spring_leaks(flat, first, random) if number % 2 else []
        found.append(Zone(f"S{number}", first, flat, leaks))
    return Dataset("simulated zones (even numbers without a leak)", found)


def _spring_leaks(flow: Array, first: datetime, random: np.random.Generator) -> list[Leak]:
    """Add leaks one after the other and say which."""
    mean, leaks, hour = float(np.nanmean(flow)), [], 70 * 24
    while True:
        hour += int(random.uniform(15, 60) * 24)
        lasts = int(random.uniform(6, 40) * 24)
        if hour + lasts >= len(flow):
            return leaks
        share, grows = float(random.choice([0.05, 0.08, 0.12, 0.2, 0.35])), bool(random.random() < 0.5)
        growth = np.minimum(1, np.arange(lasts) / (lasts / 2)) ** 2 if grows else np.ones(lasts)
        flow[hour : hour + lasts] += share * mean * growth
        start, end = first + timedelta(hours=hour), first + timedelta(hours=hour + lasts)
        counts = start + (timedelta(hours=lasts / 2) * math.sqrt(LEAST_SHARE / share) if grows else timedelta(0))
        kind = "incipient" if grows else "abrupt"
        leaks.append(Leak(start, counts, min(end, counts + MERCY), kind, share))
        hour += lasts
