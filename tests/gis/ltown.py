"""The shared L-Town samples as import files, in the columns the importers take."""

import csv
import gzip
import json
from collections import defaultdict
from datetime import date, datetime, timedelta
from pathlib import Path

# Local time of the samples: no daylight saving.
TIME_ZONE = "Etc/GMT-2"
TANK_AREA_M2 = 201.06193  # π/4 · 16²


def write_files(samples: Path, out: Path) -> list[tuple[str, Path]]:
    """(kind, file) in the order to import."""
    town = samples / "waterloss" / "ltown_2018"
    return [
        ("zones", _zones(town, out / "zones.geojson")),
        ("mains", _mains(town, out / "mains.geojson")),
        ("service-points", _points(town, out / "points.csv")),
        ("meters", _meters(town, out / "meters.csv")),
        ("meters", _zone_meters(town, out / "zone_meters.csv")),
        ("accounts", _accounts(town, out / "accounts.csv")),
        ("tank-levels", _levels(town, out / "levels.csv")),
        ("readings", _reads(town, out / "reads.csv")),
        ("readings", _zone_reads(town, out / "zone_reads.csv")),
        ("meter-tests", _tests(town, out / "tests.csv")),
        ("unbilled-use", _uses(town, out / "uses.csv")),
    ]


def _rows(path: Path) -> list[dict[str, str]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", newline="") as file:
        return list(csv.DictReader(file))


def _write(path: Path, header: str, rows: list[list[object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header.split())
        writer.writerows(rows)
    return path


def _zones(town: Path, out: Path) -> Path:
    data = json.loads((town / "zones.geojson").read_text())
    for feature in data["features"]:
        feature["properties"]["code"] = feature["properties"].pop("zone_id")
    out.write_text(json.dumps(data))
    return out


def _mains(town: Path, out: Path) -> Path:
    data = json.loads((town / "mains.geojson").read_text())
    for feature in data["features"]:
        feature["properties"]["id"] = feature["properties"].pop("pipe_id")
    out.write_text(json.dumps(data))
    return out


def _points(town: Path, out: Path) -> Path:
    rows = _rows(town / "customers.csv")
    return _write(
        out,
        "id address premise_class lon lat",
        [
            [r["customer_id"], f"{r['customer_id']} L-Town", r["customer_class"].lower(), r["lon"], r["lat"]]
            for r in rows
        ],
    )


def _spells(town: Path) -> dict[str, list[tuple[str, str | None, str | None]]]:
    """Per customer the meters in turn: (serial, installed on, removed on)."""
    found: dict[str, list[tuple[str, str | None, str | None]]] = defaultdict(list)
    finals = {r["meter_serial"]: r["read_date"] for r in _rows(town / "reads.csv.gz") if r["read_type"] == "F"}
    initials = {r["meter_serial"]: r["read_date"] for r in _rows(town / "reads.csv.gz") if r["read_type"] == "I"}
    seen = set()
    for row in sorted(
        _rows(town / "reads.csv.gz"), key=lambda r: (r["customer_id"], r["read_date"], r["read_type"] == "I")
    ):
        serial = row["meter_serial"]
        if serial not in seen:
            seen.add(serial)
            found[row["customer_id"]].append((serial, initials.get(serial), finals.get(serial)))
    return found


def _meters(town: Path, out: Path) -> Path:
    customers = {r["customer_id"]: r for r in _rows(town / "customers.csv")}
    rows: list[list[object]] = []
    for customer, spells in _spells(town).items():
        facts = customers[customer]
        purpose = "revenue" if facts["billed"] == "yes" else "unbilled"
        for serial, installed, removed in spells:
            # a read is taken at the end of its date
            rows.append([serial, customer, "m3", facts["register_digits"], _next(installed), _next(removed), purpose])
    return _write(out, "serial service_point unit dials installed_on removed_on purpose", rows)


def _next(day: str | None) -> str:
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat() if day else ""


def _zone_meters(town: Path, out: Path) -> Path:
    rows: list[list[object]] = []
    for r in _rows(town / "zone_meters.csv"):
        error = r["known_error_pct"] if float(r["known_error_pct"]) else ""
        if r["from_zone"]:
            rows.append([r["meter_id"], r["from_zone"], "out", r["to_zone"], "volume_interval", "m3", error])
        else:
            rows.append([r["meter_id"], r["to_zone"], "in", "", "volume_interval", "m3", error])
    return _write(out, "serial zone direction to_zone register unit error_pct", rows)


def _accounts(town: Path, out: Path) -> Path:
    rows: list[list[object]] = [
        ["A" + r["customer_id"], r["customer_id"], "2010-01-01", r["billing_zone_code"]]
        for r in _rows(town / "customers.csv")
        if r["billed"] == "yes"
    ]
    return _write(out, "account service_point since billing_zone", rows)


def _levels(town: Path, out: Path) -> Path:
    rows: list[list[object]] = [
        ["T1", r["timestamp"], r["T1_level_m"], TANK_AREA_M2, "LT-C"]
        for r in _rows(town / "zone_meter_hourly.csv.gz")
        if r["T1_level_m"]
    ]
    return _write(out, "tank read_at level_m area_m2 zone", rows)


def _reads(town: Path, out: Path) -> Path:
    rows: list[list[object]] = [
        [r["meter_serial"], _next(r["read_date"]), r["register_m3"], "estimated" if r["read_type"] == "E" else "good"]
        for r in _rows(town / "reads.csv.gz")
    ]
    return _write(out, "meter read_at value quality", rows)


def _zone_reads(town: Path, out: Path) -> Path:
    rows: list[list[object]] = []
    for r in _rows(town / "zone_meter_hourly.csv.gz"):
        ends = (datetime.fromisoformat(r["timestamp"]) + timedelta(hours=1)).isoformat(" ")
        rows += [[m, ends, r[m], "volume_interval"] for m in ("M1", "M2", "M3", "M4") if r[m]]
    return _write(out, "meter read_at value register", rows)


def _tests(town: Path, out: Path) -> Path:
    rows: list[list[object]] = [
        [r["meter_serial"], "2018-06-01", r["weighted_accuracy_pct"]] for r in _rows(town / "meter_tests.csv")
    ]
    return _write(out, "meter tested_on accuracy_pct", rows)


def _uses(town: Path, out: Path) -> Path:
    rows: list[list[object]] = [
        [r["timestamp"], r["volume_m3"], r["purpose"], r["lon"], r["lat"]]
        for r in _rows(town / "unbilled_unmetered_events.csv")
    ]
    return _write(out, "at volume purpose lon lat", rows)
