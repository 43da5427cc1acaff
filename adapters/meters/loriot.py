"""LORIOT uplinks in JSON. Pure.

`rx` is an uplink, `gw` the same uplink again with every gateway that heard it: booked once by its key. `data` is
hexadecimal, `ts` milliseconds of the network server.
"""

from decimal import Decimal

from adapters import strict
from adapters.contracts import Envelope, EnvelopeAdapter, Malformed

_UPLINKS = frozenset({"rx", "gw"})


def recognises(topic: str, payload: bytes) -> bool:
    """By its command and identity members."""
    return b'"cmd"' in payload and b'"EUI"' in payload


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope per message."""
    message = strict.json_object(payload)
    device = strict.eui(message.get("EUI"), "EUI")
    command = message.get("cmd")
    if not isinstance(command, str) or command not in _UPLINKS:
        return [Envelope("loriot", device, kind=str(command)[:40])]
    at, port, counter = message.get("ts"), message.get("port"), message.get("fcnt")
    if at is not None and type(at) is not int:
        raise Malformed("bad_time", "ts is not a count of milliseconds")
    if message.get("encdata") and not message.get("data"):
        raise Malformed("encrypted", f"the uplink of {device} is encrypted: the network does not hold its key")
    return [
        Envelope(
            "loriot",
            device,
            fields=message.get("decoded"),
            data=strict.from_hex(message["data"]) if message.get("data") else None,
            port=port if type(port) is int else None,
            counter=counter if type(counter) is int else None,
            time=strict.epoch(Decimal(at) / 1000, "ts") if at is not None else None,
        )
    ]


ADAPTER = EnvelopeAdapter("loriot", "LORIOT", ("loriot/+/rx",), recognises, read)
