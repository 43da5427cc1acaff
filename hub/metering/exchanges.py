"""Meter exchange: the old meter's interval at its place ends, the new one's begins, with both reads.

Writes `meter`, `meter_installation`, `device`, readings and the change log in the caller's transaction. Devices go over
to the new meter at that instant; what they sent since is booked anew to it, and late messages find the right meter by
their measured time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
from sqlalchemy import select
from sqlalchemy.orm import Session

from adapters.contracts import VOLUME
from hub import changes, clock
from hub.db import new_id
from hub.errors import BadInput, Conflict, NotFound, storable_text
from hub.metering import devices, readings
from hub.metering.booking import SIDE_REGISTERS
from hub.metering.ledger import Message
from hub.models import Device, Meter, MeterInstallation


@dataclass(frozen=True)
class NewMeter:
    """What is known of the meter that was put in: its dial (`unit`, `multiplier`, `dials`) and its size."""

    serial: str
    unit: str | None = None
    multiplier: Decimal | None = None
    dials: int | None = None
    size_mm: Decimal | None = None


def exchange(
    session: Session,
    old: str,
    new: NewMeter,
    *,
    at: datetime,
    by: str,
    final: Mapping[str, Any] | None = None,
    start: Mapping[str, Any] | None = None,
    device: str | None = None,
) -> MeterInstallation:
    """At `at`, meter `new` took the place of meter `old`; the new installation.

    `final` and `start` are the reads `{value, unit}` of the old and the new meter at that instant. Without `device` the
    old meter's devices report the new one from then on; with it they end, and `device` begins. Raises NotFound,
    BadInput, Conflict where the meters are not where they would have to be.
    """
    serial = storable_text(new.serial).strip()
    if not serial or len(serial) > 200 or serial == old:
        raise BadInput("The new meter needs a serial of its own.", field="new.serial", value=serial[:80])
    if at > clock.now(session) + timedelta(minutes=15):
        raise BadInput("An exchange to come cannot be booked.", field="at", value=at.isoformat())
    place = _place_of(session, old, at)
    _registers(session, old, new, serial)
    _check_free(session, serial, at)
    installed = MeterInstallation(
        id=new_id(),
        serial=serial,
        service_point=place.service_point,
        zone=place.zone,
        direction=place.direction,
        to_zone=place.to_zone,
        installed_at=at,
        removed_at=place.removed_at,
    )
    place.removed_at = at
    session.add(installed)
    session.flush()
    _move_devices(session, old, serial, at, by, device)
    for meter, read, kind in ((old, final, "final"), (serial, start, "start")):
        if read is not None:
            _book(session, meter, read, at, by, kind)
    for subject, verb, other in ((old, "removed_by_exchange", serial), (serial, "installed_by_exchange", old)):
        changes.record(
            session,
            actor=by,
            subject_type="meter",
            subject_id=subject,
            verb=verb,
            detail={"other": other, "at": at.isoformat(), "service_point": place.service_point, "zone": place.zone},
        )
    return installed


def _check_free(session: Session, serial: str, at: datetime) -> None:
    """Raises Conflict for a meter that stands somewhere else at `at`, or will."""
    elsewhere = session.scalar(
        select(MeterInstallation).where(
            MeterInstallation.serial == serial,
            (MeterInstallation.removed_at.is_(None)) | (MeterInstallation.removed_at > at),
        )
    )
    if elsewhere is not None:
        raise Conflict(
            f"Meter {serial} is installed at {elsewhere.service_point or elsewhere.zone} already.",
            field="new.serial",
            value=serial,
            remedy="Check the serial, or correct that installation first.",
        )


def _place_of(session: Session, serial: str, at: datetime) -> MeterInstallation:
    if session.scalar(select(Meter.id).where(Meter.serial == serial).limit(1)) is None:
        raise NotFound(f"There is no meter {serial[:80]!r}.", field="serial", remedy="Import it.")
    found = session.scalar(
        select(MeterInstallation)
        .where(
            MeterInstallation.serial == serial,
            MeterInstallation.installed_at < at,
            (MeterInstallation.removed_at.is_(None)) | (MeterInstallation.removed_at > at),
        )
        .with_for_update()
    )
    if found is None:
        raise Conflict(
            f"Meter {serial} was in no place at that time.",
            field="at",
            value=at.isoformat(),
            remedy="Give the instant of the exchange; a meter without a place is imported with its place.",
        )
    return found


def _registers(session: Session, old: str, new: NewMeter, serial: str) -> None:
    """The new meter's counting registers, named as the old one's, unless somebody imported it already."""
    unit = devices.check_unit(new.unit)
    if new.dials is not None and not 1 <= new.dials <= 12:
        raise BadInput("A register has 1 to 12 digits.", field="new.dials", value=new.dials)
    if new.multiplier is not None and not 0 < new.multiplier < 10**9:
        raise BadInput("The multiplier must be a positive number.", field="new.multiplier", value=str(new.multiplier))
    known = set(session.scalars(select(Meter.register).where(Meter.serial == serial)))
    for former in session.scalars(select(Meter).where(Meter.serial == old).order_by(Meter.id)):
        if former.register in SIDE_REGISTERS or former.register in known:
            continue
        if unit is None:
            raise BadInput(
                f"It is not said what one unit on the dial of {serial} means.",
                field="new.unit",
                remedy="Give the unit of the new meter, or import it first.",
            )
        session.add(
            Meter(
                serial=serial,
                register=former.register,
                unit=unit,
                multiplier=new.multiplier or Decimal(1),
                dials=new.dials,
                size_mm=new.size_mm if new.size_mm is not None else former.size_mm,
                purpose=former.purpose,
            )
        )
    session.flush()


def _move_devices(session: Session, old: str, new: str, at: datetime, by: str, device: str | None) -> None:
    entries = session.scalars(
        select(Device).where(Device.meter == old, (Device.valid_to.is_(None)) | (Device.valid_to > at))
    ).all()
    for entry in entries:
        if entry.register in SIDE_REGISTERS:
            continue
        if device is None:
            # what one count means belongs to the radio's input; how far the dials go belonged to the old meter
            devices.register(
                session,
                device=entry.device,
                meter=new,
                by=by,
                register=entry.register,
                valid_from=max(at, entry.valid_from),
                adapter=entry.adapter,
                decoder=entry.decoder,
                config=entry.config or None,
                unit=entry.unit,
                multiplier=entry.multiplier,
                time_zone=entry.time_zone,
                revising=entry.revising or None,
                gateway=entry.gateway,
            )
        elif entry.valid_from < at:
            entry.valid_to = at
            session.flush()
            reason = f"meter {old} was exchanged for {new}"
            devices.queue_rebooking(session, entry.device, begins=at, by=by, reason=reason)
    if device is not None:
        devices.register(session, device=device, meter=new, by=by, valid_from=at)


def _book(session: Session, meter: str, read: Mapping[str, Any], at: datetime, by: str, kind: str) -> None:
    item = {
        "meter": meter,
        "register": read.get("register") or VOLUME,
        "value": str(read["value"]),
        "measured_at": at.astimezone(UTC).isoformat(),
    }
    if read.get("unit"):
        item["unit"] = read["unit"]
    body = orjson.dumps({"readings": [item]})
    batch = readings.receive(session, [Message(f"exchange:{by}", f"exchange/{kind}", body, "plain")], live=False)
    (result,) = batch.results[0]
    if result.outcome == "quarantined" and result.reason != "value_conflict":
        raise BadInput(f"The {kind} read cannot be: {result.detail}.", field=kind, value=str(read["value"])[:60])
