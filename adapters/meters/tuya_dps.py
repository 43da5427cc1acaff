"""Tuya data points: `tuya/{name}/DPS/state`, numbers under numbers. Pure.

What a data point means depends on the model, which is not sent: point 1 of a water meter is kept as an index until the
registry states its unit; point 16 is the number printed on the meter.
"""

import re

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

_TOPIC = re.compile(r"(?:.*/)?([^/]+)/DPS/state", re.IGNORECASE)


def recognises(topic: str, payload: bytes) -> bool:
    """By topic."""
    return _TOPIC.fullmatch(topic) is not None


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope; the printed number where it is sent, else the name in the topic."""
    message = strict.json_object(payload)
    found = _TOPIC.fullmatch(topic)
    name, printed = found[1] if found else None, message.get("16")
    device = printed.strip() if isinstance(printed, str) and printed.strip() else name
    return [Envelope("tuya_dps", strict.text(device, "topic"), fields=message, decoder="tuya_dps")]


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """Data point 1, as an index; `config.point` names another."""
    if not isinstance(envelope.fields, dict):
        raise Malformed("not_an_object", "a state is an object")
    value = envelope.fields.get(str(config.options.get("point", "1")))
    if value is None or isinstance(value, bool):
        return Decoded("no_reading", reason="no_register", detail="the state has no such data point")
    return Decoded("readings", [MeterReading(envelope.device, INDEX_RAW, strict.number(value), None, None, "receipt")])


ADAPTER = EnvelopeAdapter("tuya_dps", "Tuya data points", ("tuya/+/DPS/state",), recognises, read)
DECODER = DeviceDecoder("tuya_dps", "1", "Tuya data points", None, decode)
