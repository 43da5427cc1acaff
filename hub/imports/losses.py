"""Imports of evidence for a water balance: bench tests of meters, and authorised use that no meter saw.

Writes `meter_test` and `unbilled_use`.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from hub.imports import staging
from hub.imports.columns import BadCell, Column, Context, at_least_zero, day, instant, key, number
from hub.imports.columns import text as free_text
from hub.imports.importer import Importer, Load, Stored
from hub.imports.meters import unit
from hub.imports.rows import Fault, Row
from hub.metering import units

# ------------------------------------------------------------------------------------------------------- meter tests


def accuracy(raw: Any, context: Context) -> Decimal:
    """What a meter registered of what passed, in per cent."""
    value = number(raw, context)
    if not 0 <= value <= 200:
        raise BadCell("is no accuracy in per cent", "Write e.g. 98.5 for a meter that shows 1.5 % too little.")
    return value


def _check_tests(rows: Sequence[Row], parsed: Sequence[Sequence[Any]]) -> list[Fault]:
    meter, tested = METER_TESTS.at("meter"), METER_TESTS.at("tested_on")
    return staging.doubled(rows, ((values[meter], values[tested]) for values in parsed), "meter / tested_on")


def _store_tests(session: Session, load: Load) -> Stored:
    statement = (
        "INSERT INTO meter_test AS t (serial, tested_on, accuracy_pct)"
        " SELECT meter, tested_on, accuracy_pct FROM import_stage ORDER BY meter, tested_on"
        " ON CONFLICT (serial, tested_on) DO UPDATE SET accuracy_pct = excluded.accuracy_pct"
        " WHERE t.accuracy_pct <> excluded.accuracy_pct RETURNING (t.xmax = 0) AS inserted"
    )
    return Stored(*staging.merge(session, statement))


METER_TESTS = Importer(
    kind="meter-tests",
    columns=(
        Column("meter", "text", key, required=True),
        Column("tested_on", "date", day, required=True),
        Column("accuracy_pct", "numeric", accuracy, required=True),
    ),
    check=_check_tests,
    check_stored=lambda session: staging.unknown(session, "meter", "meter", "serial", "Import meters first."),
    store=_store_tests,
)


# ------------------------------------------------------------------------------------------------------ unbilled use


def _check_use(rows: Sequence[Row], parsed: Sequence[Sequence[Any]]) -> list[Fault]:
    faults = [
        Fault(row.number, "geometry", row.geometry.geom_type, "is not a point", "Give lon and lat of the hydrant.")
        for row in rows
        if row.geometry is not None and row.geometry.geom_type != "Point"
    ]
    keys = [
        (values[USE.at("id")],) if values[USE.at("id")] else (values[USE.at("at")], str(row.geometry))
        for row, values in zip(rows, parsed, strict=True)
    ]
    return faults + staging.doubled(rows, keys, "id")


def _store_use(session: Session, load: Load) -> Stored:
    unit_at = USE.at("unit")
    named = {values[unit_at] or "m3" for values in load.parsed}
    factors = {name: units.to_m3(Decimal(1), name) for name in named}
    # without an id of its own, a use is known by when and where it was
    statement = (
        "INSERT INTO unbilled_use AS t (id, at, purpose, volume_m3, geometry)"
        " SELECT coalesce(s.id, md5(concat_ws('|', s.at AT TIME ZONE 'UTC', ST_AsText(s.geometry)))), s.at,"
        " coalesce(s.purpose, 'other'), s.volume * f.m3, s.geometry FROM import_stage s"
        " JOIN unnest(CAST(:units AS text[]), CAST(:factors AS numeric[])) AS f (unit, m3)"
        " ON f.unit = coalesce(s.unit, 'm3') ORDER BY 1"
        " ON CONFLICT (id) DO UPDATE SET at = excluded.at, purpose = excluded.purpose, volume_m3 = excluded.volume_m3,"
        " geometry = excluded.geometry WHERE (t.at, t.purpose, t.volume_m3, t.geometry)"
        " IS DISTINCT FROM (excluded.at, excluded.purpose, excluded.volume_m3, excluded.geometry)"
        " RETURNING (t.xmax = 0) AS inserted"
    )
    return Stored(
        *staging.merge(session, statement, {"units": list(factors), "factors": [str(m3) for m3 in factors.values()]})
    )


USE = Importer(
    kind="unbilled-use",
    columns=(
        Column("id", "text", key),
        Column("at", "timestamptz", instant, required=True),
        Column("volume", "numeric", at_least_zero, required=True),
        Column("unit", "text", unit),
        Column("purpose", "text", free_text),
    ),
    check=_check_use,
    check_stored=lambda session: [],
    store=_store_use,
    geometry=True,
)
