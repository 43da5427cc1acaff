"""Balances as files: CSV for a spreadsheet, a page to read and print, GeoJSON for a map. Pure, but for GeoJSON.

Writes nothing.
"""

import csv
import io
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import orjson
from jinja2 import Environment, PackageLoader, select_autoescape
from sqlalchemy import text
from sqlalchemy.orm import Session

# Column of the CSV -> where it stands in the document.
COLUMNS = (
    "zone",
    "name",
    "from",
    "to",
    "days",
    "system_input",
    "billed",
    "unbilled",
    "authorised",
    "nrw",
    "water_losses",
    "apparent",
    "real_losses",
    "loss_m3",
    "loss_pct",
    "nrw_pct_siv",
    "inflow_m3",
    "outflow_m3",
    "storage_increase_m3",
    "revision",
)
LIMITED = ("system_input", "nrw", "water_losses", "real_losses")
# A spreadsheet would take these for formulas.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

_pages = Environment(
    loader=PackageLoader("hub.leakage"),
    autoescape=select_autoescape(default=True),
    trim_blocks=True,
    lstrip_blocks=True,
)


def as_csv(found: Sequence[dict[str, Any]]) -> str:
    """One line per zone, the whole system last; limits and coverage in columns of their own."""
    out = io.StringIO()
    header = [*COLUMNS, *(f"{term}_{end}" for term in LIMITED for end in ("low_95", "high_95"))]
    header += ["coverage", "coverage_inflow", "coverage_consumption", "notes"]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    for one in found:
        limits = [one["limits_95"].get(term, [None, None]) for term in LIMITED]
        coverage = one["coverage"]
        line = [one[name] for name in COLUMNS] + [bound for pair in limits for bound in pair]
        line += [coverage["overall"], coverage["inflow"], coverage["consumption"], "; ".join(one["notes"])]
        writer.writerow([_cell(value) for value in line])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value


def list_as_csv(items: Sequence[dict[str, Any]]) -> str:
    """Any list of plain objects: one line each, members in the order of the first that has them.

    Lists and objects inside become JSON in their cell.
    """
    names = list(dict.fromkeys(name for item in items for name in item))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for item in items:
        writer.writerow([_cell(_written(item.get(name))) for name in names])
    return out.getvalue()


def _written(value: Any) -> Any:
    if isinstance(value, list | dict):
        return orjson.dumps(value, default=str, option=orjson.OPT_UTC_Z).decode()
    return value.isoformat() if isinstance(value, datetime) else value


def as_html(found: Sequence[dict[str, Any]], first: date, last: date, *, utility: str) -> str:
    """A page of its own, without scripts, that prints well."""
    return _pages.get_template("water_balance.html").render(found=found, first=first, last=last, utility=utility)


def as_geojson(session: Session, found: Sequence[dict[str, Any]]) -> bytes:
    """The zones' polygons with their balances as properties."""
    shapes = {
        code: orjson.loads(shape)
        for code, shape in session.execute(text("SELECT code, ST_AsGeoJSON(geometry, 7) FROM zone"))
    }
    return orjson.dumps(
        {
            "type": "FeatureCollection",
            "features": [
                {"type": "Feature", "id": one["zone"], "geometry": shapes[one["zone"]], "properties": one}
                for one in found
                if one["zone"] is not None
            ],
        }
    )


GAP_COLUMNS = ("kind", "why", "account", "service_point", "address", "zone", "meter", "bill", "since", "until", "m3",
               "estimated", "money")  # fmt: skip
NIGHT_COLUMNS = ("zone", "from", "to", "method", "mnf_m3_h", "night_use_m3_h", "nnf_m3_h", "background_m3_h",
                 "excess_m3_h", "equivalent_bursts", "n1", "night_day_factor_h", "leakage_m3_day", "pressure_m",
                 "mains_km", "connections")  # fmt: skip


def rows_as_csv(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    """Plain rows under a header; text that a spreadsheet would take for a formula is made text."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[_cell(row[name]) for name in columns] for row in rows])
    return out.getvalue()


def page(template: str, **values: Any) -> str:
    """A report as a page of its own, without scripts, that prints well."""
    return _pages.get_template(template).render(**values)
