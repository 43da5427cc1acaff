"""The device registry: which radio endpoint reports which meter, from when, and how its messages are read.

Writes `device` (and `meter`, for a serial nobody imported yet) and the change log, in the caller's transaction.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple
from zoneinfo import available_timezones

import psycopg
from psycopg.rows import class_row
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from adapters import meters, units
from adapters.contracts import VOLUME, DeviceConfig
from hub import changes, clock
from hub.db import new_id
from hub.errors import BadInput, NotFound, storable, storable_text
from hub.models import Device, Meter, Rebooking
from hub.paths import nameable

# Where nobody says since when: before any reading.
ALWAYS = datetime(1900, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=200_000)
def key(device: str) -> str:
    """A device's identity as the registry spells it: radio identities differ in case from sender to sender."""
    return device.strip().lower()


@dataclass(slots=True)
class Profile:
    """One registry entry as the pipeline uses it; `meter_id` is the register it books to."""

    device: str
    register: str
    meter: str
    meter_id: int
    adapter: str | None
    decoder: str | None
    config: dict[str, Any]
    unit: str | None
    multiplier: Decimal
    register_modulus_m3: Decimal | None
    time_zone: str | None
    revising: bool
    gateway: str | None
    valid_from: datetime
    valid_to: datetime | None
    decoding: DeviceConfig = field(init=False)

    def __post_init__(self) -> None:
        """What a decoder needs to know of the device, made once for all its messages."""
        self.decoding = DeviceConfig(self.decoder, self.unit, self.multiplier, self.time_zone, self.config)

    def covers(self, at: datetime) -> bool:
        """Whether the entry is valid at `at`."""
        return self.valid_from <= at and (self.valid_to is None or at < self.valid_to)


class MeterRegister(NamedTuple):
    """One register of a meter, as the pipeline uses it."""

    id: int
    unit: str | None
    multiplier: Decimal
    dials: int | None

    def modulus_m3(self) -> Decimal | None:
        """The volume after which the register starts again at zero, or None when its dials are not known."""
        return None if self.dials is None else units.to_m3(Decimal(10) ** self.dials, self.unit, self.multiplier)


def profiles(connection: "psycopg.Connection[tuple[Any, ...]]", devices: Collection[str]) -> dict[str, list[Profile]]:
    """The registry entries of `devices` (in registry spelling), newest first."""
    found: dict[str, list[Profile]] = {}
    if not devices:
        return found
    with connection.cursor(row_factory=class_row(Profile)) as cursor:
        cursor.execute(
            "SELECT d.device, d.register, d.meter, m.id AS meter_id, d.adapter, d.decoder, d.config, d.unit,"
            " d.multiplier, d.register_modulus_m3, d.time_zone, d.revising, d.gateway, d.valid_from, d.valid_to"
            " FROM device d JOIN meter m ON m.serial = d.meter AND m.register = d.register"
            " WHERE d.device = ANY(%s) ORDER BY d.device, d.valid_from DESC",
            [list(devices)],
        )
        for profile in cursor:
            found.setdefault(profile.device, []).append(profile)
    return found


def registers(
    connection: "psycopg.Connection[tuple[Any, ...]]", serials: Collection[str]
) -> dict[tuple[str, str], MeterRegister]:
    """Every register of the meters with these serials, by (serial, register)."""
    if not serials:
        return {}
    rows = connection.execute(
        "SELECT serial, register, id, unit, multiplier, dials FROM meter WHERE serial = ANY(%s)", [list(serials)]
    )
    return {(serial, register): MeterRegister(*rest) for serial, register, *rest in rows}


def queue_rebooking(
    session: Session, device: str, *, begins: datetime, ends: datetime | None = None, by: str, reason: str
) -> None:
    """Have what `device` measured in [begins, ends) booked anew by `rebooking.run`: what was said of it has changed."""
    session.add(Rebooking(id=new_id(), device=key(device), begins=begins, ends=ends, by=by, reason=reason))
    session.flush()


def add_registers(
    connection: "psycopg.Connection[tuple[Any, ...]]", wanted: Collection[tuple[str, str]]
) -> dict[tuple[str, str], MeterRegister]:
    """Add side registers (reverse volume, interval volume) to known meters, spelled in cubic metres."""
    connection.execute(
        "INSERT INTO meter (serial, register, unit) SELECT s, r, 'm3' FROM unnest(%s::text[], %s::text[]) u(s, r)"
        " ORDER BY s, r ON CONFLICT (serial, register) DO NOTHING",
        [[serial for serial, _ in wanted], [register for _, register in wanted]],
    )
    return registers(connection, {serial for serial, _ in wanted})


def check_unit(unit: str | None) -> str | None:
    """The canonical spelling of a volume unit. Raises BadInput for one that is not known."""
    if unit is None:
        return None
    known = units.canonical(unit)
    if known is None:
        raise BadInput(
            f"{unit[:40]!r} is no unit of volume the hub knows.",
            field="unit",
            remedy=f"Use one of {', '.join(units.FACTORS_M3)}.",
        )
    return known


def _check(fields: Mapping[str, Any]) -> None:
    for name, known, listed in (
        ("adapter", meters.adapter_named, meters.ADAPTERS),
        ("decoder", meters.decoder_named, meters.DECODERS),
    ):
        given = fields.get(name)
        if given is not None and known(given) is None:
            raise BadInput(
                f"There is no {name} {given[:60]!r}.", field=name, remedy=f"Use one of {', '.join(sorted(listed))}."
            )
    zone, multiplier, modulus = (fields.get(name) for name in ("time_zone", "multiplier", "register_modulus_m3"))
    if zone is not None and zone not in available_timezones():
        raise BadInput(f"{zone[:60]!r} is no IANA time zone.", field="time_zone", remedy="Write e.g. America/Chicago.")
    for name, number in (("multiplier", multiplier), ("register_modulus_m3", modulus)):
        if number is not None and not (number.is_finite() and 0 < number < Decimal(10) ** 12):
            raise BadInput(f"{name} must be a positive number.", field=name, value=str(number))


def _identity(value: str, name: str) -> str:
    found = storable_text(value).strip()
    if not found or len(found) > 200:
        raise BadInput(f"{name} must be 1 to 200 characters.", field=name)
    if not nameable(found):
        raise BadInput(f"{name} is no identifier.", field=name, remedy="Dots alone cannot stand in an address.")
    return found


def register(
    session: Session,
    *,
    device: str,
    meter: str,
    by: str,
    register: str = VOLUME,
    valid_from: datetime | None = None,
    **profile: Any,
) -> Device:
    """Say that `device` reports `register` of the meter with that serial from `valid_from` on, and how it is read.

    `profile`: adapter, decoder, config, unit, multiplier (what one count means, in `unit`), register_modulus_m3,
    time_zone, revising, gateway. Without `valid_from` the first entry of a device holds from ever, a later one from
    now; the entry before it ends where the new one begins. The same entry again changes nothing; the same `valid_from`
    with other words corrects that entry, and what it leaves out stays. Whatever changes for a time that has passed is
    booked anew from the kept messages. A serial that nobody imported yet becomes a meter without a place. Raises
    BadInput.
    """
    _check(profile)
    identity, serial = key(_identity(device, "device")), _identity(meter, "meter")
    register = _identity(register, "register")
    values = {name: value for name, value in profile.items() if value is not None}
    if "unit" in values:
        values["unit"] = check_unit(values["unit"])
    if "config" in values:
        values["config"] = storable(values["config"])
    now = clock.now(session)
    session.execute(
        upsert(Meter)
        .values(
            serial=serial, register=register, unit=values.get("unit"), multiplier=values.get("multiplier", Decimal(1))
        )
        .on_conflict_do_nothing(index_elements=["serial", "register"])
    )
    entries = session.scalars(
        select(Device)
        .where(Device.device == identity, Device.register == register)
        .order_by(Device.valid_from)
        .with_for_update()
    ).all()
    last = entries[-1] if entries else None
    likely = [entry for entry in entries if valid_from in (None, entry.valid_from)]
    same = next((entry for entry in likely if _equal(entry, serial, values)), None)
    if same is not None and (valid_from is not None or same is last):
        return same
    begins = valid_from or (now if entries else ALWAYS)
    before = {name: getattr(known, name) for known in entries if known.valid_from == begins for name in values}
    entry = next((known for known in entries if known.valid_from == begins), None)
    if entry is None:
        entry = Device(id=new_id(), device=identity, register=register, valid_from=begins)
        session.add(entry)
    entry.meter = serial
    for name, value in values.items():
        setattr(entry, name, value)
    _fit(entry, entries)
    session.flush()
    session.refresh(entry)
    _note(session, entry, before, late=bool(entries) and begins < now, by=by)
    return entry


def _note(session: Session, entry: Device, before: Mapping[str, Any], *, late: bool, by: str) -> None:
    """Have what an entry changes `late` booked anew, and log it with what it said `before`."""
    begins = entry.valid_from.isoformat()
    if late:
        reason = f"registry entry of {entry.device} from {begins}"
        queue_rebooking(session, entry.device, begins=entry.valid_from, ends=entry.valid_to, by=by, reason=reason)
    detail: dict[str, Any] = {"meter": entry.meter, "register": entry.register, "valid_from": begins}
    if before:
        detail["before"] = {name: str(value) for name, value in before.items()}
    changes.record(session, actor=by, subject_type="device", subject_id=entry.device, verb="registered", detail=detail)


def _fit(entry: Device, others: Sequence[Device]) -> None:
    """The entry before ends where `entry` begins, and `entry` where the next one does."""
    before = [known for known in others if known.valid_from < entry.valid_from]
    after = [known for known in others if known.valid_from > entry.valid_from]
    if before and (before[-1].valid_to is None or before[-1].valid_to > entry.valid_from):
        before[-1].valid_to = entry.valid_from
    if after and (entry.valid_to is None or entry.valid_to > after[0].valid_from):
        entry.valid_to = after[0].valid_from


def _equal(entry: Device, serial: str, values: Mapping[str, Any]) -> bool:
    return entry.meter == serial and all(getattr(entry, name) == value for name, value in values.items())


def listed(session: Session, *, after: str | None = None, meter: str | None = None, limit: int = 100) -> list[Device]:
    """Registry entries by device; `after` is the last device and start of the page before."""
    query = select(Device).order_by(Device.device, Device.register, Device.valid_from).limit(limit)
    if meter is not None:
        query = query.where(Device.meter == meter)
    if after is not None:
        query = query.where(Device.device > after)
    return list(session.scalars(query))


def entries_of(session: Session, device: str) -> list[Device]:
    """The registry entries of one device, oldest first. Raises NotFound when there are none."""
    found = list(session.scalars(select(Device).where(Device.device == key(device)).order_by(Device.valid_from)))
    if not found:
        raise NotFound(f"Device {device[:80]!r} is not registered.", field="device", remedy="POST /api/v1/devices.")
    return found


def unclaimed(session: Session, *, limit: int = 200) -> list[dict[str, Any]]:
    """Devices whose messages wait because nobody registered them: `{device, adapter, messages, first_at, last_at}`."""
    rows = session.execute(
        text(
            "SELECT device, max(adapter), count(*), min(received_at), max(received_at) FROM raw_message"
            " WHERE disposition = 'unclaimed' AND device IS NOT NULL GROUP BY device ORDER BY 4 DESC LIMIT :limit"
        ),
        {"limit": limit},
    )
    names = ("device", "adapter", "messages", "first_at", "last_at")
    return [dict(zip(names, row, strict=True)) for row in rows]
