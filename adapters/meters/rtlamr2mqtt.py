"""rtlamr2mqtt: `rtlamr/{id}/state` with a zero-padded text, flags apart in `rtlamr/{id}/attributes`. Pure.

The reading is already scaled by the user's format mask, and its unit stands only in the discovery message: it stays an
index until the registry says the unit. Its first versions sent the bare text, without a time. Attributes have no time
of their own and make no reading.
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

_BARE = re.compile(rb"\s*\d{1,12}(\.\d{1,6})?\s*")
_TOPIC = re.compile(r"(?:.*/)?([^/]+)/(state|attributes)")


def recognises(topic: str, payload: bytes) -> bool:
    """By topic and members."""
    if "rtlamr" in topic.split("/") and topic.endswith("/state") and _BARE.fullmatch(payload):
        return True
    if _TOPIC.fullmatch(topic) is None or not payload.lstrip().startswith(b"{"):
        return False
    return (b'"reading"' in payload and b'"lastseen"' in payload) or (
        b'"protocol"' in payload and b'"NoUse"' in payload
    )


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope; the device is named by the topic only."""
    found = _TOPIC.fullmatch(topic)
    if found is None:
        raise Malformed("no_device", "the topic does not end in {id}/state or {id}/attributes")
    bare = found[2] == "state" and _BARE.fullmatch(payload)
    message = {"reading": payload.decode().strip()} if bare else strict.json_object(payload)
    kind = "uplink" if found[2] == "state" else found[2]
    at = message.get("lastseen")
    return [
        Envelope(
            "rtlamr2mqtt",
            strict.text(found[1], "topic", longest=80),
            kind=kind,
            fields=message,
            time=strict.instant(at, "lastseen") if at else None,
            time_source="gateway" if at else "receipt",
            decoder="rtlamr2mqtt",
        )
    ]


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """The scaled index."""
    if not isinstance(envelope.fields, dict):
        raise Malformed("not_an_object", "a state is an object")
    value = strict.number(envelope.fields.get("reading"), "reading")
    return Decoded(
        "readings", [MeterReading(envelope.device, INDEX_RAW, value, None, envelope.time, envelope.time_source)]
    )


ADAPTER = EnvelopeAdapter("rtlamr2mqtt", "rtlamr2mqtt", ("rtlamr/+/state", "rtlamr/+/attributes"), recognises, read)
DECODER = DeviceDecoder("rtlamr2mqtt", "2", "rtlamr2mqtt states", None, decode)
