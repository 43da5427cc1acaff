"""ThingsBoard telemetry: `v1/devices/me/telemetry` and `v1/gateway/telemetry`. Pure.

On the device topic the identity is the publisher's login, which a subscriber never sees: the message is kept, and only
the gateway topic, which names its devices, can be booked. `ts` counts milliseconds.
"""

from decimal import Decimal
from typing import Any

from adapters import strict
from adapters.contracts import Envelope, EnvelopeAdapter, Malformed

_DEVICE, _GATEWAY = "v1/devices/me/telemetry", "v1/gateway/telemetry"


def recognises(topic: str, payload: bytes) -> bool:
    """By topic."""
    return topic.endswith((_DEVICE, _GATEWAY))


def _one(device: str | None, item: Any) -> Envelope:
    if not isinstance(item, dict):
        raise Malformed("not_an_object", "telemetry is an object")
    stamp, values = item.get("ts"), item.get("values")
    if not isinstance(values, dict):
        stamp, values = None, item
    if stamp is not None and type(stamp) is not int:
        raise Malformed("bad_time", "ts is not a count of milliseconds")
    at = strict.epoch(Decimal(stamp) / 1000, "ts") if stamp is not None else None
    return Envelope("thingsboard", device, fields=values, time=at, time_source="gateway" if at else "receipt")


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope per set of values."""
    message = strict.json_value(payload)
    if topic.endswith(_GATEWAY):
        if not isinstance(message, dict):
            raise Malformed("not_an_object", "gateway telemetry is an object of devices")
        return [
            _one(strict.text(name, "device"), item)
            for name, items in message.items()
            for item in (items if isinstance(items, list) else [items])
        ]
    return [_one(None, item) for item in (message if isinstance(message, list) else [message])]


ADAPTER = EnvelopeAdapter("thingsboard", "ThingsBoard telemetry", (_DEVICE, _GATEWAY), recognises, read)
