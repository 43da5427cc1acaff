"""wmbusmeters telegrams in JSON, under whatever topic the user's shell command chose. Pure.

`total_m3` is the register (`total_l`, `total_gal` where the user added such conversions); drivers spell the reverse
register many ways and put status words under several names, apart by blanks or commas. `timestamp` is the receiver's
clock, in UTC. `media` is unreliable: the registry says what is water. A telegram without a total is no reading and
never a zero, and what it says of due dates and past months is no register either. One that could not be decrypted is
kept for the day its key is known. Names: the drivers of the wmbusmeters project, of 2019 to 2026.
"""

import re
from decimal import Decimal

from adapters import strict
from adapters.contracts import (
    VOLUME,
    VOLUME_REVERSE,
    Decoded,
    DeviceConfig,
    DeviceDecoder,
    Envelope,
    EnvelopeAdapter,
    Malformed,
    MeterReading,
    TimeSource,
)

_REVERSE = re.compile(r"(total_)?(backward|backwards|backflow|reverse|reversed)(_flow|_volume|_total)?_m3")
_TOTALS = (("total_m3", "m3"), ("total_forward_m3", "m3"), ("total_l", "l"), ("total_gal", "gal"))
_STATUS = ("status", "current_status", "current_alarms", "error_flags", "error_code", "alarms")
_PAST = "previous_alarms"
_SENTINELS = frozenset({Decimal("-2147483.648"), Decimal("-2147483.647"), Decimal("4294967.295")})
_WORDS = {
    "PERMANENT_ERROR": "permanent_error",
    "TEMPORARY_ERROR": "temporary_error",
    **dict.fromkeys(
        ("BATTERY_LOW", "LOW_BATTERY", "POWER_LOW", "LOW_POWER", "BATTERY_EOL", "BATTERY_VOLTAGE_ERROR"), "low_battery"
    ),
    **dict.fromkeys(("LEAK", "LEAKING", "LEAKAGE", "LEAK_DETECTED", "LEAKAGE_DETECTED"), "leak"),
    **dict.fromkeys(("BURST", "BURSTING", "PIPE_BURST"), "burst"),
    **dict.fromkeys(("DRY", "EMPTY_PIPE", "PIPE_EMPTY"), "dry"),
    **dict.fromkeys(
        ("REVERSED", "REVERSE", "REVERSE_FLOW", "BACKFLOW", "BACK_FLOW", "BACKFLOWING", "BACKWARD_FLOW"), "backflow"
    ),
    **dict.fromkeys(
        (
            "TAMPER",
            "TAMPERED",
            "FRAUD",
            "MECHANICAL_FRAUD",
            "MAGNETIC_FRAUD",
            "SENSOR_FRAUD",
            "MAGNETIC_FIELD",
            "MANIPULATION",
            "SABOTAGE",
            "REMOVED",
        ),
        "tamper",
    ),
    **dict.fromkeys(("METER_BLOCKED", "BLOCKED"), "blocked"),
    **dict.fromkeys(("FLOW_ABOVE_Q4", "OVERLOAD"), "high_flow"),
    **dict.fromkeys(("PREV_LEAKAGE", "PREV_LEAK", "P_LEAK", "WAS_LEAKING"), "leak_history"),
}


def recognises(topic: str, payload: bytes) -> bool:
    """By the members every driver writes; newer ones write `driver` for `meter`."""
    named = b'"meter"' in payload or b'"driver"' in payload
    return named and all(member in payload for member in (b'"media"', b'"id"', b'"timestamp"'))


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope per telegram. Raises Malformed undecryptable when the telegram stayed closed."""
    message = strict.json_object(payload)
    device = strict.text(message.get("id"), "id", longest=40)
    if message.get("error"):
        raise Malformed("undecryptable", f"telegram of {device}: {str(message['error'])[:80]}")
    return [Envelope("wmbusmeters", device, fields=message, time_source="gateway", decoder="wmbusmeters")]


def _words(value: object) -> list[str]:
    return re.split(r"[\s,;|]+", value.upper()) if isinstance(value, str) else []


def _flags(fields: dict[str, object]) -> tuple[str, ...]:
    found = [_WORDS[word] for name in _STATUS for word in _words(fields.get(name)) if word in _WORDS]
    if any(_WORDS.get(word) == "leak" for word in _words(fields.get(_PAST))):
        found.append("leak_history")
    return tuple(dict.fromkeys(found))


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """The forward and the reverse register."""
    fields = envelope.fields
    if not isinstance(fields, dict):
        raise Malformed("not_an_object", "a telegram is an object")
    name, unit = next(((name, unit) for name, unit in _TOTALS if fields.get(name) is not None), ("", ""))
    if not name:
        return Decoded("no_reading", reason="no_register", detail="the telegram carries no total")
    stamp, flags = fields.get("timestamp"), _flags(fields)
    at = strict.instant(stamp, "timestamp", zone="UTC") if stamp is not None else None
    source: TimeSource = "gateway" if at else "receipt"
    total = strict.number(fields[name], name)
    if total in _SENTINELS:
        return Decoded("no_reading", reason="sentinel", detail=f"{name} holds the meter's word for 'no value'")
    found = [MeterReading(envelope.device, VOLUME, total, unit, at, source, flags)]
    back = next((name for name in fields if _REVERSE.fullmatch(name) and fields[name] is not None), None)
    if back is not None and (reverse := strict.number(fields[back], back)) not in _SENTINELS:
        found.append(MeterReading(envelope.device, VOLUME_REVERSE, reverse, "m3", at, source, flags))
    return Decoded("readings", found)


ADAPTER = EnvelopeAdapter("wmbusmeters", "wmbusmeters", ("wmbusmeters/+",), recognises, read)
DECODER = DeviceDecoder("wmbusmeters", "2", "wmbusmeters telegrams", None, decode)
