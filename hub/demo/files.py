"""The town as import files: what a utility would hand over on its first day, and two months of readings.

Writes into the folder it is given, nothing else. Column names are those of the hub's importers.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from shapely.geometry import mapping

from hub.demo import calendar
from hub.demo.calendar import at_hour, hours_since_start, utc_text
from hub.demo.consumption import Meters, ZoneMeters, hour_of_month
from hub.demo.hydraulics import TANK_AREA_M2, Water
from hub.demo.network import ZONE_NAMES, geometry_to_lon_lat
from hub.demo.town import Customer, Town

ZONE_METERS = (
    # serial, zone, direction, to_zone
    ("M1", "A", "in", ""),
    ("M2", "A", "in", ""),
    ("M3", "A", "out", "B"),
    ("M4", "A", "out", "C"),
)
LORA_DECODER = "volume_m3"
PLAIN_DECODER = "plain"
ZONE_GATEWAY = "ltown-scada"
HOURLY_DAYS = 7


def zone_meter_device(serial: str) -> str:
    """Identity of the radio on a zone meter."""
    return f"ltown-zone-{serial.lower()}"


def write_all(folder: Path, town: Town, water: Water, debts: dict[str, dict[str, Any]], late_bills: set[str]) -> None:
    """Every file that `settings.py` lists. `late_bills`: accounts whose February is billed in the story."""
    folder.mkdir(parents=True, exist_ok=True)
    meters, zone_meters = Meters(town, water), ZoneMeters(water)
    _write_zones(folder / "zones.geojson", town, water)
    _write_mains(folder / "mains.geojson", town)
    _write_csv(folder / "service-points.csv", _service_points(town))
    _write_csv(folder / "meters.csv", _meters(town))
    _write_csv(folder / "accounts.csv", _accounts(town, debts))
    _write_csv(folder / "balances.csv", _balances(town, debts))
    _write_csv(folder / "tank-levels.csv", _tank_levels(zone_meters))
    levels = [round(zone_meters.tank_level(hour), 3) for hour in range(water.hours + 1)]
    (folder / "tank.json").write_text(json.dumps(levels), encoding="utf-8")
    _write_csv(folder / "consumption.csv", _consumption(town, meters, late_bills))
    _write_csv(folder / "readings-zones.csv", _zone_readings(zone_meters))
    january, february, story = hour_of_month(0), hour_of_month(1), hours_since_start(calendar.STORY)
    _write_csv(folder / "readings-january.csv", _customer_readings(town, meters, january, february - 1))
    _write_csv(folder / "readings-february.csv", _customer_readings(town, meters, february, story))
    _write_csv(folder / "readings-hourly.csv", _hourly_readings(town, meters))


def _write_csv(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def _write_features(path: Path, features: Iterable[tuple[dict[str, Any], Any]]) -> None:
    collection = {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "properties": properties, "geometry": mapping(geometry_to_lon_lat(shape))}
            for properties, shape in features
        ],
    }
    path.write_text(json.dumps(collection), encoding="utf-8")


def _write_zones(path: Path, town: Town, water: Water) -> None:
    _write_features(
        path,
        (
            (
                {"code": zone, "name": ZONE_NAMES[zone], "pressure_m": round(float(water.pressure_m[zone].mean()), 1)},
                shape,
            )
            for zone, shape in town.polygons.items()
        ),
    )


def _write_mains(path: Path, town: Town) -> None:
    materials = ("PVC", "ductile iron", "asbestos cement", "PE")
    _write_features(
        path,
        (
            (
                {
                    "id": pipe.id,
                    "diameter_mm": pipe.diameter_mm,
                    "material": materials[(int(pipe.id[1:]) // 60) % len(materials)],
                    "installed_on": f"{1968 + (int(pipe.id[1:]) // 25) % 50}-01-01",
                },
                town.network.line(pipe),
            )
            for pipe in town.network.pipes.values()
        ),
    )


def _service_points(town: Town) -> Iterator[Sequence[Any]]:
    yield ("id", "address", "premise_class", "valve", "units", "occupancy", "meter_place", "hazard", "lon", "lat")
    places = ("pit at the kerb", "pit in the pavement", "wall box", "cellar")
    for c in town.customers:
        yield (
            c.service_point,
            c.address,
            c.premise_class,
            "closed" if c.empty else "open",
            1,
            "vacant" if c.empty else "owner" if c.index % 3 else "tenant",
            places[c.index % len(places)],
            "dog" if c.index % 97 == 0 else "",
            c.lon,
            c.lat,
        )


def _meters(town: Town) -> Iterator[Sequence[Any]]:
    yield (
        "serial", "service_point", "zone", "direction", "to_zone", "unit", "dials", "installed_on", "size_mm",
        "device", "decoder",
    )  # fmt: skip
    for serial, zone, direction, other in ZONE_METERS:
        device = zone_meter_device(serial)
        yield serial, "", zone, direction, other, "m3", 9, "2019-06-01", 200, device, PLAIN_DECODER
    for c in town.customers:
        decoder = LORA_DECODER if c.read_by == "lorawan" else PLAIN_DECODER if c.read_by == "gateway" else ""
        yield (
            c.serial, c.service_point, "", "", "", "m3", c.dials, min(c.since, "2025-06-01"), c.size_mm,
            c.device or "", decoder,
        )  # fmt: skip


def _accounts(town: Town, debts: dict[str, dict[str, Any]]) -> Iterator[Sequence[Any]]:
    yield ("account", "service_point", "since", "name", "phone", "email", "language", "holds")
    for c in town.customers:
        if not c.empty:
            holds = " ".join(debts.get(c.account, {}).get("holds", ()))
            yield c.account, c.service_point, c.since, c.name, c.phone, c.email, "en", holds


def _balances(town: Town, debts: dict[str, dict[str, Any]]) -> Iterator[Sequence[Any]]:
    yield ("account", "past_due", "as_of", "due_since", "holds")
    as_of = utc_text(calendar.STORY - timedelta(hours=5))
    for c in town.customers:
        if not c.empty:
            debt = debts.get(c.account, {})
            holds = " ".join(debt.get("holds", ()))
            yield c.account, debt.get("past_due", "0.00"), as_of, debt.get("due_since", ""), holds


def _tank_levels(zone_meters: ZoneMeters) -> Iterator[Sequence[Any]]:
    yield ("tank", "read_at", "level_m", "area_m2", "zone")
    for hour in range(int(hours_since_start(calendar.STORY)) + 1):
        yield "T1", utc_text(at_hour(hour)), f"{zone_meters.tank_level(hour):.3f}", f"{TANK_AREA_M2:.2f}", "C"


def _consumption(town: Town, meters: Meters, late_bills: set[str]) -> Iterator[Sequence[Any]]:
    yield ("service_point", "from", "to", "volume", "unit", "meter", "bill")
    for month in range(len(calendar.MONTHS) - 1):
        start, end = calendar.MONTHS[month], calendar.MONTHS[month + 1]
        volumes = meters.registered(hours_since_start(start), hours_since_start(end))
        last = month == len(calendar.MONTHS) - 2
        for c in town.customers:
            if not c.empty and not (last and c.account in late_bills):
                bill = bill_number(c, month)
                yield c.service_point, start.date(), end.date(), f"{volumes[c.index]:.3f}", "m3", c.serial, bill


def bill_number(customer: Customer, month: int) -> str:
    """Number of a customer's bill for a month of the calendar."""
    return f"B{calendar.MONTHS[month]:%Y%m}-{customer.account}"


_READINGS = ("meter", "read_at", "value", "unit", "source")


def _zone_readings(zone_meters: ZoneMeters) -> Iterator[Sequence[Any]]:
    yield _READINGS
    for hour in range(int(hours_since_start(calendar.STORY)) + 1):
        for serial, *_ in ZONE_METERS:
            yield serial, utc_text(at_hour(hour)), f"{zone_meters.register(serial, hour):.3f}", "m3", ZONE_GATEWAY


def _customer_readings(town: Town, meters: Meters, start: float, end: float) -> Iterator[Sequence[Any]]:
    """Radios: the first of the month and every Monday, at midnight. Walked routes: once on the first of the month."""
    yield _READINGS
    first_monday = (7 - calendar.START.weekday()) % 7 * 24
    mondays = {hour for hour in range(first_monday, int(end) + 1, 168) if start <= hour}
    firsts = {hour_of_month(number) for number in range(len(calendar.MONTHS)) if start <= hour_of_month(number) <= end}
    for hour in sorted(mondays | firsts):
        registers, at = meters.registers(hour), utc_text(at_hour(hour))
        for c in town.customers:
            if c.read_by != "walk":
                yield c.serial, at, f"{registers[c.index]:.3f}", "m3", "radio"
    for hour in sorted(firsts):
        for quarter in range(32):
            later = hour + 8 + quarter / 4
            registers, at = meters.registers(later), utc_text(at_hour(later))
            for c in town.customers[quarter::32]:
                if c.read_by == "walk":
                    yield c.serial, at, f"{registers[c.index]:.3f}", "m3", "route"


def _hourly_readings(town: Town, meters: Meters) -> Iterator[Sequence[Any]]:
    """A sample of radios, every hour of the last days before the story."""
    yield _READINGS
    now = int(hours_since_start(calendar.STORY))
    for hour in range(now - HOURLY_DAYS * 24, now + 1):
        registers, at = meters.registers(hour), utc_text(at_hour(hour))
        for c in town.customers:
            if (
                c.hourly
                and c.device
                and hour % 168 != (7 - calendar.START.weekday()) % 7 * 24
                and at_hour(hour).day != 1
            ):
                yield c.serial, at, f"{registers[c.index]:.3f}", "m3", "radio"
