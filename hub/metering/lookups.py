"""Readings, raw messages and meters as lists for faces. Writes nothing."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, func, or_, select, text, tuple_
from sqlalchemy.orm import Session

from adapters.contracts import PULSE_COUNT, DeviceConfig, Envelope, MeterReading
from hub.db import raw_of
from hub.errors import NotFound
from hub.metering import decode, devices, readings
from hub.metering.alarms import words_of
from hub.models import Device, Meter, MeterInstallation, RawMessage, Reading

_READING = (
    Meter.serial,
    Meter.register,
    Reading.meter_id,
    Reading.measured_at,
    Reading.value,
    Reading.unit,
    Reading.value_m3,
    Reading.quality,
    Reading.flags,
    Reading.time_source,
    Reading.claimed_at,
    Reading.source,
    Reading.seq,
    Reading.raw_id,
    Reading.received_at,
    Reading.repeats,
)

_RAW = (
    RawMessage.id,
    RawMessage.received_at,
    RawMessage.source,
    RawMessage.topic,
    RawMessage.payload,
    RawMessage.adapter,
    RawMessage.device,
    RawMessage.retained,
    RawMessage.disposition,
    RawMessage.reason,
)
# Readings of a curve per register and quality: more than a screen has columns shows nothing more.
CURVE_POINTS = 700
# How many messages about several devices are opened to list who is in them, and how large they may be.
MIXED_MESSAGES, MIXED_BYTES = 50, 1 << 20


def of_meter(
    session: Session,
    serial: str,
    *,
    begins: datetime | None = None,
    ends: datetime | None = None,
    after: tuple[datetime, int] | None = None,
    limit: int = 100,
) -> Sequence[Any]:
    """Readings of all registers of a meter in [begins, ends), newest first. Raises NotFound."""
    ids = list(session.scalars(select(Meter.id).where(Meter.serial == serial)))
    if not ids:
        raise _no_meter(serial)
    query = select(*_READING).join(Meter, Meter.id == Reading.meter_id).where(Reading.meter_id.in_(ids))
    return session.execute(_paged(query, begins, ends, after, limit)).all()


def at(session: Session, serial: str, instant: datetime) -> Sequence[Any]:
    """The readings of all registers of a meter at one instant. Raises NotFound."""
    return of_meter(session, serial, begins=instant, ends=instant + timedelta(microseconds=1))


def of_device(
    session: Session,
    device: str,
    *,
    begins: datetime | None = None,
    ends: datetime | None = None,
    after: tuple[datetime, int] | None = None,
    limit: int = 100,
) -> Sequence[Any]:
    """Readings of the meters a device reported, while it reported them, newest first. Raises NotFound."""
    query = _of_device(devices.entries_of(session, device)[0].device)
    return session.execute(_paged(query, begins, ends, after, limit)).all()


def _of_device(key: str) -> Any:
    return (
        select(*_READING)
        .distinct()
        .join(Meter, Meter.id == Reading.meter_id)
        .join(
            Device,
            and_(
                Device.meter == Meter.serial,
                Device.valid_from <= Reading.measured_at,
                or_(Device.valid_to.is_(None), Reading.measured_at < Device.valid_to),
            ),
        )
        .where(Device.device == key)
    )


def _paged(
    query: Any, begins: datetime | None, ends: datetime | None, after: tuple[datetime, int] | None, limit: int
) -> Any:
    if begins is not None:
        query = query.where(Reading.measured_at >= begins)
    if ends is not None:
        query = query.where(Reading.measured_at < ends)
    if after is not None:
        query = query.where(tuple_(Reading.measured_at, Reading.meter_id) < after)
    return query.order_by(Reading.measured_at.desc(), Reading.meter_id.desc()).limit(limit)


def raw_messages(
    session: Session, device: str, *, after: tuple[datetime, int] | None = None, limit: int = 100
) -> Sequence[Any]:
    """Kept messages about one device, newest first."""
    query = select(*_RAW).where(RawMessage.device == devices.key(device))
    if after is not None:
        query = query.where(tuple_(RawMessage.received_at, RawMessage.id) < after)
    return session.execute(query.order_by(RawMessage.received_at.desc(), RawMessage.id.desc()).limit(limit)).all()


def alarms(session: Session, device: str, *, limit: int = 100) -> list[dict[str, Any]]:
    """Alarm words a device sent lately, newest first: `{at, alarms, raw_message}`; from readings and from bare alarms.

    A word is what the device said at that time: some latch for weeks, so the same word comes again and again.
    """
    found = []
    for row in session.execute(
        _of_device(devices.entries_of(session, device)[0].device)
        .where(func.cardinality(Reading.flags) > 0)
        .order_by(Reading.measured_at.desc())
        .limit(5 * limit)
    ):
        words = list(words_of(row.flags))
        if words:
            found.append({"at": row.measured_at, "alarms": words, "raw_message": row.raw_id})
    events = session.execute(
        select(RawMessage.id)
        .where(RawMessage.device == devices.key(device), RawMessage.disposition == "event_only")
        .order_by(RawMessage.received_at.desc())
        .limit(limit)
    )
    found += readings.alarms_of(session, [raw_id for (raw_id,) in events])
    return sorted(found, key=lambda one: one["at"], reverse=True)[:limit]


def meter(session: Session, serial: str) -> dict[str, Any]:
    """A meter with its registers, places, devices and newest reading. Raises NotFound."""
    registers = list(session.scalars(select(Meter).where(Meter.serial == serial).order_by(Meter.id)))
    if not registers:
        raise _no_meter(serial)
    places = session.scalars(
        select(MeterInstallation)
        .where(MeterInstallation.serial == serial)
        .order_by(MeterInstallation.installed_at.desc())
    ).all()
    entries = session.scalars(select(Device).where(Device.meter == serial).order_by(Device.valid_from.desc())).all()
    newest = session.execute(
        select(*_READING)
        .join(Meter, Meter.id == Reading.meter_id)
        .where(Reading.meter_id.in_([register.id for register in registers]))
        .order_by(Reading.measured_at.desc())
        .limit(1)
    ).first()
    return {"registers": registers, "places": list(places), "devices": list(entries), "newest": newest}


def register_curve(session: Session, serial: str, begins: datetime, ends: datetime) -> list[dict[str, Any]]:
    """The registers over [begins, ends), thinned to what a chart can show.

    One dictionary per register: `{register, unit, points: [[instant, value, quality, flags], …]}`, oldest first. The
    last reading of each stretch stands for it, of each quality apart, so that nothing doubtful is thinned away. Values
    are in m³, or as they came where nobody knows the unit (then `unit` is null). Raises NotFound.
    """
    registers = list(session.scalars(select(Meter).where(Meter.serial == serial).order_by(Meter.id)))
    if not registers:
        raise _no_meter(serial)
    rows = session.execute(
        text(
            "SELECT DISTINCT ON (r.meter_id, bucket, doubt) r.meter_id, r.measured_at, r.value_m3, r.value, r.quality,"
            " r.flags, date_bin(make_interval(secs => :width), r.measured_at, :begins) AS bucket,"
            " (r.quality, EXISTS (SELECT FROM unnest(r.flags) f WHERE f LIKE 'vee:%' OR f = 'edited'))::text AS doubt"
            " FROM reading r WHERE r.meter_id = ANY(:ids) AND r.measured_at >= :begins AND r.measured_at < :ends"
            " ORDER BY r.meter_id, bucket, doubt, r.measured_at DESC"
        ),
        {
            "ids": [register.id for register in registers],
            "begins": begins,
            "ends": ends,
            "width": max(1.0, (ends - begins).total_seconds() / CURVE_POINTS),
        },
    ).all()
    curves = []
    for register in registers:
        mine = sorted((row for row in rows if row.meter_id == register.id), key=lambda row: row.measured_at)
        known = any(row.value_m3 is not None for row in mine)
        points = [[row.measured_at, row.value_m3 if known else row.value, row.quality, row.flags] for row in mine]
        curves.append({"register": register.register, "unit": "m³" if known else None, "points": points})
    return curves


def raw_message(session: Session, message_id: int) -> Any:
    """One kept message. Raises NotFound."""
    found = session.execute(select(*_RAW).where(RawMessage.id == message_id)).first()
    if found is None:
        raise NotFound("There is no such message, or it is no longer kept.", field="id", value=str(message_id))
    return found


def decoded(session: Session, row: Any) -> dict[str, Any]:
    """What a kept message becomes under today's registry, step by step, as `curbstop decode` tells it."""
    payload = bytes(row.payload)
    profiles = devices.profiles(raw_of(session), _named_in(row.adapter, row.topic, payload))
    serials = {entry.meter for entries in profiles.values() for entry in entries}
    registers = devices.registers(raw_of(session), serials)

    def told(envelope: Envelope, reading: MeterReading | None) -> DeviceConfig:
        names = (envelope.device or "", *envelope.aliases) if reading is None else (reading.device or "",)
        at = (reading.measured_at if reading else envelope.time) or row.received_at
        entries = next((found for name in names if (found := profiles.get(devices.key(name)))), [])
        entry = next((one for one in entries if one.covers(at)), None)
        if entry is None:
            return DeviceConfig()
        config = entry.decoding
        dial = registers.get((entry.meter, entry.register))
        if reading is not None and reading.register != PULSE_COUNT and config.unit is None and dial is not None:
            # a bare register counts as the meter's dial does, a pulse never
            config = replace(config, unit=dial.unit, multiplier=dial.multiplier)
        return config

    return decode.described(
        row.topic,
        payload,
        adapter=row.adapter,
        config=told,
        received_at=row.received_at,
        max_bytes=decode.MAX_BATCH_BYTES,
    )


def _named_in(adapter: str | None, topic: str, payload: bytes) -> set[str]:
    """Every device that a message names, in registry spelling."""
    names: set[str] = set()
    for envelope in decode.open_message(adapter, topic, payload, max_bytes=decode.MAX_BATCH_BYTES).envelopes:
        readings_in = decode.decode_envelope(envelope, DeviceConfig())[1].readings
        found = (envelope.device, *envelope.aliases, *(reading.device for reading in readings_in))
        names.update(devices.key(name) for name in found if name)
    return names


def unclaimed(session: Session, *, limit: int = 200) -> list[dict[str, Any]]:
    """Devices that report without being registered: `{device, adapter, messages, first_at, last_at}`, newest first.

    Messages about several devices are opened to see who is in them, the newest ones only.
    """
    found = {one["device"]: one for one in devices.unclaimed(session, limit=limit)}
    mixed = session.execute(
        select(*_RAW)
        .where(RawMessage.disposition == "unclaimed", RawMessage.device.is_(None))
        .where(func.length(RawMessage.payload) <= MIXED_BYTES)
        .order_by(RawMessage.received_at.desc())
        .limit(MIXED_MESSAGES)
    ).all()
    named = [(row, _named_in(row.adapter, row.topic, bytes(row.payload))) for row in mixed]
    known = devices.profiles(raw_of(session), {name for _, names in named for name in names})
    for row, names in named:
        for name in names - known.keys():
            at = row.received_at
            one = found.setdefault(name, {"device": name, "adapter": row.adapter, "messages": 0, "first_at": at})
            one |= {
                "messages": one["messages"] + 1,
                "first_at": min(one["first_at"], at),
                "last_at": max(one.get("last_at", at), at),
            }
    return sorted(found.values(), key=lambda one: one["last_at"], reverse=True)[:limit]


def _no_meter(serial: str) -> NotFound:
    return NotFound(f"There is no meter {serial[:80]!r}.", field="serial", remedy="Import it, or register its device.")
