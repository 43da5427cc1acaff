"""Netmore uplinks in JSON. Pure.

Every message is an array; numbers come as strings; the bytes are in `payload` or `Payload`, hexadecimal.
"""

from typing import Any

from adapters import strict
from adapters.contracts import Envelope, EnvelopeAdapter, Malformed


def recognises(topic: str, payload: bytes) -> bool:
    """By the array and the members of its items."""
    return payload.lstrip()[:1] == b"[" and b'"devEui"' in payload and b'"messageType"' in payload


def _one(item: Any) -> Envelope:
    if not isinstance(item, dict):
        raise Malformed("not_an_object", "an uplink is not an object")
    data, at = item.get("payload") or item.get("Payload"), item.get("timestamp")
    port, counter, kind = item.get("fPort"), item.get("fCntUp"), item.get("messageType")
    return Envelope(
        "netmore",
        strict.eui(item.get("devEui")),
        kind="uplink" if data or kind in (None, "payload") else str(kind)[:40],
        data=strict.from_hex(data, "payload") if data else None,
        port=int(strict.number(port, "fPort")) if port is not None else None,
        counter=int(strict.number(counter, "fCntUp")) if counter is not None else None,
        time=strict.instant(at, "timestamp") if at else None,
    )


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope per item of the array."""
    message = strict.json_value(payload)
    if not isinstance(message, list):
        raise Malformed("not_a_list", "the message is not an array")
    return [_one(item) for item in message[: strict.MAX_ITEMS]]


ADAPTER = EnvelopeAdapter("netmore", "Netmore", ("netmore/uplink",), recognises, read)
