"""Import of meters: registers, where they measured and since when, and the radio that reports them.

Writes `meter`, `meter_installation`, `device` and `rebooking`. A meter is in one place at a time: a row for another
place closes the former installation on the day of the move. A radio that goes over to another meter of its place tells
of an exchange; what it sent since is booked to the new meter.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from hub.imports import staging
from hub.imports.columns import BadCell, Column, Context, above_zero, choice, instant, key, number, whole
from hub.imports.importer import Importer, Load, Stored
from hub.imports.rows import Fault, Row, shown
from hub.metering import units

# `sub` and `deduct` meters measure downstream of another one, `reclaimed` water is not drinking water: none of them
# counts in a balance. `unbilled` (parks, the utility's own use) and `fire` are authorised, metered and not billed.
# `import` and `export` meters stand at the edge of a zone where water is bought from, or sold to, another utility.
PURPOSES = ("revenue", "unbilled", "sub", "deduct", "fire", "reclaimed", "import", "export")
# Where a file does not say when: before any reading.
ALWAYS = datetime(1900, 1, 1, tzinfo=UTC)


def unit(raw: Any, context: Context) -> str:
    """A unit of volume, in the spelling the hub stores."""
    known = units.canonical(key(raw, context))
    if known is None:
        raise BadCell("is not a unit of volume", "Use m3, l, gal, kgal, cf or ccf.")
    return known


def device_id(raw: Any, context: Context) -> str:
    """A radio's identity; EUIs are compared in lower case."""
    return key(raw, context).lower()


def verified_error(raw: Any, context: Context) -> Any:
    """A meter's verified error in per cent, above −100."""
    value = number(raw, context)
    if not -100 < value < 100:
        raise BadCell("is no error in per cent", "Write e.g. 1.5 for a meter that shows 1.5 % too much.")
    return value


def _check(rows: Sequence[Row], parsed: Sequence[Sequence[Any]]) -> list[Fault]:
    names = METERS.names
    faults = []
    keys = []
    places: dict[tuple[str, Any], tuple[int, tuple[Any, ...]]] = {}
    for row, values in zip(rows, parsed, strict=True):
        cell = dict(zip(names, values, strict=True))
        keys.append((cell["serial"], cell["register"] or "volume", cell["installed_on"] or ALWAYS))
        faults += _place_faults(row.number, cell)
        place = tuple(cell[name] for name in ("service_point", "zone", "direction", "to_zone"))
        first = places.setdefault((cell["serial"], cell["installed_on"]), (row.number, place))
        if first[1] != place:
            problem = f"is at another place in row {first[0]}"
            faults.append(
                Fault(row.number, "serial", shown(cell["serial"]), problem, "Give each place its installed_on.")
            )
    return faults + staging.doubled(rows, keys, "serial / register / installed_on")


def _place_faults(number: int, cell: dict[str, Any]) -> list[Fault]:
    faults = []
    if (cell["service_point"] is None) == (cell["zone"] is None):
        problem = "needs a service_point or a zone" if cell["zone"] is None else "names a service_point and a zone"
        faults.append(Fault(number, "service_point", None, problem, "Give exactly one of them."))
    elif cell["zone"] is not None and cell["direction"] is None:
        faults.append(Fault(number, "direction", None, "is blank", "Write in or out for a meter of a zone."))
    elif cell["zone"] is None and (cell["direction"] or cell["to_zone"]):
        faults.append(Fault(number, "direction", None, "goes with a zone only", "Leave direction and to_zone blank."))
    if cell["to_zone"] is not None and cell["to_zone"] == cell["zone"]:
        faults.append(
            Fault(number, "to_zone", cell["to_zone"], "is the zone itself", "Name the zone on the other side.")
        )
    if cell["removed_on"] and cell["removed_on"] <= (cell["installed_on"] or ALWAYS):
        faults.append(Fault(number, "removed_on", None, "is not after installed_on", "Correct one of the two."))
    return faults


def _check_stored(session: Session) -> list[Fault]:
    faults = staging.unknown(session, "service_point", "service_point", "id", "Import service-points first.")
    for column in ("zone", "to_zone"):
        faults += staging.unknown(session, column, "zone", "code", "Import zones first.")
    elsewhere = session.execute(
        text(
            "SELECT s.row_number, s.serial, coalesce(i.service_point, i.zone) FROM import_stage s"
            " JOIN meter_installation i ON i.serial = s.serial AND i.removed_at IS NULL AND s.installed_on IS NULL"
            " WHERE coalesce(i.service_point, i.zone) <> coalesce(s.service_point, s.zone) ORDER BY 1"
        )
    )
    return faults + [
        Fault(number, "serial", shown(serial), f"is installed at {place}", "Give installed_on, the day of the move.")
        for number, serial, place in elsewhere
    ]


def _store(session: Session, load: Load) -> Stored:
    _queue_corrections(session, load)
    inserted, updated = _store_registers(session, load)
    session.execute(text("UPDATE import_stage SET register = coalesce(register, 'volume')"))
    _store_installations(session, load)
    _store_devices(session)
    _store_exchanges(session)
    return Stored(inserted, updated)


def _queue_corrections(session: Session, load: Load) -> None:
    """What radios sent bare is booked anew where their meter's dial turns out to mean something else."""
    differs = {
        "unit": "s.unit IS DISTINCT FROM m.unit",
        "multiplier": "coalesce(s.multiplier, 1) <> m.multiplier",
    }
    named = [condition for name, condition in differs.items() if name in load.present]
    if named:
        session.execute(
            text(
                "INSERT INTO rebooking (id, device, begins, ends, reason, by)"  # noqa: S608  (our own text)
                " SELECT DISTINCT ON (d.id) gen_random_uuid(), d.device, d.valid_from, d.valid_to,"
                " 'the dial of meter ' || m.serial || ' was corrected', 'import'"
                " FROM import_stage s"
                " JOIN meter m ON m.serial = s.serial AND m.register = coalesce(s.register, 'volume')"
                " JOIN device d ON d.meter = m.serial AND d.register = m.register AND d.unit IS NULL"
                f" WHERE {' OR '.join(named)} ORDER BY d.id"
            )
        )


def _store_registers(session: Session, load: Load) -> tuple[int, int]:
    kept: list[str] = [name for name in ("unit", "dials", "size_mm", "error_pct") if name in load.present]
    # columns that are never null in the table fall back to their defaults
    valued = {"multiplier": "1", "purpose": "'revenue'"}
    kept += [name for name in valued if name in load.present]
    values = [f"coalesce({name}, {valued[name]})" if name in valued else name for name in kept]
    change = (
        f"DO UPDATE SET {', '.join(f'{n} = excluded.{n}' for n in kept)} WHERE ({', '.join(f'm.{n}' for n in kept)})"
        f" IS DISTINCT FROM ({', '.join(f'excluded.{n}' for n in kept)})"
        if kept
        else "DO NOTHING"
    )
    return staging.merge(
        session,
        f"""
        INSERT INTO meter AS m (serial, register{"".join(f", {name}" for name in kept)})
        SELECT DISTINCT ON (serial, coalesce(register, 'volume')) serial, coalesce(register, 'volume')
            {"".join(f", {value}" for value in values)}
        FROM import_stage ORDER BY serial, coalesce(register, 'volume'), row_number DESC
        ON CONFLICT (serial, register) {change}
        RETURNING (m.xmax = 0) AS inserted
        """,  # noqa: S608  (column names are our own)
    )


def _store_installations(session: Session, load: Load) -> None:
    always = {"always": ALWAYS}
    # a place known without a day learns its day
    session.execute(
        text(
            "UPDATE meter_installation i SET installed_at = s.installed_on FROM import_stage s"
            " WHERE i.serial = s.serial AND i.installed_at = :always AND s.installed_on IS NOT NULL"
            " AND coalesce(i.service_point, i.zone) = coalesce(s.service_point, s.zone)"
            " AND NOT EXISTS (SELECT FROM meter_installation o WHERE o.serial = s.serial"
            " AND o.installed_at = s.installed_on)"
        ),
        always,
    )
    # a row without a day means the place where the meter already is
    session.execute(
        text(
            "UPDATE import_stage s SET installed_on = coalesce((SELECT i.installed_at FROM meter_installation i"
            " WHERE i.serial = s.serial AND coalesce(i.service_point, i.zone) = coalesce(s.service_point, s.zone)"
            " ORDER BY i.installed_at DESC LIMIT 1), :always) WHERE s.installed_on IS NULL"
        ),
        always,
    )
    # a file without the column says nothing of the other side
    other_side = "excluded.to_zone" if "to_zone" in load.present else "i.to_zone"
    place = f"excluded.service_point, excluded.zone, excluded.direction, {other_side}"
    session.execute(
        text(
            "INSERT INTO meter_installation AS i"  # noqa: S608  (our own text)
            " (id, serial, service_point, zone, direction, to_zone, installed_at, removed_at)"
            " SELECT DISTINCT ON (serial, installed_on) gen_random_uuid(), serial, service_point, zone, direction,"
            " to_zone, installed_on, removed_on FROM import_stage ORDER BY serial, installed_on, row_number DESC"
            " ON CONFLICT (serial, installed_at) DO UPDATE SET (service_point, zone, direction, to_zone, removed_at)"
            f" = ({place}, coalesce(excluded.removed_at, i.removed_at))"
            " WHERE (i.service_point, i.zone, i.direction, i.to_zone, i.removed_at)"
            f" IS DISTINCT FROM ({place}, coalesce(excluded.removed_at, i.removed_at))"
        )
    )
    session.execute(
        text(
            "UPDATE meter_installation i SET removed_at = n.next FROM (SELECT id, lead(installed_at) OVER"
            " (PARTITION BY serial ORDER BY installed_at) AS next FROM meter_installation WHERE serial IN"
            " (SELECT serial FROM import_stage)) n"
            " WHERE n.id = i.id AND n.next IS NOT NULL AND (i.removed_at IS NULL OR i.removed_at > n.next)"
        )
    )
    # a meter in place is a fact of its place, unless a crew reported otherwise
    session.execute(
        text(
            "INSERT INTO place_fact AS f (service_point, fact, state, since)"
            " SELECT DISTINCT ON (service_point) service_point, 'meter', 'in_place', business_now() FROM import_stage"
            " WHERE service_point IS NOT NULL AND removed_on IS NULL ORDER BY service_point"
            " ON CONFLICT (service_point, fact) DO UPDATE SET state = excluded.state, since = excluded.since"
            " WHERE f.order_id IS NULL AND f.state <> excluded.state"
        )
    )


def _store_devices(session: Session) -> None:
    # a radio that now reports another meter ends with the former one on the day of the move
    session.execute(
        text(
            "UPDATE device d SET valid_to = s.installed_on FROM import_stage s WHERE s.device = d.device"
            " AND s.register = d.register AND d.valid_to IS NULL AND d.meter <> s.serial"
            " AND d.valid_from < s.installed_on"
        )
    )
    session.execute(
        text(
            "UPDATE device d SET decoder = s.decoder FROM import_stage s"
            " WHERE s.device = d.device AND s.register = d.register AND d.meter = s.serial AND d.valid_to IS NULL"
            " AND s.decoder IS NOT NULL AND d.decoder IS DISTINCT FROM s.decoder"
        )
    )
    session.execute(
        text(
            "INSERT INTO device (id, device, meter, register, decoder, valid_from)"
            " SELECT DISTINCT ON (s.device, s.register, s.installed_on) gen_random_uuid(), s.device, s.serial,"
            " s.register, s.decoder, s.installed_on FROM import_stage s WHERE s.device IS NOT NULL"
            " AND NOT EXISTS (SELECT FROM device d WHERE d.device = s.device AND d.register = s.register"
            " AND d.meter = s.serial AND d.valid_to IS NULL)"
            " ORDER BY s.device, s.register, s.installed_on, s.row_number DESC"
            " ON CONFLICT (device, register, valid_from)"
            " DO UPDATE SET meter = excluded.meter, decoder = excluded.decoder"
        )
    )


def _store_exchanges(session: Session) -> None:
    """A radio that went over to another meter of the same place says that the former meter was taken out that day."""
    moved = (
        "FROM import_stage s JOIN device d ON d.device = s.device AND d.register = s.register"
        " AND d.meter <> s.serial AND d.valid_to = s.installed_on WHERE s.device IS NOT NULL"
    )
    session.execute(
        text(
            "UPDATE meter_installation i SET removed_at = x.installed_on FROM (SELECT d.meter, s.installed_on,"  # noqa: S608
            f" s.service_point, s.zone {moved}) x WHERE i.serial = x.meter AND i.installed_at < x.installed_on"
            " AND (i.removed_at IS NULL OR i.removed_at > x.installed_on)"
            " AND i.service_point IS NOT DISTINCT FROM x.service_point AND i.zone IS NOT DISTINCT FROM x.zone"
        )
    )
    session.execute(
        text(
            "INSERT INTO rebooking (id, device, begins, reason, by) SELECT DISTINCT ON (d.device)"
            f" gen_random_uuid(), d.device, s.installed_on, 'meters were imported', 'import' {moved}"
            " ORDER BY d.device, s.installed_on"
        )
    )


METERS = Importer(
    kind="meters",
    columns=(
        Column("serial", "text", key, required=True),
        Column("service_point", "text", key),
        Column("zone", "text", key),
        Column("direction", "text", choice("in", "out")),
        Column("to_zone", "text", key),
        Column("unit", "text", unit),
        Column("multiplier", "numeric", above_zero),
        Column("dials", "integer", whole(1, 12)),
        Column("installed_on", "timestamptz", instant),
        Column("removed_on", "timestamptz", instant),
        Column("register", "text", key),
        Column("size_mm", "numeric", above_zero),
        Column("purpose", "text", choice(*PURPOSES)),
        Column("error_pct", "numeric", verified_error),
        Column("device", "text", device_id),
        Column("decoder", "text", key),
    ),
    check=_check,
    check_stored=_check_stored,
    store=_store,
)
