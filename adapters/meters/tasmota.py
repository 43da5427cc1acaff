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
)

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
    found = [
        MeterReading(
            envelope.device,
            PULSE_COUNT,
            strict.number(value, name),
            "count",
            at,
            "meter" if at else "receipt",
            (),
            name[:40],
        )
        for name, value in counters.items()
        if re.fullmatch(r"C\d{1,2}", name)
    ]
    return Decoded("readings", found) if found else Decoded("no_reading", reason="no_register")


ADAPTER = EnvelopeAdapter("tasmota", "Tasmota", ("tele/+/SENSOR",), recognises, read)
DECODER = DeviceDecoder("tasmota", "1", "Tasmota counters", lambda envelope: False, decode)
