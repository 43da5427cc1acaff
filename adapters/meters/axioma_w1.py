"""Axioma Qalcosonic W1 ultrasonic water meter, LoRaWAN frames and the objects its codecs publish. Pure.

Port 100, 47 bytes ("basic"): clock, status, register, clock and register of the first log entry, 15 hourly increments;
litres, little-endian; some networks deliver it with a filler byte, young meters with fewer increments. Port 100, 50 or
51 bytes ("enhanced", 24 h): frame version, clock, status, register 23 h ago, 23 increments of 14 bits and a 2-bit
multiplier. Port 103: clock and alarm byte. Layout: the vendor's payload description
and the codecs in the Actility and The Things Network device catalogues.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from adapters import strict
from adapters.contracts import ALARM, VOLUME, Decoded, DeviceConfig, DeviceDecoder, Envelope, Malformed, MeterReading

_EARLIEST = datetime(2010, 1, 1, tzinfo=UTC)
_LATEST = datetime(2100, 1, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)
_BASIC, _ENHANCED = 47, (50, 51)
_HEAD, _FILLERS = 17, (0x2F, 0x00)

# Upper three bits of the status and alarm bytes select one cause; the low bits stand for themselves.
_CAUSES = {0x20: "leak", 0x60: "backflow", 0xA0: "burst"}
_STATUS_BITS = ((0x04, "low_battery"), (0x08, "permanent_error"), (0x10, "temporary_error"))
_ALARM_BITS = ((0x04, "low_battery"), (0x08, "tamper"), (0x10, "dry"))
_ALARM_WORDS = {
    "EMPTY PIPE": "dry",
    "LEAKAGE": "leak",
    "LEAK": "leak",
    "BURST": "burst",
    "BACKFLOW": "backflow",
    "REVERSE FLOW": "backflow",
    "TAMPER": "tamper",
    "LOW BATTERY": "low_battery",
}


def _clock(data: bytes, at: int) -> datetime:
    found = strict.epoch(int.from_bytes(data[at : at + 4], "little"))
    if not _EARLIEST <= found < _LATEST:
        raise Malformed("implausible_frame", f"the frame's clock says {found:%Y}: not a frame of this meter")
    return found


def _litres(data: bytes, at: int) -> int:
    return strict.count(data[at : at + 4], "little")


def _flags(byte: int, bits: tuple[tuple[int, str], ...]) -> tuple[str, ...]:
    found = [flag for bit, flag in bits if byte & bit]
    cause = _CAUSES.get(byte & 0xE0)
    return tuple([*found, cause] if cause else found)


def _log(device: str | None, first_at: datetime, volume: int, steps: list[int]) -> Iterator[MeterReading]:
    """The hourly log: a first register and the increments that follow it."""
    for position, step in enumerate([0, *steps]):
        volume += step
        at = first_at + position * _HOUR
        yield MeterReading(device, VOLUME, Decimal(volume), "l", at, "meter", ("q:historic",))


def _basic(envelope: Envelope, data: bytes) -> Decoded:
    at, register, first_at, first = _clock(data, 0), _litres(data, 5), _clock(data, 9), _litres(data, 13)
    steps = [int.from_bytes(data[i : i + 2], "little") for i in range(_HEAD, len(data), 2)]
    if not (first_at <= at < first_at + 400 * 24 * _HOUR and first + sum(steps) <= register):
        raise Malformed("implausible_frame", "register and log of the frame contradict each other")
    now = MeterReading(envelope.device, VOLUME, Decimal(register), "l", at, "meter", _flags(data[4], _STATUS_BITS))
    log = list(_log(envelope.device, first_at.replace(minute=0, second=0), first, steps))
    return Decoded("readings", [*(entry for entry in log if entry.measured_at != at), now])


def _enhanced(envelope: Envelope, data: bytes) -> Decoded:
    at, base = _clock(data, 1), _litres(data, 6)
    bits = int.from_bytes(data[10:51].ljust(41, b"\0"), "little")
    scale = 10 ** ((bits >> 322) & 3)
    register = base + scale * sum((bits >> (14 * i)) & 0x3FFF for i in range(23))
    return Decoded(
        "readings",
        [MeterReading(envelope.device, VOLUME, Decimal(register), "l", at, "meter", _flags(data[5], _STATUS_BITS))],
    )


def _alarm(envelope: Envelope, data: bytes) -> Decoded:
    flags = _flags(data[4], _ALARM_BITS)
    return Decoded("event_only", [MeterReading(envelope.device, ALARM, None, None, _clock(data, 0), "meter", flags)])


def _object(envelope: Envelope, fields: dict[str, Any], config: DeviceConfig) -> Decoded:
    """The Actility codec's object: litres, the log spelled out, times in UTC."""
    if "alarmDescription" in fields:
        said = str(fields["alarmDescription"]).upper()
        flags = tuple(dict.fromkeys(flag for word, flag in _ALARM_WORDS.items() if word in said))
        at = strict.instant(fields["date"], "date", zone=config.time_zone) if fields.get("date") else envelope.time
        return Decoded("event_only", [MeterReading(envelope.device, ALARM, None, None, at, "meter", flags)])
    at = strict.instant(fields.get("lastLogTime"), "lastLogTime", zone=config.time_zone)
    stated = fields.get("status")
    status: dict[str, Any] = stated if isinstance(stated, dict) else {}
    words = {"lowBattery": "low_battery", "permanentError": "permanent_error", "temporaryError": "temporary_error"}
    flags = tuple(flag for name, flag in words.items() if status.get(name) is True)
    now = MeterReading(envelope.device, VOLUME, strict.number(fields.get("lastVolume")), "l", at, "meter", flags)
    found = []
    for entry in fields.get("volumes") or ():
        stamp = strict.instant(entry.get("time"), "time", zone=config.time_zone)
        if stamp != at:
            found.append(
                MeterReading(
                    envelope.device, VOLUME, strict.number(entry.get("volume")), "l", stamp, "meter", ("q:historic",)
                )
            )
    return Decoded("readings", [*found, now])


def _network_codec(envelope: Envelope, fields: dict[str, Any], config: DeviceConfig) -> Decoded:
    """Objects of community codecs: those of The Things Network hold cubic metres, another one's `curVol` litres.

    What that one calls `curVol` others read as the logged base: the value is taken as stated, without a time of its own
    unless the registry says in which zone its local clock runs.
    """
    words = {
        "low_battery": "low_battery",
        "permanent_error": "permanent_error",
        "temporary_error": "temporary_error",
        "pipe_empty": "dry",
        "backflow": "backflow",
        "burst": "burst",
        "leakage": "leak",
    }
    flags = tuple(flag for name, flag in words.items() if fields.get(name) is True)
    if "current_volume_m3" in fields:
        at = strict.instant(fields["timestamp_utc"], "timestamp_utc") if fields.get("timestamp_utc") else envelope.time
        value, unit = strict.number(fields["current_volume_m3"], "current_volume_m3"), "m3"
    elif "current_volume" in fields:
        stamp = fields.get("timestamp")
        at = strict.epoch(stamp, "timestamp") if type(stamp) is int else envelope.time
        value, unit = strict.number(fields["current_volume"], "current_volume"), "m3"
    else:
        stamp = fields.get("curDateTime")
        at = strict.instant(stamp, "curDateTime", zone=config.time_zone) if stamp else None
        value, unit = strict.number(fields["curVol"], "curVol"), "l"
    return Decoded("readings", [MeterReading(envelope.device, VOLUME, value, unit, at, "meter", flags)])


def recognises(envelope: Envelope) -> bool:
    """By the codecs' member names; bytes alone belong to whoever the registry says."""
    fields = envelope.fields
    if not isinstance(fields, dict):
        return False
    if "payloadType" in fields:
        return "lastVolume" in fields or "alarmDescription" in fields
    return str(fields.get("payload_format", "")).startswith("AXIOMA_W1") or (
        ("curVol" in fields and "deltaVol" in fields)
        or {"current_volume", "log_volume", "delta_volumes"} <= fields.keys()
    )


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """Bytes where there are any (they are what the meter sent), else the codec's object.

    Codecs disagree about the 24-hour frame, so there the object goes before our own reading of the bytes.
    """
    data, fields = envelope.data, envelope.fields
    if isinstance(fields, dict) and ("curVol" in fields or "current_volume_m3" in fields):
        return _network_codec(envelope, fields, config)
    if data and envelope.port == 103 and len(data) == 5:
        return _alarm(envelope, data)
    if data and envelope.port == 100:
        if len(data) == _BASIC + 1 and data[-1] in _FILLERS:
            data = data[:_BASIC]
        if _HEAD < len(data) <= _BASIC and len(data) % 2:
            return _basic(envelope, data)
        if len(data) in _ENHANCED and data[0] == 1:
            return _enhanced(envelope, data)
        raise Malformed("implausible_frame", f"no known frame has {len(data)} bytes on port 100")
    if isinstance(fields, dict) and recognises(envelope):
        return (_network_codec if "current_volume" in fields else _object)(envelope, fields, config)
    return Decoded("no_reading", reason="other_frame", detail=f"port {envelope.port} carries no register")


DECODER = DeviceDecoder("axioma_w1", "3", "Axioma Qalcosonic W1", recognises, decode)
