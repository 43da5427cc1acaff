"""Tasmota counters: `tele/{device}/SENSOR`, or the same asked for, `stat/{device}/STATUS10`. Pure.

`COUNTER` members are pulses, one channel each; a counter starts again at boot unless saved. `Time` is local without a
zone, unless the device's settings add `Epoch` or make it count seconds; what a pulse weighs only the registry knows. A
full topic may have levels of its own, which then belong to the name.
"""

import re
from datetime import datetime
from typing import Any

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
    r"(?:.*/)?(?:tele/(?P<a>.{1,200})/SENSOR|stat/(?P<b>.{1,200})/STATUS(?:8|10)|"
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


def _time(fields: dict[str, Any], zone: str | None) -> datetime | None:
    stamp, seconds = fields.get("Time"), fields.get("Epoch")
    for counted in (seconds, stamp):
        if type(counted) is int:
            return strict.epoch(counted, "Time")
    return strict.instant(stamp, "Time", zone=zone) if stamp is not None else None


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """Every counter as pulses."""
    if not isinstance(envelope.fields, dict):
        raise Malformed("not_an_object", "a sensor message is an object")
    counters = envelope.fields.get("COUNTER")
    if not isinstance(counters, dict):
        return Decoded("no_reading", reason="no_register", detail="no COUNTER among the sensors")
    at = _time(envelope.fields, config.time_zone)
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
DECODER = DeviceDecoder("tasmota", "2", "Tasmota counters", None, decode)
