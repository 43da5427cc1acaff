"""Actility ThingPark uplinks in JSON. Pure.

`DevEUI_uplink` carries hexadecimal bytes, the vendor driver's object (`payload`) and `points` with their unit stated.
"""

from adapters import strict
from adapters.contracts import Envelope, EnvelopeAdapter


def recognises(topic: str, payload: bytes) -> bool:
    """By the wrapping member."""
    return payload.lstrip()[:20].startswith(b'{"DevEUI_')


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope per uplink; other reports (location, downlink sent) hold no register."""
    message = strict.json_object(payload)
    uplink = message.get("DevEUI_uplink")
    if not isinstance(uplink, dict):
        return [Envelope("thingpark", None, kind=next(iter(message), "empty")[:40])]
    fields = uplink.get("payload")
    if isinstance(uplink.get("points"), dict):
        fields = {**(fields if isinstance(fields, dict) else {}), "points": uplink["points"]}
    port, counter, at = uplink.get("FPort"), uplink.get("FCntUp"), uplink.get("Time")
    return [
        Envelope(
            "thingpark",
            strict.eui(uplink.get("DevEUI"), "DevEUI"),
            fields=fields,
            data=strict.from_hex(uplink["payload_hex"], "payload_hex") if uplink.get("payload_hex") else None,
            port=int(strict.number(port, "FPort")) if port is not None else None,
            counter=counter if type(counter) is int else None,
            time=strict.instant(at, "Time") if at else None,
        )
    ]


ADAPTER = EnvelopeAdapter("thingpark", "Actility ThingPark", ("mqtt/things/+/uplink",), recognises, read)
