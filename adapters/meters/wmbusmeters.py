"""wmbusmeters telegrams in JSON, under whatever topic the user's shell command chose. Pure.

`total_m3` is the register; drivers spell the reverse register three ways and the status words under four names.
`timestamp` is the receiver's clock, in UTC. `media` is unreliable: the registry says what is water. A telegram without
a total is no reading and never a zero; one that could not be decrypted is kept for the day its key is known.
Names: the drivers of the wmbusmeters project.
"""

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
)

_REVERSE = ("total_backward_m3", "total_backwards_m3", "backflow_m3")
_STATUS = ("status", "current_status", "current_alarms", "error_flags")
_SENTINELS = frozenset({Decimal("-2147483.648"), Decimal("-2147483.647"), Decimal("4294967.295")})
_WORDS = {
    "PERMANENT_ERROR": "permanent_error",
    "TEMPORARY_ERROR": "temporary_error",
    **dict.fromkeys(("BATTERY_LOW", "LOW_BATTERY", "POWER_LOW", "LOW_POWER"), "low_battery"),
    **dict.fromkeys(("LEAK", "LEAKING", "LEAKAGE"), "leak"),
    **dict.fromkeys(("BURST", "BURSTING"), "burst"),
    "DRY": "dry",
    **dict.fromkeys(("REVERSED", "REVERSE", "REVERSE_FLOW", "BACKFLOW"), "backflow"),
    **dict.fromkeys(("TAMPER", "TAMPERED", "MECHANICAL_FRAUD", "MAGNETIC_FRAUD"), "tamper"),
    **dict.fromkeys(("METER_BLOCKED", "BLOCKED"), "blocked"),
    **dict.fromkeys(("PREV_LEAKAGE", "PREV_LEAK", "P_LEAK"), "leak_history"),
}


def recognises(topic: str, payload: bytes) -> bool:
    """By the members every driver writes."""
    return all(member in payload for member in (b'"media"', b'"meter"', b'"id"', b'"timestamp"'))


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope per telegram. Raises Malformed undecryptable when the telegram stayed closed."""
    message = strict.json_object(payload)
    device = strict.text(message.get("id"), "id", longest=40)
    if message.get("error"):
        raise Malformed("undecryptable", f"telegram of {device}: {str(message['error'])[:80]}")
    return [Envelope("wmbusmeters", device, fields=message, time_source="gateway", decoder="wmbusmeters")]


def _flags(fields: dict[str, object]) -> tuple[str, ...]:
    said = " ".join(str(fields[name]) for name in _STATUS if isinstance(fields.get(name), str))
    return tuple(dict.fromkeys(_WORDS[word] for word in said.upper().split() if word in _WORDS))


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """The forward and the reverse register."""
    fields = envelope.fields
    if not isinstance(fields, dict):
        raise Malformed("not_an_object", "a telegram is an object")
    if fields.get("total_m3") is None:
        return Decoded("no_reading", reason="no_register", detail="the telegram carries no total")
    at, flags = strict.instant(fields.get("timestamp"), "timestamp", zone="UTC"), _flags(fields)
    total = strict.number(fields["total_m3"], "total_m3")
    if total in _SENTINELS:
        return Decoded("no_reading", reason="sentinel", detail="total_m3 holds the meter's word for 'no value'")
    found = [MeterReading(envelope.device, VOLUME, total, "m3", at, "gateway", flags)]
    name = next((name for name in _REVERSE if fields.get(name) is not None), None)
    if name is not None and (reverse := strict.number(fields[name], name)) not in _SENTINELS:
        found.append(MeterReading(envelope.device, VOLUME_REVERSE, reverse, "m3", at, "gateway", flags))
    return Decoded("readings", found)


ADAPTER = EnvelopeAdapter("wmbusmeters", "wmbusmeters", ("wmbusmeters/+",), recognises, read)
DECODER = DeviceDecoder("wmbusmeters", "1", "wmbusmeters telegrams", lambda envelope: False, decode)
