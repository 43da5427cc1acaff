"""Dragino SW3L flow sensors (also SW3L-LB): pulses at so many a litre, as frames or as the codec's object. Pure.

Port 2 holds the count since the start (mode 0) or since the last uplink (mode 1), port 3 stored counts, ports 4 and 5
settings. The frame says how many pulses make a litre. Litres are rounded to tenths as the vendor's codec rounds them,
so that a value is the same whether the network decoded it or not. Layout: the vendor's codec in The Things Network's
device repository.
"""

from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from adapters import strict
from adapters.contracts import (
    HISTORIC,
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

_PULSES_PER_LITRE = {1: 360, 2: 60}
_USUAL = 450
_RECORD = 11


def _litres(data: bytes, pulses: int) -> Decimal:
    weight = _PULSES_PER_LITRE.get(data[0] >> 2, _USUAL)
    return (Decimal(pulses) / weight).quantize(Decimal("0.1"), ROUND_HALF_UP)


def _settled(envelope: Envelope, readings: list[MeterReading], alarm: bool, at: datetime | None) -> Decoded:
    source = readings[0].time_source if readings else envelope.time_source
    return mapping.settled(envelope, readings, [], ("continuous_flow",) if alarm else (), at, source)


def _now(envelope: Envelope, data: bytes) -> Decoded:
    if len(data) < _RECORD:
        raise Malformed("implausible_frame", f"a frame of {len(data)} bytes on port 2 is cut short")
    at = strict.epoch(int.from_bytes(data[7:11], "big"))
    register = VOLUME_INTERVAL if data[5] == 1 else VOLUME
    value = _litres(data, int.from_bytes(data[1:5], "big"))
    reading = MeterReading(envelope.device, register, value, "l", at, "meter", seq=envelope.counter)
    return _settled(envelope, [reading], bool(data[0] & 2), at)


def _stored(envelope: Envelope, data: bytes) -> Decoded:
    if not data or len(data) % _RECORD:
        raise Malformed("implausible_frame", "stored counts come in records of 11 bytes")
    readings = []
    for start in range(0, len(data), _RECORD):
        record = data[start : start + _RECORD]
        at = strict.epoch(int.from_bytes(record[7:11], "big"))
        register = VOLUME_INTERVAL if record[1] == 1 else VOLUME
        value = _litres(record, int.from_bytes(record[3:7], "big"))
        readings.append(MeterReading(envelope.device, register, value, "l", at, "meter", (HISTORIC,)))
    return _settled(envelope, readings, False, None)


def _object(envelope: Envelope, fields: dict[str, Any], config: DeviceConfig) -> Decoded:
    value = fields.get("Water_flow_value")
    if value is None:
        return Decoded("no_reading", reason="no_register", detail="the object holds settings")
    register = VOLUME_INTERVAL if fields.get("MOD") == 1 or "Last_pulse" in fields else VOLUME
    at = None
    if isinstance(fields.get("Data_time"), str):
        at = strict.instant(fields["Data_time"], "Data_time", zone=config.time_zone)
    reading = MeterReading(
        envelope.device,
        register,
        strict.number(value, "Water_flow_value"),
        "l",
        at or envelope.time,
        "meter" if at else envelope.time_source,
        seq=envelope.counter,
    )
    return _settled(envelope, [reading], str(fields.get("Alarm")).upper() == "TRUE", at)


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """The frame where there is one, else the codec's object."""
    if envelope.data and envelope.port in (2, 3):
        return (_now if envelope.port == 2 else _stored)(envelope, envelope.data)
    if isinstance(envelope.fields, dict):
        return _object(envelope, envelope.fields, config)
    return Decoded("no_reading", reason="other_frame", detail=f"port {envelope.port} carries no register")


def recognises(envelope: Envelope) -> bool:
    """By the codec's member name."""
    return isinstance(envelope.fields, dict) and "Water_flow_value" in envelope.fields


DECODER = DeviceDecoder("dragino_sw3l", "2", "Dragino SW3L flow sensor", recognises, decode)
