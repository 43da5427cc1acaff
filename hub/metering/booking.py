"""Judging one decoded reading: which register of which meter it is, whether its time and value can be true. Pure.

The result is a `Row` to store, a `Refused` with its reason, or None for a device nobody registered.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from adapters.contracts import (
    ALARM,
    INDEX_RAW,
    PULSE_COUNT,
    VOLUME,
    VOLUME_INTERVAL,
    VOLUME_REVERSE,
    Decoded,
    MeterReading,
    Refused,
)
from hub.metering import decode
from hub.metering.devices import MeterRegister, Profile, key

SIDE_REGISTERS = frozenset({VOLUME_REVERSE, VOLUME_INTERVAL})
_MAIN_REGISTERS = frozenset({VOLUME, PULSE_COUNT, INDEX_RAW})


@dataclass(slots=True)
class Row:
    """A reading ready to be stored, and where it came from (`message` and `position` in the batch)."""

    meter_id: int
    measured_at: datetime
    value: Decimal
    unit: str | None
    value_m3: Decimal | None
    quality: str
    flags: str
    time_source: str
    claimed_at: datetime | None
    seq: int | None
    device: str | None
    meter: str
    register: str
    revising: bool
    message: int = 0
    position: int = 0


@dataclass(slots=True)
class Registry:
    """What a batch needs to know of devices and meters."""

    profiles: dict[str, list[Profile]]
    registers: dict[tuple[str, str], MeterRegister]
    serials: Set[str]


def refusal(reading: MeterReading, reason: str, detail: str) -> Refused:
    """The reading as a refusal, with everything that identifies it."""
    value = None if reading.value is None else str(reading.value)
    return Refused(reason, detail, reading.device or reading.meter, reading.register, reading.measured_at, value)


def judge(
    reading: MeterReading, *, registry: Registry, received_at: datetime, gateway: str | None, retained: bool, live: bool
) -> Row | Refused | None:
    """What becomes of `reading`, arrived at `received_at`; None when its device or meter is not registered.

    `gateway` is who published the message, when the topic says so.

    `live` readings must lie between 400 days before and 15 minutes after their arrival; outside it the arrival counts,
    the claimed time is kept and the reading is suspect. Imports may be of any past date.
    """
    at = reading.measured_at
    if retained and at is None:
        return refusal(
            reading, "retained_without_time", "a retained message without its own time says nothing about when"
        )
    if at is None and reading.time_source == "headend":
        return refusal(reading, "time_without_zone", "a local time, and the device's time zone is not registered")
    profile: Profile | None = None
    if reading.meter is None:
        if reading.device is None:
            return refusal(reading, "no_device", "the message does not say whose register it is")
        entries = registry.profiles.get(key(reading.device))
        if not entries:
            return None
        profile = _entry(entries, reading, at or received_at)
        if profile is None:
            return refusal(reading, "outside_validity", "the device was not registered for a meter at that time")
        if profile.gateway is not None and gateway is not None and profile.gateway != gateway:
            return refusal(
                reading, "wrong_gateway", f"the device is bound to {profile.gateway}; {gateway} spoke for it"
            )
    elif reading.device is not None:
        entries = registry.profiles.get(key(reading.device), [])
        known = _entry(entries, reading, at or received_at)
        if known is not None and known.meter != reading.meter:
            return refusal(
                reading, "other_serial", f"the device reports meter {known.meter}, and now names {reading.meter[:80]}"
            )
    serial = profile.meter if profile else reading.meter or ""
    name = _register_name(reading, profile)
    target = registry.registers.get((serial, name))
    if target is None:
        if serial not in registry.serials:
            return None
        return refusal(reading, "unknown_register", f"meter {serial} has no register {name!r}")
    return _judged(reading, profile, target, serial, name, received_at, live)


def _entry(entries: list[Profile], reading: MeterReading, at: datetime) -> Profile | None:
    """The entry valid at `at`, and for the register or channel that the reading names if the device has several."""
    if len(entries) == 1:
        return entries[0] if entries[0].covers(at) else None
    valid = [entry for entry in entries if entry.covers(at)]
    wanted = (reading.register, reading.channel)
    return next((entry for entry in valid if entry.register in wanted), valid[0] if valid else None)


def _register_name(reading: MeterReading, profile: Profile | None) -> str:
    if reading.register in _MAIN_REGISTERS:
        return profile.register if profile else VOLUME
    return reading.register


def of_channels(
    decoded: Decoded, entries: Sequence[Profile], at: datetime
) -> tuple[list[MeterReading], list[tuple[int, Refused]]]:
    """(the readings that are the device's, refusals by position): which channel counts, the registry says.

    Entries named after channels (`register`) take theirs, and the others are nobody's. Where no entry is and several
    channels count at the same time, any of them might be the meter's: none is booked.
    """
    if not entries:
        return decoded.readings, []
    channels = {reading.channel for reading in decoded.readings if reading.channel is not None}
    if not channels:
        return decoded.readings, []
    named = {entry.register for entry in entries if entry.covers(at)}
    if len(named) > 1 or (channels | decoded.channels) & named:
        return [one for one in decoded.readings if one.channel is None or one.channel in named], []
    by_register: dict[str, set[str]] = {VOLUME: set(decoded.channels)}
    for reading in decoded.readings:
        if reading.channel is not None:
            by_register.setdefault(reading.register, set()).add(reading.channel)
    crowded = {register: sorted(found) for register, found in by_register.items() if len(found) > 1}
    kept: list[MeterReading] = []
    refused: list[tuple[int, Refused]] = []
    for reading in decoded.readings:
        if reading.channel is not None and reading.register in crowded:
            names = ", ".join(crowded[reading.register][:4])
            detail = f"channels {names} count; an entry whose register is the channel's name says which is the meter's"
            refused.append((len(kept) + len(refused), refusal(reading, "ambiguous_channel", detail)))
        else:
            kept.append(reading)
    return kept, refused


def missing_registers(readings: list[MeterReading], registry: Registry) -> set[tuple[str, str]]:
    """Side registers (reverse, interval) of known meters that readings name and the meter does not have yet."""
    found: set[tuple[str, str]] = set()
    for reading in readings:
        if reading.register in SIDE_REGISTERS:
            entries = registry.profiles.get(key(reading.device)) if reading.device and not reading.meter else None
            serials = {entry.meter for entry in entries} if entries else ({reading.meter} if reading.meter else set())
            pairs = {(serial, reading.register) for serial in serials & registry.serials}
            found |= pairs - registry.registers.keys()
    return found


def _judged(
    reading: MeterReading,
    profile: Profile | None,
    target: MeterRegister,
    serial: str,
    name: str,
    received_at: datetime,
    live: bool,
) -> Row | Refused:
    value, at = reading.value, reading.measured_at
    assert value is not None
    if value < 0:
        return refusal(reading, "negative_value", "a register never stands below zero")
    unit, volume, modulus = _volume(reading, profile, target)
    flags = list(reading.flags)
    suspect = False
    if volume is None:
        flags.append(decode.UNIT_UNKNOWN)
    elif modulus is not None and volume >= modulus and name not in SIDE_REGISTERS:
        flags.append("beyond_dials")
        suspect = True
    claimed = None
    if at is not None:
        wrong = decode.clock_flag(at, received_at)
        if wrong and (live or wrong == decode.CLOCK_AHEAD):
            if decode.HISTORIC in flags:
                return refusal(reading, wrong, "a stored value whose time cannot be true has no place in the record")
            claimed, at, suspect = at, received_at, True
            flags += [decode.CLOCK_SUSPECT, wrong]
    source = "receipt" if at is None or claimed else reading.time_source
    quality = "suspect" if suspect else "estimated" if decode.ESTIMATED in flags else "good"
    return Row(
        target.id,
        at or received_at,
        value,
        unit,
        volume,
        quality,
        "\x1f".join(flags),
        source,
        claimed,
        reading.seq,
        reading.device,
        serial,
        name,
        profile.revising if profile else False,
    )


def _volume(
    reading: MeterReading, profile: Profile | None, target: MeterRegister
) -> tuple[str | None, Decimal | None, Decimal | None]:
    """The unit as sent or registered, the volume in m³ if the unit is known, and where the register starts again.

    A bare register takes the device's unit, else the meter's; a pulse only the device's (a meter's dial is no pulse).
    A device known to state a wrong unit (`config.distrust_unit`) is bare too, where the registry has a unit for it.
    """
    if profile is not None and profile.unit is not None and profile.config.get("distrust_unit") is True:
        reading = reading._replace(unit=None)
    modulus = profile.register_modulus_m3 if profile else None
    if modulus is None:
        modulus = target.modulus_m3()
    assumed, multiplier = (profile.unit, profile.multiplier) if profile else (None, Decimal(1))
    if assumed is None and reading.register != PULSE_COUNT:
        assumed, multiplier = target.unit, target.multiplier
    volume = decode.cubic_metres(reading, assumed, multiplier)
    bare = reading.unit is None or (reading.unit == "count" and volume is not None)
    return (assumed if bare else reading.unit), volume, modulus


def is_alarm(reading: MeterReading) -> bool:
    """Whether the reading carries an alarm and no register."""
    return reading.register == ALARM or reading.value is None
