"""rtlamr messages in JSON (metermon, rtlamr-collect): Itron ERT and Neptune R900 meters heard on the air. Pure.

metermon publishes them as they are (`…/raw`) and in words of its own (`…/output`, `…/{id}`): protocol, commodity and a
unit, which it takes for granted; a meter that counts otherwise has `distrust_unit` in the registry.

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
    VOLUME,
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
_ON_THE_AIR = (b'"Time"', b'"Type"', b'"Message"')
_IN_WORDS = (b'"Protocol"', b'"Type"', b'"ID"', b'"Consumption"', b'"Unit"')
_COUNTS = ("Consumption", "LastConsumptionCount")


def recognises(topic: str, payload: bytes) -> bool:
    """By the members of every message, on the air or in metermon's words."""
    return any(all(member in payload for member in members) for members in (_ON_THE_AIR, _IN_WORDS))


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope per message."""
    message = strict.json_object(payload)
    inner = message.get("Message")
    if inner is None and "Protocol" in message:
        name = strict.text(message.get("ID"), "ID", longest=40)
        return [Envelope("rtlamr", name, fields=message, time_source="receipt", decoder="rtlamr")]
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


def _in_words(envelope: Envelope, fields: dict[str, Any]) -> Decoded:
    """What metermon made of a message; it has no time and no alarms."""
    if str(fields.get("Type")).lower() != "water":
        return Decoded("no_reading", reason="other_commodity", detail="the meter does not say that it is water")
    unit = fields.get("Unit")
    stated = unit if isinstance(unit, str) and unit.strip() not in ("", "Unknown") else None
    value = strict.number(fields.get("Consumption"), "Consumption")
    register = VOLUME if stated else INDEX_RAW
    return Decoded("readings", [MeterReading(envelope.device, register, value, stated, None, "receipt")])


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """The count, as an index without a unit; other commodities are nobody's reading."""
    fields = envelope.fields
    if not isinstance(fields, dict):
        raise Malformed("not_an_object", "Message is not an object")
    if "Protocol" in fields:
        return _in_words(envelope, fields)
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
    if config.options.get("bcd") is True and str(fields.get("protocol", "")).upper() == "R900":
        value = Decimal(strict.bcd(value, "Consumption"))
    reading = MeterReading(envelope.device, INDEX_RAW, value, None, envelope.time, "gateway", flags)
    return Decoded("readings", [reading])


ADAPTER = EnvelopeAdapter("rtlamr", "rtlamr, metermon", ("metermon/raw",), recognises, read)
DECODER = DeviceDecoder("rtlamr", "3", "Itron ERT and Neptune R900 by rtlamr", None, decode)
