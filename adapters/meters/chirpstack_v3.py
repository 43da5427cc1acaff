"""ChirpStack v3 integration events in JSON. Pure.

Same topics as v4 plus `error`, by which repeated frames arrive. `devEUI` is hexadecimal, or base64 when the network
server marshals Protobuf to JSON; the only time is the gateway's, inside `rxInfo`, and may be null. `object` may come as
text in `objectJSON`.
"""

import re
from typing import Any

from adapters import strict
from adapters.contracts import Envelope, EnvelopeAdapter, Malformed

_TOPIC = re.compile(r"(?:.*/)?application/[^/]+/device/([^/]+)/event/([a-z]+)")


def recognises(topic: str, payload: bytes) -> bool:
    """By topic, and by the member that only version 3 has at the top."""
    return _TOPIC.fullmatch(topic) is not None and b'"devEUI"' in payload and b'"deviceInfo"' not in payload


def _identity(value: Any) -> str:
    try:
        return strict.eui(value, "devEUI")
    except Malformed:
        raw = strict.from_base64(value, "devEUI")
        if len(raw) != 8:
            raise
        return raw.hex()


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope per event. Raises Malformed when the identity cannot be read."""
    message = strict.members(payload)
    device = _identity(message.get("devEUI"))
    found = _TOPIC.fullmatch(topic)
    kind = found[2] if found else "up"
    if kind != "up":
        return [Envelope("chirpstack_v3", device, kind=kind)]
    gateways = message.get("rxInfo")
    heard = [one for one in gateways if isinstance(one, dict)] if isinstance(gateways, list) else []
    # a gateway without a satellite receiver has no time: the first that has one tells it
    stamp = next((one["time"] for one in heard if one.get("time")), None)
    fields, port, counter = message.get("object"), message.get("fPort"), message.get("fCnt")
    written, data = message.get("objectJSON"), message.get("data")
    if fields is None and isinstance(written, str) and written:
        fields = strict.json_value(strict.text(written, "objectJSON", longest=100_000).encode())
    return [
        Envelope(
            "chirpstack_v3",
            device,
            fields=fields,
            data=strict.from_base64(data) if data else None,
            port=port if type(port) is int else None,
            counter=counter if type(counter) is int else None,
            time=strict.instant(stamp) if stamp else None,
            time_source="gateway",
        )
    ]


ADAPTER = EnvelopeAdapter("chirpstack_v3", "ChirpStack v3", ("application/+/device/+/event/+",), recognises, read)
