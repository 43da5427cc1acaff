"""Kamstrup water meters on LoRaWAN (MULTICAL 21, flowIQ): M-Bus frames, and the object the vendor's codec makes. Pure.

A frame holds the register and hourly or daily values behind it, or the midnight log with the meter's info codes. Times
are the meter's clock without a zone: that of the registry, else UTC, which is how the vendor's codec reads them. The
object goes first where it holds a volume: it may come from a network that has the key of an encrypted frame.
Layout: the vendor's codec in the Actility device catalogue; EN 13757-3.
"""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from adapters import mbus
from adapters.contracts import (
    VOLUME,
    VOLUME_REVERSE,
    Decoded,
    DeviceConfig,
    DeviceDecoder,
    Envelope,
    Malformed,
    MeterReading,
)
from adapters.meters import mapping

_WORDS = {
    "Dry": "dry",
    "Reverse": "backflow",
    "Leak": "leak",
    "Burst": "burst",
    "Tamper": "tamper",
    "Low Battery": "low_battery",
}
_INFO_CODE = 0x25
_NAMED = {"unit_path": "Unit", "time_path": "Timestamp", "each": "values"}
_LAYOUT = mapping.JsonMapping(
    "kamstrup_lorawan",
    "Kamstrup LoRaWAN meters",
    (
        mapping.Field("Value", where=("Type", "Volume"), **_NAMED),
        mapping.Field("Value", register=VOLUME_REVERSE, where=("Type", "Reverse Volume"), **_NAMED),
    ),
    tuple(mapping.Alarm("Value", flag, each="values", where=("Type", word)) for word, flag in _WORDS.items()),
)


def _object(fields: Any) -> dict[str, Any] | None:
    """The codec's object, which some versions wrap into another."""
    for _ in range(3):
        if not isinstance(fields, dict):
            return None
        if isinstance(fields.get("values"), list):
            return fields
        fields = fields.get("data")
    return None


def recognises(envelope: Envelope) -> bool:
    """By the list of typed values."""
    found = _object(envelope.fields)
    return found is not None and any(
        isinstance(item, dict) and {"Type", "Value", "Unit"} <= item.keys() for item in found["values"][:5]
    )


def _flags(record: mbus.Record) -> tuple[str, ...]:
    bits = int.from_bytes(record.data, "little")
    return tuple(flag for place, flag in enumerate(_WORDS.values()) if bits >> place & 1)


def _volumes(
    envelope: Envelope, record: mbus.Record, times: dict[int, datetime], base: int | None
) -> list[MeterReading]:
    """The readings of one volume record: the value itself, or the profile behind `base`."""
    at = times.get(record.storage)
    register = VOLUME_REVERSE if mbus.REVERSE in record.vifes else VOLUME

    def reading(count: int, when: datetime | None) -> MeterReading:
        source = "meter" if when else envelope.time_source
        value = mbus.cubic_metres(record, count)
        return MeterReading(envelope.device, register, value, "m3", when or envelope.time, source, seq=envelope.counter)

    if mbus.INVERSE_PROFILE not in record.vifes:
        count = mbus.integer(record)
        return [] if count is None else [reading(count, at)]
    if base is None or at is None:
        raise Malformed("implausible_frame", "a profile without the value or the time that it goes back from")
    found = mbus.profile(record)
    if found is None:
        return []
    readings = []
    for difference in found.differences:
        base, at = base - difference, at - found.step
        readings.append(reading(base, at))
    return readings


def _frame(envelope: Envelope, data: bytes, config: DeviceConfig) -> Decoded:
    records = mbus.records(mbus.application_data(data))
    clock = ZoneInfo(config.time_zone) if config.time_zone else UTC
    times = {
        record.storage: found.astimezone(UTC) for record in records if (found := mbus.moment(record, clock)) is not None
    }
    bases = {
        (record.storage, record.vif): mbus.integer(record)
        for record in records
        if mbus.is_volume(record) and not record.vifes and record.function == mbus.INSTANTANEOUS
    }
    forward: list[MeterReading] = []
    backward: list[MeterReading] = []
    alarms: tuple[str, ...] = ()
    for record in records:
        if record.vif == 0x7F and record.vifes == (_INFO_CODE,):
            alarms = _flags(record)
        if record.function != mbus.INSTANTANEOUS or not mbus.is_volume(record):
            continue
        if record.vifes in ((), (mbus.INVERSE_PROFILE,)):
            forward += _volumes(envelope, record, times, bases.get((record.storage, record.vif)))
        elif record.vifes == (mbus.REVERSE,):
            backward += _volumes(envelope, record, times, None)
    readings = mapping.past_marked(forward) + mapping.past_marked(backward)
    at = max(times.values(), default=envelope.time)
    return mapping.settled(envelope, readings, [], alarms, at, "meter" if times else envelope.time_source)


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """The codec's object where it holds a volume, else the frame."""
    fields = _object(envelope.fields)
    if fields is not None:
        inner = mapping.apply(_LAYOUT, mapping.about(envelope, fields), config)
        if inner.readings or not envelope.data:
            return inner
    if not envelope.data:
        raise Malformed("no_bytes", "the message carries neither the codec's object nor the frame")
    return _frame(envelope, envelope.data, config)


DECODER = DeviceDecoder("kamstrup_lorawan", "2", "Kamstrup LoRaWAN meters", recognises, decode)
