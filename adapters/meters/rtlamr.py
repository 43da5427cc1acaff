"""rtlamr messages in JSON (metermon, rtlamr-collect): Itron ERT and Neptune R900 meters heard on the air. Pure.

The count has no unit on the air: it stays an index until the registry says what one count is. R900 `Leak` counts days
of the last 35 (history), `LeakNow` is a leak now; `BackFlow` is latched for 35 days. A meter that counts in
binary-coded decimals and was read as binary is mended by `config.bcd`. Neighbours' gas and electricity
meters share the topic. Message layouts: the rtlamr project; commodity by the low nibble of the ERT type.
"""

from decimal import Decimal
from typing import Any

from adapters import strict
from adapters.contracts import (
    INDEX_RAW,
    Decoded,
    DeviceConfig,
    DeviceDecoder,
    Envelope,
    EnvelopeAdapter,
    Malformed,
    MeterReading,
)

_WATER = frozenset({3, 11, 13})
_IDENTITIES = ("ID", "EndpointID", "ERTSerialNumber")
_TYPES = ("Type", "EndpointType", "ERTType")
_COUNTS = ("Consumption", "LastConsumptionCount")


def recognises(topic: str, payload: bytes) -> bool:
    """By the three members of every message."""
    return all(member in payload for member in (b'"Time"', b'"Type"', b'"Message"'))


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope per message."""
    message = strict.json_object(payload)
    inner = message.get("Message")
    if not isinstance(inner, dict):
        raise Malformed("not_an_object", "Message is not an object")
    device = next((inner[name] for name in _IDENTITIES if inner.get(name) is not None), None)
    at = message.get("Time")
    return [
        Envelope(
            "rtlamr",
            strict.text(device, "ID", longest=40),
            fields={"protocol": str(message.get("Type"))[:20], **inner},
            time=strict.instant(at, "Time") if at else None,
            time_source="gateway",
            decoder="rtlamr",
        )
    ]


def r900_flags(fields: dict[str, Any]) -> tuple[str, ...]:
    """Alarm words of the R900 counters, in any spelling of their names."""
    lower = {name.lower(): value for name, value in fields.items()}
    named = {"backflow": "backflow", "leaknow": "leak", "leak": "leak_history"}
    return tuple(flag for name, flag in named.items() if type(lower.get(name)) is int and lower[name] > 0)


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """The count, as an index without a unit; other commodities are nobody's reading."""
    fields = envelope.fields
    if not isinstance(fields, dict):
        raise Malformed("not_an_object", "Message is not an object")
    r900 = str(fields.get("protocol", "")).upper().startswith("R900")
    if not r900:
        kind = next((fields[name] for name in _TYPES if type(fields.get(name)) is int), None)
        if kind is not None and kind & 0x0F not in _WATER:
            return Decoded("no_reading", reason="other_commodity", detail=f"ERT type {kind} is not water")
    count = next((fields[name] for name in _COUNTS if fields.get(name) is not None), None)
    if count is None:
        return Decoded("no_reading", reason="no_register", detail="the message carries no count")
    flags = r900_flags(fields) if r900 else ()
    value = strict.number(count, "Consumption")
    if r900 and config.options.get("bcd") is True:
        value = Decimal(strict.bcd(value, "Consumption"))
    reading = MeterReading(envelope.device, INDEX_RAW, value, None, envelope.time, "gateway", flags)
    return Decoded("readings", [reading])


ADAPTER = EnvelopeAdapter("rtlamr", "rtlamr, metermon", ("metermon/raw",), recognises, read)
DECODER = DeviceDecoder("rtlamr", "2", "Itron ERT and Neptune R900 by rtlamr", lambda envelope: False, decode)
