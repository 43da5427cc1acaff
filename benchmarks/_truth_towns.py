"""Towns whose water is known to the last litre, as import files: the demo town, the L-Town samples, and variations.

A variation keeps the water and changes what a utility would see of it: other estimates, lost reads, exchanges,
rollovers, misreads and wrong codes, other gaps and frozen signals of the zone meters. The truth stays as it is.
"""

import csv
import gzip
import json
import os
import random
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path

from tests.gis import ltown

Row = dict[str, str]
LTOWN = Path("waterloss") / "ltown_2018"


@dataclass(frozen=True)
class Truth:
    """What really happened in a zone and month, in m³: net input (after storage), what meters registered, real loss."""

    net_input: float
    registered: float
    real_losses: float


@dataclass(frozen=True)
class Town:
    """Import files in order, the time zone, the months (first days, and the day after the last), the truth by zone."""

    name: str
    files: list[tuple[str, Path]]
    time_zone: str
    months: list[date]
    truth: dict[str, list[Truth]]


def samples() -> Path | None:
    """The folder of shared samples, when there is one with the L-Town year in it."""
    folder = Path(os.environ.get("CURBSTOP_SAMPLES", "."))
    return folder if (folder / LTOWN / "truth.json").exists() else None


def ltown_year(folder: Path, out: Path, name: str = "L-Town 2018") -> Town:
    """The shared year, or a variation of it that lies in `folder`."""
    out.mkdir(parents=True, exist_ok=True)
    known = json.loads((folder / LTOWN / "truth.json").read_text())
    truth: dict[str, list[Truth]] = defaultdict(list)
    for month in range(1, 13):
        for zone, one in known["months"][f"2018-{month:02}"].items():
            net = one["net_inflow"] - one["storage_increase"]
            truth[zone].append(Truth(net, one["billed_metered_registered"], one["real_losses"]))
    months = [date(2018, month, 1) for month in range(1, 13)] + [date(2019, 1, 1)]
    return Town(name, ltown.write_files(folder, out), ltown.TIME_ZONE, months, dict(truth))


def demo_town(out: Path) -> Town:
    """The demo's two whole months, with a sample of its meters tested."""
    from hub.demo import calendar, hydraulics
    from hub.demo.consumption import Meters
    from hub.demo.files import write_all
    from hub.demo.hydraulics import ZONES
    from hub.demo.network import read_network, to_lon_lat
    from hub.demo.town import build_town

    network = read_network()
    water = hydraulics.simulate(network)
    town = build_town(network)
    write_all(out, town, water, {}, set())
    meters = Meters(town, water)
    _write(out / "tests.csv", [["meter", "tested_on", "accuracy_pct"]] + [
        [c.serial, "2025-11-15", round(100 * c.accuracy, 3)] for c in town.customers[::20]
    ])  # fmt: skip
    uses: list[list[object]] = [["at", "volume", "purpose", "lon", "lat"]]
    for use in water.flushings:
        at = calendar.utc_text(calendar.at_hour(use.hour))
        uses.append([at, round(use.volume_m3, 3), "flushing", *to_lon_lat(network.nodes[use.node])])
    _write(out / "uses.csv", uses)
    truth: dict[str, list[Truth]] = defaultdict(list)
    edges = [int(calendar.hours_since_start(month)) for month in calendar.MONTHS]
    for begins, ends in pairwise(edges):
        registered = meters.registered_by_zone(begins, ends)
        for zone in ZONES:
            total = {
                part: float(water.component(part, zone)[begins:ends].sum())
                for part in ("net_inflow", "storage_increase", "background", "bursts")
            }
            truth[zone].append(
                Truth(
                    total["net_inflow"] - total["storage_increase"],
                    registered[zone],
                    total["background"] + total["bursts"],
                )
            )
    kinds = ("zones", "mains", "service-points", "meters", "accounts", "tank-levels", "consumption")
    files = [(kind, out / f"{kind}.{'geojson' if kind in ('zones', 'mains') else 'csv'}") for kind in kinds]
    files += [("readings", out / f"readings-{part}.csv") for part in ("zones", "january", "february")]
    files += [("meter-tests", out / "tests.csv"), ("unbilled-use", out / "uses.csv")]
    return Town("demo town", files, calendar.TIME_ZONE, [month.date() for month in calendar.MONTHS], dict(truth))


def varied(folder: Path, out: Path, seed: int) -> Path:
    """A folder like `folder` whose L-Town year was seen otherwise; the same seed gives the same year."""
    chance = random.Random(seed)
    town = out / LTOWN
    shutil.copytree(folder / LTOWN, town, ignore=shutil.ignore_patterns("*.inp", "ami_hourly*"))
    customers = _read(town / "customers.csv")
    digits = {row["customer_id"]: int(row["register_digits"]) for row in customers}
    zones = sorted({row["billing_zone_code"] for row in customers})
    for row in customers:
        if chance.random() < 0.1:
            row["billing_zone_code"] = chance.choice(zones)
    _rewrite(town / "customers.csv", customers)
    by_customer: dict[str, list[Row]] = defaultdict(list)
    for row in _read(town / "reads.csv.gz"):
        by_customer[row["customer_id"]].append(row)
    reads = [row for rows in by_customer.values() for row in _other_reads(rows, digits, chance)]
    _rewrite(town / "reads.csv.gz", reads)
    _rewrite(town / "zone_meter_hourly.csv.gz", _other_signals(_read(town / "zone_meter_hourly.csv.gz"), chance))
    return out


def _other_reads(rows: list[Row], digits: dict[str, int], chance: random.Random) -> Iterator[Row]:
    modulus = 10 ** digits[rows[0]["customer_id"]]
    plain = all(row["read_type"] in ("A", "E") for row in rows)
    if plain and chance.random() < 0.03:
        # a register that rolls over within the year
        shift = modulus - int(chance.choice(rows[2:-2] or rows)["register_m3"])
        for row in rows:
            row["register_m3"] = str((int(row["register_m3"]) + shift) % modulus)
    if plain and chance.random() < 0.03:
        rows = _exchanged(rows, modulus, chance)
    if chance.random() < 0.02:
        rows = rows[: -chance.choice([1, 2, 3])]
    previous: Row | None = None
    for position, row in enumerate(rows):
        movable = row["read_type"] == "A" and position > 2
        if movable and chance.random() < 0.02:
            continue
        if movable and previous is not None and previous["meter_serial"] == row["meter_serial"]:
            rise = (int(row["register_m3"]) - int(previous["register_m3"])) % modulus
            if chance.random() < 0.03 and rise < modulus / 2:
                guess = (int(previous["register_m3"]) + round(rise * chance.uniform(0.3, 2.0))) % modulus
                row = {**row, "read_type": "E", "register_m3": str(guess)}
            elif chance.random() < 0.002:
                row = {**row, "register_m3": str((int(row["register_m3"]) + chance.choice([300, 700])) % modulus)}
        previous = row
        yield row


def _exchanged(rows: list[Row], modulus: int, chance: random.Random) -> list[Row]:
    actual = [position for position, row in enumerate(rows) if row["read_type"] == "A" and 2 < position < len(rows) - 2]
    if not actual:
        return rows
    at = chance.choice(actual)
    final, first = int(rows[at]["register_m3"]), chance.choice([0, 0, 37])
    new = rows[at]["meter_serial"].replace("W", "X")
    return [
        *rows[:at],
        {**rows[at], "read_type": "F"},
        {**rows[at], "read_type": "I", "meter_serial": new, "register_m3": str(first)},
        *(
            {**row, "meter_serial": new, "register_m3": str((int(row["register_m3"]) - final + first) % modulus)}
            for row in rows[at + 1 :]
        ),
    ]


def _other_signals(rows: list[Row], chance: random.Random) -> list[Row]:
    for _ in range(14):
        meter, at = chance.choice(("M1", "M2", "M3", "M4")), chance.randrange(len(rows))
        for row in rows[at : at + chance.randint(2, 40)]:
            row[meter] = ""
    for _ in range(6):
        meter, at = chance.choice(("M1", "M2", "M3")), chance.randrange(len(rows))
        stuck = rows[at][meter]
        for row in rows[at : at + chance.randint(7, 20)]:
            row[meter] = stuck
    return rows


def _read(path: Path) -> list[Row]:
    opener: Callable[..., object] = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", newline="") as file:  # type: ignore[attr-defined]
        return list(csv.DictReader(file))


def _rewrite(path: Path, rows: list[Row]) -> None:
    opener: Callable[..., object] = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", newline="") as file:  # type: ignore[attr-defined]
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _write(path: Path, rows: list[list[object]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
