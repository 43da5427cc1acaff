"""ChirpStack v4 integration events in JSON. Pure.

Topic `application/{application}/device/{devEui}/event/{event}`; only `up` carries what a device sent. `time` is the
network's, never the meter's; `object` is missing when the network's codec failed, `data` (base64) is what was on air.
Format: ChirpStack documentation, "Integrations, event types".
"""

import re

from adapters import strict
from adapters.contracts import Envelope, EnvelopeAdapter, Malformed

_TOPIC = re.compile(r"(?:.*/)?application/[^/]+/device/([^/]+)/event/([a-z]+)")


def recognises(topic: str, payload: bytes) -> bool:
    """By topic, and by the member that only version 4 has."""
    return _TOPIC.fullmatch(topic) is not None and b'"deviceInfo"' in payload


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope per event. Raises Malformed when the identity is missing or contradicts the topic."""
    message = strict.members(payload)
    info = message.inner("deviceInfo")
    if info is None:
        raise Malformed("no_device", "the event has no deviceInfo")
    device = strict.eui(info.get("devEui"))
    found = _TOPIC.fullmatch(topic)
    kind = found[2] if found else "up"
    if found and found[1] != "+" and found[1].lower() != device:
        raise Malformed("identity_mismatch", f"topic of device {found[1][:40]!r}, event of device {device}")
    if kind != "up":
        return [Envelope("chirpstack_v4", device, kind=kind)]
    port, counter, at, data = (message.get(name) for name in ("fPort", "fCnt", "time", "data"))
    return [
        Envelope(
            "chirpstack_v4",
            device,
            fields=message.get("object"),
            data=strict.from_base64(data) if data else None,
            port=port if type(port) is int else None,
            counter=counter if type(counter) is int else None,
            time=strict.instant(at) if at else None,
            dedup_id=str(message.get("deduplicationId") or "")[:60] or None,
        )
    ]


ADAPTER = EnvelopeAdapter("chirpstack_v4", "ChirpStack v4", ("application/+/device/+/event/+",), recognises, read)
