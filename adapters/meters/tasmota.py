"""Tasmota counters: `tele/{device}/SENSOR`, or the same asked for, `stat/{device}/STATUS10`. Pure.

`COUNTER` members are pulses, one channel each; a counter starts again at boot unless saved. `Time` is local without a
zone; what a pulse weighs only the registry knows.
"""

import re

from adapters import strict
from adapters.contracts import (
    PULSE_COUNT,
    Decoded,
    DeviceConfig,
    DeviceDecoder,
    Envelope,
    EnvelopeAdapter,
    Malformed,
    MeterReading,
    Refused,
    TimeSource,
)
from adapters.meters import mapping

_TOPIC = re.compile(
    r"(?:.*/)?(?:tele/(?P<a>[^/]+)/SENSOR|stat/(?P<b>[^/]+)/STATUS(?:8|10)|"
    r"(?P<c>[^/]+)/tele/SENSOR|(?P<d>[^/]+)/stat/STATUS(?:8|10))"
)


def recognises(topic: str, payload: bytes) -> bool:
    """By topic."""
    return _TOPIC.fullmatch(topic) is not None


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope; the device is named by the topic only."""
    found = _TOPIC.fullmatch(topic)
    if found is None:
        raise Malformed("no_device", "the topic is not tele/{device}/SENSOR")
    device = strict.text(next(name for name in found.groups() if name), "topic")
    message = strict.json_object(payload)
    asked = message.get("StatusSNS")
    return [Envelope("tasmota", device, fields=asked if isinstance(asked, dict) else message, decoder="tasmota")]


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """Every counter as pulses."""
    if not isinstance(envelope.fields, dict):
        raise Malformed("not_an_object", "a sensor message is an object")
    counters = envelope.fields.get("COUNTER")
    if not isinstance(counters, dict):
        return Decoded("no_reading", reason="no_register", detail="no COUNTER among the sensors")
    stamp = envelope.fields.get("Time")
    at = strict.instant(stamp, "Time", zone=config.time_zone) if stamp is not None else None
    source: TimeSource = "meter" if at else "receipt"
    found: list[MeterReading] = []
    refused: list[Refused] = []
    for name, value in counters.items():
        if not re.fullmatch(r"C\d{1,2}", name):
            continue
        try:
            count = strict.number(value, name)
        except Malformed as error:
            refused.append(Refused(error.reason, error.detail, envelope.device, PULSE_COUNT, at))
            continue
        found.append(MeterReading(envelope.device, PULSE_COUNT, count, "count", at, source, (), name))
    return mapping.settled(envelope, found, refused, (), at, source)


ADAPTER = EnvelopeAdapter("tasmota", "Tasmota", ("tele/+/SENSOR",), recognises, read)
DECODER = DeviceDecoder("tasmota", "1", "Tasmota counters", lambda envelope: False, decode)
