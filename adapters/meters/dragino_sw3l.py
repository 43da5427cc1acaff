"""Dragino SW3L flow sensors (also SW3L-LB): pulses at so many a litre, as frames or as the codec's object. Pure.

Port 2 holds the count since the start (mode 0) or since the last uplink (mode 1), port 3 stored counts, ports 4 and 5
settings. The frame names the sensor, and the manual how many of its pulses make a litre; where it names one we do not
know, pulses stay pulses. Litres are rounded to tenths as the vendor's codec rounds them, so that a value is the same
whether the network decoded it or not. Layout: the vendor's codecs for SW3L and SW3L-LB; pulses per litre: its manual,
"Flow Sensor Spec" (an old copy of the codec in The Things Network's device repository has 360 and 60 for 390 and 64).
"""

from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from adapters import strict
from adapters.contracts import (
    HISTORIC,
    PULSE_COUNT,
    VOLUME,
    VOLUME_INTERVAL,
    Decoded,
    DeviceConfig,
    DeviceDecoder,
    Envelope,
    Malformed,
    MeterReading,
)
from adapters.meters import mapping

# By sensor: DN15, DN20, DN25, DN50.
_PULSES_PER_LITRE = {0: 450, 1: 390, 2: 64, 3: 12}
_RECORD = 11
# Beside the sensor and the mode the SW3L-LB puts other things into the same bytes: levels of pins, a stored record.
_SENSOR, _MODE = 0x3C, 0x3F
_SINCE_LAST_UPLINK = 1


def _counted(sensor: int, mode: int, pulses: int) -> tuple[str, Decimal, str] | None:
    """(register, value, unit); None for pulses since the last uplink of a sensor whose pulses nobody can weigh."""
    weight = _PULSES_PER_LITRE.get((sensor & _SENSOR) >> 2)
    since_last = mode & _MODE == _SINCE_LAST_UPLINK
    if weight is None:
        return None if since_last else (PULSE_COUNT, Decimal(pulses), "count")
    litres = (Decimal(pulses) / weight).quantize(Decimal("0.1"), ROUND_HALF_UP)
    return VOLUME_INTERVAL if since_last else VOLUME, litres, "l"


def _unknown_sensor() -> Malformed:
    return Malformed("unknown_sensor", "the frame names a flow sensor whose pulses we cannot weigh")


def _settled(envelope: Envelope, readings: list[MeterReading], alarm: bool, at: datetime | None) -> Decoded:
    source = readings[0].time_source if readings else envelope.time_source
    return mapping.settled(envelope, readings, [], ("continuous_flow",) if alarm else (), at, source)


def _now(envelope: Envelope, data: bytes) -> Decoded:
    if len(data) < _RECORD:
        raise Malformed("implausible_frame", f"a frame of {len(data)} bytes on port 2 is cut short")
    at = strict.epoch(int.from_bytes(data[7:11], "big"))
    found = _counted(data[0], data[5], strict.count(data[1:5], "big"))
    if found is None:
        raise _unknown_sensor()
    register, value, unit = found
    reading = MeterReading(envelope.device, register, value, unit, at, "meter", seq=envelope.counter)
    return _settled(envelope, [reading], bool(data[0] & 2), at)


def _stored(envelope: Envelope, data: bytes) -> Decoded:
    if not data or len(data) % _RECORD:
        raise Malformed("implausible_frame", "stored counts come in records of 11 bytes")
    readings = []
    for start in range(0, len(data), _RECORD):
        record = data[start : start + _RECORD]
        at = strict.epoch(int.from_bytes(record[7:11], "big"))
        found = _counted(record[0], record[1], strict.count(record[3:7], "big"))
        if found is None:
            raise _unknown_sensor()
        register, value, unit = found
        readings.append(MeterReading(envelope.device, register, value, unit, at, "meter", (HISTORIC,)))
    return _settled(envelope, readings, False, None)


def _object(envelope: Envelope, fields: dict[str, Any], config: DeviceConfig) -> Decoded:
    # one version of the codec writes its names small
    named = {name.lower(): value for name, value in fields.items()}
    value = named.get("water_flow_value")
    if value is None:
        return Decoded("no_reading", reason="no_register", detail="the object holds settings")
    register = VOLUME_INTERVAL if named.get("mod") == 1 or "last_pulse" in named else VOLUME
    at = None
    if isinstance(named.get("data_time"), str):
        at = strict.instant(named["data_time"], "Data_time", zone=config.time_zone)
    reading = MeterReading(
        envelope.device,
        register,
        strict.number(value, "Water_flow_value"),
        "l",
        at or envelope.time,
        "meter" if at else envelope.time_source,
        seq=envelope.counter,
    )
    return _settled(envelope, [reading], str(named.get("alarm")).upper() == "TRUE", at)


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """The frame where there is one, else the codec's object."""
    if envelope.data and envelope.port in (2, 3):
        return (_now if envelope.port == 2 else _stored)(envelope, envelope.data)
    if isinstance(envelope.fields, dict):
        return _object(envelope, envelope.fields, config)
    return Decoded("no_reading", reason="other_frame", detail=f"port {envelope.port} carries no register")


def recognises(envelope: Envelope) -> bool:
    """By the codec's member name."""
    fields = envelope.fields
    return isinstance(fields, dict) and ("Water_flow_value" in fields or {"water_flow_value", "mod"} <= fields.keys())


DECODER = DeviceDecoder("dragino_sw3l", "3", "Dragino SW3L flow sensor", recognises, decode)
