"""Meters: what they are and where, their readings, and the consumption derived from them."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from hub.api import reading_shapes
from hub.auth import Principal
from hub.errors import BadInput
from hub.metering import consumption, lookups, network
from hub.web import Config, Json, Tx, allow

router = APIRouter(prefix="/api/v1/meters", tags=["meters"])
READERS = ("admin", "supervisor", "dispatcher", "billing", "analyst")


@router.get("/{serial}")
def get_meter(serial: str, session: Tx, who: Principal = allow(*READERS)) -> Json:
    """A meter with its registers, where it measures and measured, its devices and its newest reading."""
    found = lookups.meter(session, serial)
    first, here = found["registers"][0], next((one for one in found["places"] if one.removed_at is None), None)
    return Json(
        {
            "serial": serial,
            "purpose": first.purpose,
            "size_mm": first.size_mm,
            "service_point": here.service_point if here else None,
            "zone": here.zone if here else None,
            "registers": [
                {"register": one.register, "unit": one.unit, "multiplier": one.multiplier, "dials": one.dials}
                for one in found["registers"]
            ],
            "installations": [
                {
                    "service_point": one.service_point,
                    "zone": one.zone,
                    "direction": one.direction,
                    "to_zone": one.to_zone,
                    "installed_at": one.installed_at,
                    "removed_at": one.removed_at,
                }
                for one in found["places"]
            ],
            "devices": [reading_shapes.entry(one) for one in found["devices"]],
            "last_reading": reading_shapes.reading(found["newest"]) if found["newest"] else None,
        }
    )


@router.get("/{serial}/readings")
def list_meter_readings(
    serial: str,
    session: Tx,
    config: Config,
    who: Principal = allow(*READERS),
    from_: Annotated[str | None, Query(alias="from")] = None,
    to: str | None = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Json:
    """Readings of a meter in [from, to), newest first."""
    rows = lookups.of_meter(
        session,
        serial,
        begins=reading_shapes.moment(from_, "from", config.zone),
        ends=reading_shapes.moment(to, "to", config.zone),
        after=reading_shapes.after(cursor),
        limit=limit + 1,
    )
    return Json(reading_shapes.readings_page(rows, limit))


@router.get("/{serial}/consumption")
def get_meter_consumption(
    serial: str,
    session: Tx,
    config: Config,
    from_: Annotated[str, Query(alias="from")],
    to: str,
    who: Principal = allow(*READERS),
    step: str = "day",
) -> Json:
    """Consumption by hour, local day or local month, with what is missing or estimated marked."""
    if step not in consumption.STEPS:
        raise BadInput(f"There is no step {step[:40]!r}.", field="step", remedy="Use hour, day or month.")
    begins, ends = (reading_shapes.moment(value, name, config.zone) for value, name in ((from_, "from"), (to, "to")))
    assert begins is not None and ends is not None
    used, events = consumption.of_meter(session, serial, begins=begins, ends=ends, step=step, zone=config.zone)
    known = [one.volume_m3 for one in used if one.volume_m3 is not None]
    return Json(
        {
            "meter": serial,
            "step": step,
            "from": begins,
            "to": ends,
            "total_m3": round(float(sum(known)), 6) if known else None,
            "items": [_used(one) for one in used],
            "events": [
                {"at": one.at, "kind": one.kind, "before_m3": float(one.before_m3), "after_m3": float(one.after_m3)}
                for one in events
            ],
            "next_cursor": None,
        }
    )


@router.get("/{serial}/completeness")
def get_meter_completeness(
    serial: str,
    session: Tx,
    config: Config,
    from_: Annotated[str, Query(alias="from")],
    to: str,
    who: Principal = allow(*READERS),
) -> Json:
    """Readings per local day and register, beside what a usual day brings."""
    begins, ends = (reading_shapes.moment(value, name, config.zone) for value, name in ((from_, "from"), (to, "to")))
    assert begins is not None and ends is not None
    if ends <= begins:
        raise BadInput("The time must end after it begins.", field="to")
    days = network.completeness(session, serial, begins, ends, config.time_zone)
    return Json({"meter": serial, "from": begins, "to": ends, "items": days, "next_cursor": None})


def _used(one: consumption.Used) -> dict[str, Any]:
    return {
        "from": one.begins,
        "to": one.ends,
        "volume_m3": None if one.volume_m3 is None else round(float(one.volume_m3), 6),
        "coverage": round(one.coverage, 4),
        "estimated": one.estimated,
        "missing": one.missing,
    }
