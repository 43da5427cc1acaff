"""Imports of billed consumption and of tank levels. Writes `billed_consumption` and `tank_level`."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from hub.imports import staging
from hub.imports.columns import Column, above_zero, at_least_zero, day, flag, instant, key, number
from hub.imports.importer import Importer, Load, Stored
from hub.imports.meters import unit
from hub.imports.rows import Fault, Row
from hub.metering import units

# What makes two rows the same bill line.
BILL_KEY = ("service_point", "meter", "register", "from", "to", "bill")


# ------------------------------------------------------------------------------------------------ billed consumption


def _check_consumption(rows: Sequence[Row], parsed: Sequence[Sequence[Any]]) -> list[Fault]:
    names = CONSUMPTION.names
    faults = []
    keys = []
    for row, values in zip(rows, parsed, strict=True):
        cell = dict(zip(names, values, strict=True))
        keys.append(tuple(cell[name] for name in BILL_KEY))
        if cell["to"] <= cell["from"]:
            remedy = "The period runs from one day up to, but not including, another."
            faults.append(Fault(row.number, "to", str(cell["to"]), f"is not after from ({cell['from']})", remedy))
        if cell["replaces"] is not None and cell["replaces"] == cell["bill"]:
            faults.append(
                Fault(row.number, "replaces", cell["replaces"], "is the bill itself", "Name the former bill.")
            )
    return faults + staging.doubled(rows, keys, " / ".join(BILL_KEY))


def _check_stored_consumption(session: Session) -> list[Fault]:
    return staging.unknown(session, "service_point", "service_point", "id", "Import service-points first.")


def _store_consumption(session: Session, load: Load) -> Stored:
    factors = {
        name: units.to_m3(Decimal(1), name) for name in {values[CONSUMPTION.at("unit")] for values in load.parsed}
    }
    session.execute(text("CREATE TEMP TABLE IF NOT EXISTS import_factor (unit text, m3 numeric) ON COMMIT DROP"))
    session.execute(text("TRUNCATE import_factor"))
    session.execute(
        text("INSERT INTO import_factor VALUES (:unit, :m3)"), [{"unit": u, "m3": m3} for u, m3 in factors.items()]
    )
    same = (
        'b.service_point = s.service_point AND b.from_day = s."from" AND b.to_day = s."to"'
        " AND b.meter IS NOT DISTINCT FROM s.meter AND b.register IS NOT DISTINCT FROM s.register"
        " AND b.bill IS NOT DISTINCT FROM s.bill"
    )
    updated = session.execute(
        text(
            "UPDATE billed_consumption b SET volume = s.volume, unit = s.unit, volume_m3 = s.volume * f.m3,"  # noqa: S608  (our own text)
            " estimated = coalesce(s.estimated, false), replaces = s.replaces"
            f" FROM import_stage s JOIN import_factor f USING (unit) WHERE {same}"
            " AND b.replaced_by IS NULL AND (b.volume, b.unit, b.estimated, b.replaces)"
            " IS DISTINCT FROM (s.volume, s.unit, coalesce(s.estimated, false), s.replaces) RETURNING b.id"
        )
    ).all()
    inserted = session.execute(
        text(
            "INSERT INTO billed_consumption (id, service_point, meter, register, from_day, to_day,"  # noqa: S608
            " volume, unit, volume_m3, estimated, bill, replaces, source)"
            ' SELECT gen_random_uuid(), s.service_point, s.meter, s.register, s."from", s."to",'
            " s.volume, s.unit, s.volume * f.m3, coalesce(s.estimated, false), s.bill, s.replaces, 'import'"
            " FROM import_stage s JOIN import_factor f USING (unit)"
            f" WHERE NOT EXISTS (SELECT FROM billed_consumption b WHERE {same}) ORDER BY s.row_number RETURNING id"
        )
    ).all()
    session.execute(
        text(
            "UPDATE billed_consumption o SET replaced_by = n.id FROM billed_consumption n"
            " WHERE n.replaces = o.bill AND n.service_point = o.service_point AND n.id <> o.id"
            " AND o.replaced_by IS NULL AND n.service_point IN (SELECT service_point FROM import_stage)"
        )
    )
    return Stored(len(inserted), len(updated))


CONSUMPTION = Importer(
    kind="consumption",
    columns=(
        Column("service_point", "text", key, required=True),
        Column("from", "date", day, required=True),
        Column("to", "date", day, required=True),
        Column("volume", "numeric", number, required=True),
        Column("unit", "text", unit, required=True),
        Column("meter", "text", key),
        Column("register", "text", key),
        Column("bill", "text", key),
        Column("replaces", "text", key),
        Column("estimated", "boolean", flag),
    ),
    check=_check_consumption,
    check_stored=_check_stored_consumption,
    store=_store_consumption,
)


# ------------------------------------------------------------------------------------------------------- tank levels


def _check_levels(rows: Sequence[Row], parsed: Sequence[Sequence[Any]]) -> list[Fault]:
    tank, read_at = TANK_LEVELS.at("tank"), TANK_LEVELS.at("read_at")
    return staging.doubled(rows, ((values[tank], values[read_at]) for values in parsed), "tank / read_at")


def _check_stored_levels(session: Session) -> list[Fault]:
    return staging.unknown(session, "zone", "zone", "code", "Import zones first.")


def _store_levels(session: Session, load: Load) -> Stored:
    kept = ["level_m", *(name for name in ("area_m2", "zone") if name in load.present)]
    inserted, updated = staging.merge(
        session,
        f"""
        INSERT INTO tank_level AS t (tank, read_at, {", ".join(kept)})
        SELECT tank, read_at, {", ".join(kept)} FROM import_stage ORDER BY tank, read_at
        ON CONFLICT (tank, read_at) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in kept)}
        WHERE ({", ".join(f"t.{name}" for name in kept)})
            IS DISTINCT FROM ({", ".join(f"excluded.{name}" for name in kept)})
        RETURNING (t.xmax = 0) AS inserted
        """,  # noqa: S608  (column names are our own)
    )
    return Stored(inserted, updated)


TANK_LEVELS = Importer(
    kind="tank-levels",
    columns=(
        Column("tank", "text", key, required=True),
        Column("read_at", "timestamptz", instant, required=True),
        Column("level_m", "numeric", at_least_zero, required=True),
        Column("area_m2", "numeric", above_zero),
        Column("zone", "text", key),
    ),
    check=_check_levels,
    check_stored=_check_stored_levels,
    store=_store_levels,
)
