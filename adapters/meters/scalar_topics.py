"""Plain scalars: one number as the whole message, the unit in the last level of the topic (`…/liters`). Pure.

The level is a unit, or ends in one behind a word for a register (`total_m3`); a word for a register alone (`…/value`)
leaves the unit to the registry. The device is the topic above it; under `…/total_m3/state`, as ESPHome names its
sensors, it is all before `state`. Such topics are usually retained and carry no time.
"""

import re

from adapters import strict
from adapters.contracts import (
    INDEX_RAW,
    PULSE_COUNT,
    VOLUME,
    Decoded,
    DeviceConfig,
    DeviceDecoder,
    Envelope,
    EnvelopeAdapter,
    Malformed,
    MeterReading,
)
from adapters.units import canonical

_NUMBER = re.compile(rb"\s*[+-]?\d{1,18}(\.\d{1,18})?\s*")
_PULSES = frozenset({"pulses", "pulse", "pulse_count", "count"})
_REGISTERS = frozenset({"total", "volume", "total_volume", "reading", "meter_reading", "index", "register", "value",
                        "water", "water_total", "total_water"})  # fmt: skip
_UNKNOWN = ""


def _unit(topic: str) -> str | None:
    """The unit that the topic names; "" for a register without one; None for what is no register."""
    word = topic.removesuffix("/state").rpartition("/")[2].lower()
    if word in _PULSES:
        return "count"
    if word in _REGISTERS:
        return _UNKNOWN
    head, _, tail = word.rpartition("_")
    return canonical(tail) if head in _REGISTERS else canonical(word)


def recognises(topic: str, payload: bytes) -> bool:
    """A bare number under a topic that ends in a unit."""
    return bool(_unit(topic)) and _NUMBER.fullmatch(payload) is not None


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope; topics that end in no unit hold other things of the device."""
    device, _, _ = topic.rpartition("/")
    unit = _unit(topic)
    if not device:
        raise Malformed("no_device", "the topic has one level only: nothing names the device")
    name = strict.text(device, "topic")
    if unit is None:
        return [Envelope("scalar_topics", name, kind="other_topic")]
    if len(payload) > 60:
        raise Malformed("not_a_number", "the message is no bare number")
    try:
        said = payload.decode("ascii")
    except UnicodeDecodeError:
        raise Malformed("not_a_number", "the message is no bare number") from None
    return [Envelope("scalar_topics", name, fields={"value": said.strip(), "unit": unit}, decoder="scalar_topics")]


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """The number in the topic's unit."""
    if not isinstance(envelope.fields, dict):
        raise Malformed("not_a_number", "the message is no bare number")
    value, unit = strict.number(envelope.fields.get("value")), envelope.fields.get("unit")
    if not isinstance(unit, str):
        raise Malformed("no_unit", "the topic names no unit")
    register = PULSE_COUNT if unit == "count" else VOLUME if unit else INDEX_RAW
    return Decoded("readings", [MeterReading(envelope.device, register, value, unit or None, None, "receipt")])


ADAPTER = EnvelopeAdapter("scalar_topics", "Plain scalars", ("everblu/cyble/+",), recognises, read)
DECODER = DeviceDecoder("scalar_topics", "2", "One number per topic", None, decode)
