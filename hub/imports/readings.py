"""Import of readings: walked routes and exports. Writes `reading`, `meter_review`, and `quarantine` for contradictions.

The rules are those of readings from the air (`hub.metering`): the key is register and instant, the same value again
changes nothing, another value is put aside as `value_conflict` while the first stands. A past of any length is welcome.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from hub.db import new_id, raw_of
from hub.imports import staging
from hub.imports.columns import BadCell, Column, Context, instant, key, number
from hub.imports.columns import text as free_text
from hub.imports.importer import Importer, Load, Stored
from hub.imports.meters import unit
from hub.imports.rows import Fault, Row, shown
from hub.metering import partitions, units

# The one register that does not count up: what passed in the interval that ends with the reading.
INTERVAL = "volume_interval"
# Readings that one statement books.
SLICE = 50_000
QUALITIES = {
    "good": "good",
    "actual": "good",
    "a": "good",
    "suspect": "suspect",
    "estimated": "estimated",
    "e": "estimated",
    "invalid": "invalid",
}


def quality(raw: Any, context: Context) -> str:
    """How far a reading is to be trusted."""
    word = free_text(raw, context).lower()
    if word not in QUALITIES:
        raise BadCell("is not one of the known words", "Use good, suspect, estimated or invalid.")
    return QUALITIES[word]


def _check(rows: Sequence[Row], parsed: Sequence[Sequence[Any]]) -> list[Fault]:
    meter, read_at, value, register = (READINGS.at(n) for n in ("meter", "read_at", "value", "register"))
    first: dict[tuple[str, str, datetime], tuple[int, Decimal]] = {}
    faults = []
    for row, cells in zip(rows, parsed, strict=True):
        if cells[value] < 0 and cells[register] != INTERVAL:
            remedy = "Only the flow of an interval (register volume_interval) may be."
            faults.append(Fault(row.number, "value", shown(cells[value]), "is below zero", remedy))
        at = first.setdefault((cells[meter], cells[register] or "volume", cells[read_at]), (row.number, cells[value]))
        if at[1] != cells[value]:
            problem = f"contradicts row {at[0]} ({shown(at[1])}) for the same meter and instant"
            faults.append(Fault(row.number, "value", shown(cells[value]), problem, "Keep the true one."))
    return faults


def _check_stored(session: Session) -> list[Fault]:
    faults = staging.unknown(session, "meter", "meter", "serial", "Import meters first.")
    found = session.execute(
        text(
            "SELECT s.row_number, s.register FROM import_stage s"
            " WHERE EXISTS (SELECT FROM meter m WHERE m.serial = s.meter) AND NOT EXISTS (SELECT FROM meter m"
            " WHERE m.serial = s.meter AND m.register = coalesce(s.register, 'volume')) ORDER BY 1"
        )
    )
    remedy = "Name a register of the meter, or import it with meters."
    faults += [
        Fault(number, "register", shown(name or "volume"), "is not a register of the meter", remedy)
        for number, name in found
    ]
    ahead = session.execute(
        text(
            "SELECT row_number, read_at FROM import_stage WHERE read_at > business_now() + interval '1 day' ORDER BY 1"
        )
    )
    remedy = "Correct the date; a reading cannot be of the future."
    return faults + [Fault(number, "read_at", at.isoformat(), "lies in the future", remedy) for number, at in ahead]


def _store(session: Session, load: Load) -> Stored:
    at = READINGS.at("read_at")
    months = {partitions.month_of(values[at]) for values in load.parsed}
    connection = raw_of(session)
    partitions.ensure(connection, "reading", months)
    connection.execute("DROP TABLE IF EXISTS import_reading")
    # A stated unit is the whole truth; a bare number is what the dial shows.
    connection.execute(
        """
        CREATE TEMP TABLE import_reading ON COMMIT DROP AS
        SELECT row_number() OVER (ORDER BY meter_id, measured_at) AS position, x.* FROM (
        SELECT DISTINCT ON (m.id, s.read_at) m.id AS meter_id, m.serial, m.register, s.read_at AS measured_at, s.value,
            coalesce(s.unit, m.unit) AS unit,
            s.value * f.m3 * CASE WHEN s.unit IS NULL THEN m.multiplier ELSE 1 END AS value_m3,
            CASE WHEN s.unit IS NULL AND m.dials IS NOT NULL AND s.value >= power(10::numeric, m.dials)
                 THEN 'suspect' ELSE coalesce(s.quality, 'good') END AS quality,
            CASE WHEN s.unit IS NULL AND m.dials IS NOT NULL AND s.value >= power(10::numeric, m.dials)
                 THEN ARRAY['beyond_dials'] ELSE '{}' END AS flags,
            coalesce(s.source, 'import') AS source
        FROM import_stage s JOIN meter m ON m.serial = s.meter AND m.register = coalesce(s.register, 'volume')
        LEFT JOIN unnest(%(units)s::text[], %(factors)s::numeric[]) AS f (unit, m3) ON f.unit = coalesce(s.unit, m.unit)
        ORDER BY m.id, s.read_at, s.row_number) x
        """,
        {"units": list(units.FACTORS_M3), "factors": list(units.FACTORS_M3.values())},
    )
    inserted = _insert(session, load)
    connection.execute(
        "INSERT INTO meter_review AS r (meter_id, since) SELECT meter_id, min(measured_at) FROM import_reading"
        " GROUP BY 1 ORDER BY 1 ON CONFLICT (meter_id) DO UPDATE SET since = least(r.since, excluded.since)"
    )
    conflicts = _put_aside(session)
    notes = [f"{conflicts} readings contradict stored ones and wait in quarantine"] if conflicts else []
    unknown = connection.execute("SELECT count(*) FROM import_reading WHERE value_m3 IS NULL").fetchone()
    if unknown and unknown[0]:
        notes.append(f"{unknown[0]} readings of meters without a unit count no cubic metres")
    return Stored(inserted, 0, notes)


def _insert(session: Session, load: Load) -> int:
    """Book what no reading stands for yet, a slice after the other, so that it shows how far it is; how many."""
    connection = raw_of(session)
    connection.execute("ALTER TABLE import_reading ADD PRIMARY KEY (position)")
    inserted = 0
    for begins in range(0, len(load.rows), SLICE):
        inserted += connection.execute(
            "INSERT INTO reading (meter_id, measured_at, value, unit, value_m3, quality, flags, time_source, source)"
            " SELECT meter_id, measured_at, value, unit, value_m3, quality, flags, 'headend', source"
            " FROM import_reading WHERE position > %s AND position <= %s"
            " ORDER BY position ON CONFLICT (meter_id, measured_at) DO NOTHING",
            [begins, begins + SLICE],
        ).rowcount
        if load.progress:
            load.progress("written", min(begins + SLICE, len(load.rows)), len(load.rows))
    return inserted


def _put_aside(session: Session) -> int:
    """Quarantine what another value already stands for; the same contradiction is kept once."""
    connection = raw_of(session)
    found = connection.execute(
        "SELECT i.source, i.serial, i.register, i.measured_at, i.value::text, r.value::text FROM import_reading i"
        " JOIN reading r USING (meter_id, measured_at)"
        " WHERE coalesce(r.value_m3, r.value) IS DISTINCT FROM coalesce(i.value_m3, i.value)"
        " AND NOT EXISTS (SELECT FROM quarantine q WHERE q.meter = i.serial AND q.register = i.register"
        " AND q.measured_at = i.measured_at AND q.value = i.value::text AND q.reason = 'value_conflict')"
        " ORDER BY i.meter_id, i.measured_at"
    ).fetchall()
    # lists of the quarantine are in order of ids
    connection.execute(
        "INSERT INTO quarantine (id, received_at, source, meter, register, measured_at, value, reason, detail)"
        " SELECT u.id, business_now(), s, m, r, at, v, 'value_conflict',"
        " jsonb_build_object('text', stands || ' stands for that instant') FROM unnest(%b::uuid[], %b::text[],"
        " %b::text[], %b::text[], %b::timestamptz[], %b::text[], %b::text[]) u(id, s, m, r, at, v, stands)",
        [[new_id() for _ in found], *([list(column) for column in zip(*found, strict=True)] or [[]] * 6)],
    )
    return len(found)


READINGS = Importer(
    kind="readings",
    columns=(
        Column("meter", "text", key, required=True),
        Column("read_at", "timestamptz", instant, required=True),
        Column("value", "numeric", number, required=True),
        Column("register", "text", key),
        Column("unit", "text", unit),
        Column("quality", "text", quality),
        Column("source", "text", key),
    ),
    check=_check,
    check_stored=_check_stored,
    store=_store,
)
