"""Imports of the network: zones, mains and service points. Writes those tables, and the valve fact of a place.

After zones or points have changed, every point's zone is found again from the geometry.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from gis import topology, zones
from hub import clock
from hub.imports import staging
from hub.imports.columns import Column, above_zero, at_least_zero, choice, day, flag, key, whole
from hub.imports.columns import text as free_text
from hub.imports.importer import Importer, Load, Stored, upsert
from hub.imports.rows import Fault, ImportRefused, Row

POLYGONS = ("Polygon", "MultiPolygon")
LINES = ("LineString", "MultiLineString")


def _shapes(rows: Sequence[Row], allowed: tuple[str, ...]) -> list[Fault]:
    return [
        Fault(
            row.number,
            "geometry",
            row.geometry.geom_type,
            f"is not a {allowed[0].lower()}",
            f"This file takes {' or '.join(allowed)}.",
        )
        for row in rows
        if row.geometry is not None and row.geometry.geom_type not in allowed
    ]


def _keys(importer: Importer, name: str, rows: Sequence[Row], parsed: Sequence[Sequence[Any]]) -> list[Fault]:
    at = importer.at(name)
    return staging.doubled(rows, (values[at] for values in parsed), name)


# ------------------------------------------------------------------------------------------------------------- zones


def _check_zones(rows: Sequence[Row], parsed: Sequence[Sequence[Any]]) -> list[Fault]:
    code, parent = ZONES.at("code"), ZONES.at("parent")
    faults = _shapes(rows, POLYGONS) + _keys(ZONES, "code", rows, parsed)
    faults += [
        Fault(row.number, "parent", values[parent], "is the zone itself", "Leave it blank for a zone of the town.")
        for row, values in zip(rows, parsed, strict=True)
        if values[parent] is not None and values[parent] == values[code]
    ]
    return faults


def _check_stored_zones(session: Session) -> list[Fault]:
    found = session.execute(
        text(
            "SELECT s.row_number, s.parent FROM import_stage s WHERE s.parent IS NOT NULL"
            " AND NOT EXISTS (SELECT FROM zone z WHERE z.code = s.parent)"
            " AND NOT EXISTS (SELECT FROM import_stage o WHERE o.code = s.parent) ORDER BY 1"
        )
    )
    remedy = "Name a zone of this file or one already imported."
    faults = [Fault(number, "parent", value, "is not known", remedy) for number, value in found]
    dated = session.execute(
        text(
            "SELECT s.row_number, f.name, f.day FROM import_stage s"
            " CROSS JOIN LATERAL (VALUES ('valid_from', s.valid_from), ('valid_to', s.valid_to)) f (name, day)"
            " WHERE f.day > CAST(business_now() AS date) + 1 OR (f.name = 'valid_to' AND s.valid_to <= s.valid_from)"
            " ORDER BY 1"
        )
    )
    remedy = "Give the days on which a boundary began and ceased to hold; import coming ones when they hold."
    faults += [Fault(number, name, str(found), "lies ahead or out of order", remedy) for number, name, found in dated]
    return faults


def _store_zones(session: Session, load: Load) -> Stored:
    today = clock.now(session).astimezone(load.zone).date()
    closed = zones.keep_former_boundaries(session, today, load.present)
    dated = Load(load.actor, load.zone, load.present | {"valid_from"}, load.rows, load.parsed)
    stored = upsert(session, "zone", "code", dated, ZONES, "ST_Multi(s.geometry)")
    if closed:
        stored.notes.append(f"{closed} zones changed: what they were stays in force for the days before")
    circle = zones.circular_parent(session)
    if circle:
        fault = Fault(None, "parent", circle, "is part of itself through its parents", "Correct the parents.")
        raise ImportRefused("zones", [fault])
    moved = zones.assign_points(session)
    if moved:
        stored.notes.append(f"{moved} service points changed zone")
    stored.notes += topology.notes(session, ("overlap", "gap", "outside_parent"))
    return stored


ZONES = Importer(
    kind="zones",
    columns=(
        Column("code", "text", key, required=True),
        Column("name", "text", free_text, required=True),
        Column("parent", "text", key),
        Column("pressure_m", "numeric", above_zero),
        Column("private_pipe_m", "numeric", at_least_zero),
        Column("valid_from", "date", day),
        Column("valid_to", "date", day),
    ),
    check=_check_zones,
    check_stored=_check_stored_zones,
    store=_store_zones,
    geometry=True,
)


# ------------------------------------------------------------------------------------------------------------- mains


def _check_mains(rows: Sequence[Row], parsed: Sequence[Sequence[Any]]) -> list[Fault]:
    return _shapes(rows, LINES) + _keys(MAINS, "id", rows, parsed)


def _store_mains(session: Session, load: Load) -> Stored:
    stored = upsert(session, "main", "id", load, MAINS, "ST_Multi(s.geometry)")
    stored.notes += topology.notes(session, ("main_apart",))
    return stored


MAINS = Importer(
    kind="mains",
    columns=(
        Column("id", "text", key, required=True),
        Column("diameter_mm", "numeric", above_zero),
        Column("material", "text", free_text),
        Column("installed_on", "date", day),
    ),
    check=_check_mains,
    check_stored=lambda session: [],
    store=_store_mains,
    geometry=True,
)


# ---------------------------------------------------------------------------------------------------- service points


def _check_points(rows: Sequence[Row], parsed: Sequence[Sequence[Any]]) -> list[Fault]:
    return _shapes(rows, ("Point",)) + _keys(SERVICE_POINTS, "id", rows, parsed)


def _store_points(session: Session, load: Load) -> Stored:
    # `critical` is never null in the table; a blank cell means no.
    session.execute(text("UPDATE import_stage SET critical = false WHERE critical IS NULL"))
    place = Load(load.actor, load.zone, load.present - {"valve"}, load.rows, load.parsed)
    stored = upsert(session, "service_point", "id", place, SERVICE_POINTS, "s.geometry")
    zones.assign_points(session)
    outside = session.execute(
        text("SELECT count(*) FROM import_stage s JOIN service_point p ON p.id = s.id WHERE p.zone IS NULL")
    ).scalar_one()
    has_zones = session.execute(text("SELECT EXISTS (SELECT FROM zone)")).scalar_one()
    if outside and has_zones:
        stored.notes.append(f"{outside} service points lie in no zone")
    stored.notes += topology.notes(session, ("point_unreached",))
    if "valve" in load.present:
        stored.notes += _store_valves(session)
    return stored


def _store_valves(session: Session) -> list[str]:
    """The valve fact of each staged place, but never over what a crew reported: that is newer than any file."""
    session.execute(
        text(
            "INSERT INTO place_fact AS f (service_point, fact, state, since)"
            " SELECT id, 'valve', valve, business_now() FROM import_stage WHERE valve IS NOT NULL ORDER BY id"
            " ON CONFLICT (service_point, fact) DO UPDATE SET state = excluded.state, since = excluded.since,"
            " reason = NULL, account = NULL WHERE f.order_id IS NULL AND f.state <> excluded.state"
        )
    )
    kept = session.execute(
        text(
            "SELECT count(*) FROM import_stage s JOIN place_fact f ON f.service_point = s.id AND f.fact = 'valve'"
            " WHERE s.valve IS NOT NULL AND f.state <> s.valve"
        )
    ).scalar_one()
    return [f"{kept} valves left as crews reported them"] if kept else []


SERVICE_POINTS = Importer(
    kind="service-points",
    columns=(
        Column("id", "text", key, required=True),
        Column("address", "text", free_text, required=True),
        Column("premise_class", "text", key),
        Column("valve", "text", choice("open", "closed", "restricted", "unknown")),
        Column("units", "integer", whole(0, 100_000)),
        Column("occupancy", "text", free_text),
        Column("access", "text", free_text),
        Column("hazard", "text", free_text),
        Column("meter_place", "text", free_text),
        Column("valve_place", "text", free_text),
        Column("critical", "boolean", flag),
    ),
    check=_check_points,
    check_stored=lambda session: [],
    store=_store_points,
    geometry=True,
)
