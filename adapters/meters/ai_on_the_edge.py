"""AI-on-the-edge cameras: `{main topic}/{number}/json`. Pure.

All values are text; the unit is a setting of the device and not sent. Only `error` equal to "no error" makes the value
worth anything; on an error the firmware empties the value and repeats the old time. Often retained.
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

_TOPIC = re.compile(r"(.+/[^/]+)/json")


def recognises(topic: str, payload: bytes) -> bool:
    """By topic and the members the firmware writes."""
    return _TOPIC.fullmatch(topic) is not None and all(
        m in payload for m in (b'"value"', b'"raw"', b'"pre"', b'"error"')
    )


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope; the device is named by the topic only."""
    found = _TOPIC.fullmatch(topic)
    if found is None:
        raise Malformed("no_device", "the topic does not end in {number}/json")
    device = strict.text(found[1], "topic")
    return [Envelope("ai_on_the_edge", device, fields=strict.json_object(payload), decoder="ai_on_the_edge")]


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """The register the camera read, if it trusts itself."""
    if not isinstance(envelope.fields, dict):
        raise Malformed("not_an_object", "a camera's message is an object")
    error = envelope.fields.get("error")
    if error != "no error":
        raise Malformed("device_error", f"the camera says: {str(error)[:120]}")
    stamp = envelope.fields.get("timestamp")
    at = strict.instant(stamp, "timestamp", zone=config.time_zone) if stamp else None
    value = strict.number(envelope.fields.get("value"))
    return Decoded(
        "readings", [MeterReading(envelope.device, INDEX_RAW, value, None, at, "meter" if at else "receipt")]
    )


ADAPTER = EnvelopeAdapter("ai_on_the_edge", "AI-on-the-edge-device", ("+/+/json",), recognises, read)
DECODER = DeviceDecoder("ai_on_the_edge", "1", "AI-on-the-edge cameras", None, decode)
