"""Meters: what they are and where, their readings, and the consumption derived from them."""

from decimal import Decimal
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from hub.api import reading_shapes
from hub.auth import Principal
from hub.metering import exchanges, lookups, network, revisions, usage
from hub.web import Config, Json, Tx, allow
from hub.work import meter_exchanges

router = APIRouter(prefix="/api/v1/meters", tags=["meters"])
READERS = ("admin", "supervisor", "dispatcher", "billing", "analyst")
WRITERS = ("admin", "supervisor", "dispatcher")


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
    begins, ends = reading_shapes.period(from_, to, config.zone)
    named = reading_shapes.step_named(step)
    used, events = usage.of_meter(session, serial, begins=begins, ends=ends, step=named, zone=config.zone)
    return Json({"meter": serial} | reading_shapes.consumption(used, events, step, begins, ends))


@router.get("/{serial}/register-curve")
def get_register_curve(
    serial: str,
    session: Tx,
    config: Config,
    from_: Annotated[str, Query(alias="from")],
    to: str,
    who: Principal = allow(*READERS),
) -> Json:
    """The meter's registers over [from, to), thinned to what a chart can show; nothing doubtful is left out.

    `points` are [instant, value, quality, flags], oldest first.
    """
    begins, ends = reading_shapes.period(from_, to, config.zone)
    return Json(
        {"meter": serial, "from": begins, "to": ends, "items": lookups.register_curve(session, serial, begins, ends)}
    )


class NewRead(BaseModel):
    """A register as somebody read it."""

    model_config = ConfigDict(extra="forbid")

    value: Annotated[Decimal, Field(ge=0, lt=10**15)]
    unit: Annotated[str, Field(max_length=40)] | None = None
    register_: Annotated[str, Field(alias="register", max_length=60)] = "volume"


class NewMeter(BaseModel):
    """The meter that was put in; what is left out is unknown, or known from an import."""

    model_config = ConfigDict(extra="forbid")

    serial: Annotated[str, Field(min_length=1, max_length=200)]
    unit: Annotated[str, Field(max_length=40)] | None = None
    multiplier: Annotated[Decimal, Field(gt=0, lt=10**9)] | None = None
    dials: Annotated[int, Field(ge=1, le=12)] | None = None
    size_mm: Annotated[Decimal, Field(gt=0, lt=10**5)] | None = None


class Exchange(BaseModel):
    """Which meter took this one's place, when, and what both showed."""

    model_config = ConfigDict(extra="forbid")

    new: NewMeter
    at: AwareDatetime
    final_read: NewRead | None = None
    start_read: NewRead | None = None
    device: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, description="the new meter's own radio; left out: the old meter's devices report the new one"
    )


@router.post("/{serial}/exchange", status_code=201)
def exchange_meter(serial: str, what: Exchange, session: Tx, who: Principal = allow(*WRITERS)) -> Json:
    """Another meter took this one's place: its interval ends, the new one's begins, consumption restarts at the reads.

    Devices go over to the new meter at that instant; what they sent since is booked to it. Billing hears
    `meter.exchanged`.
    """
    reads = [None if read is None else read.model_dump(by_alias=True) for read in (what.final_read, what.start_read)]
    made = meter_exchanges.exchange(
        session,
        serial,
        exchanges.NewMeter(**what.new.model_dump()),
        at=reading_shapes.known_instant(what.at, "at"),
        by=who.actor,
        final=reads[0],
        start=reads[1],
        device=what.device,
    )
    return Json(
        {
            "old": serial,
            "new": made.serial,
            "service_point": made.service_point,
            "zone": made.zone,
            "installed_at": made.installed_at,
        },
        status_code=201,
    )


class Edit(BaseModel):
    """What a person says of a reading."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["accept", "replace", "estimate", "reject"]
    reason: Annotated[str, Field(min_length=1, max_length=1000)]
    register_: Annotated[str, Field(alias="register", max_length=60)] = "volume"
    value: Annotated[Decimal, Field(ge=0, lt=10**15)] | None = None
    unit: Annotated[str, Field(max_length=40)] | None = None


@router.post("/{serial}/readings/{measured_at}/edit")
def edit_reading(
    serial: str,
    measured_at: str,
    what: Edit,
    session: Tx,
    config: Config,
    who: Principal = allow("admin", "supervisor", "dispatcher", "billing"),
) -> Json:
    """Accept, replace, estimate or reject a reading, with a reason; what it was is kept as a revision."""
    at = reading_shapes.moment(measured_at, "measured_at", config.zone)
    assert at is not None
    revisions.edit(
        session,
        serial,
        at,
        action=what.action,
        by=who.actor,
        reason=what.reason,
        register=what.register_,
        value=what.value,
        unit=what.unit,
    )
    return Json(reading_shapes.with_revisions(session, serial, what.register_, at))


@router.get("/{serial}/readings/{measured_at}")
def get_reading(
    serial: str,
    measured_at: str,
    session: Tx,
    config: Config,
    who: Principal = allow(*READERS),
    register: str = "volume",
) -> Json:
    """One reading, and what it was before it was changed, oldest first."""
    at = reading_shapes.moment(measured_at, "measured_at", config.zone)
    assert at is not None
    return Json(reading_shapes.with_revisions(session, serial, register, at))


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
    begins, ends = reading_shapes.period(from_, to, config.zone)
    days = network.completeness(session, serial, begins, ends, config.time_zone)
    return Json({"meter": serial, "from": begins, "to": ends, "items": days, "next_cursor": None})
