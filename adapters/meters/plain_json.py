"""Our own JSON: `{"readings": [{"device", "register", "value", "unit", "measured_at", "seq"}]}`, MQTT or HTTP. Pure.

An item names a `device` (or a `meter` by serial). `register` defaults to `volume`; `unit` may be left out when the
registry knows it; `measured_at` needs an offset and may be left out for "now"; `flags` may carry alarm words. `seq` of
an item counts the device's readings, `seq` beside `readings` the gateway's messages. One bad item does not spoil the
others.
"""

from typing import Any

from adapters import strict
from adapters.contracts import (
    ALARM,
    VOLUME,
    Decoded,
    DeviceConfig,
    DeviceDecoder,
    Envelope,
    EnvelopeAdapter,
    Malformed,
    MeterReading,
    Refused,
)


def recognises(topic: str, payload: bytes) -> bool:
    """Whether this looks like our own format."""
    return topic.startswith("curbstop/v1/") or payload.lstrip()[:11].startswith(b'{"readings"')


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope with the list of items. Raises Malformed when the message as a whole is not ours."""
    message = strict.json_object(payload)
    items = message.get("readings")
    if not isinstance(items, list):
        raise Malformed("not_readings", 'the message has no list "readings"')
    if len(items) > strict.MAX_ITEMS:
        raise Malformed("too_many", f"{len(items)} readings in one message; the limit is {strict.MAX_ITEMS}")
    seq = message.get("seq")
    counter = seq if type(seq) is int and 0 <= seq < 2**63 else None
    return [Envelope("plain", None, fields=items, decoder="plain", counter=counter)]


def _item(item: Any) -> MeterReading:
    if not isinstance(item, dict):
        raise Malformed("bad_field", "a reading is not an object")
    device, meter = item.get("device"), item.get("meter")
    if device is None and meter is None:
        raise Malformed("no_device", "a reading names neither device nor meter")
    at, seq, flags = item.get("measured_at"), item.get("seq"), item.get("flags")
    measured_at = None
    if at is not None:
        measured_at = strict.instant(at, "measured_at")
        if measured_at is None:
            raise Malformed("time_without_offset", f"measured_at {at!r} has no offset from UTC")
    if seq is not None and (type(seq) is not int or not 0 <= seq < 2**63):
        raise Malformed("bad_field", "seq is not a counting number")
    if flags is not None and not isinstance(flags, list):
        raise Malformed("bad_field", "flags is not a list of words")
    if item.get("register") == ALARM:
        raise Malformed("bad_field", "an alarm is no register: put its word into the flags of a reading")
    return MeterReading(
        None if device is None else strict.text(device, "device"),
        VOLUME if item.get("register") is None else strict.text(item["register"], "register", longest=60),
        strict.number(item.get("value")),
        None if item.get("unit") is None else strict.text(item["unit"], "unit", longest=40),
        measured_at,
        "meter" if measured_at else "receipt",
        () if flags is None else tuple(strict.text(flag, "flags", longest=40) for flag in flags[:20]),
        None,
        None if meter is None else strict.text(meter, "meter"),
        seq,
    )


def _shown(item: Any, name: str) -> str | None:
    """A member of a refused item, short and printable, for the person who looks into it."""
    found = item.get(name) if isinstance(item, dict) else None
    return None if found is None or isinstance(found, dict | list) else ascii(str(found))[1:-1][:80]


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """Every item becomes a reading or a refusal."""
    if envelope.network != "plain":
        raise Malformed("wrong_decoder", "the plain decoder reads our own messages only")
    readings: list[MeterReading] = []
    refused: list[Refused] = []
    for position, item in enumerate(envelope.fields):
        try:
            readings.append(_item(item))
        except Malformed as error:
            shown = [_shown(item, name) for name in ("device", "register", "value")]
            refused.append(Refused(error.reason, error.detail, shown[0], shown[1], None, shown[2], position))
    if readings:
        return Decoded("readings", readings, refused)
    if refused:
        return Decoded("quarantine", [], refused, refused[0].reason, refused[0].detail)
    return Decoded("no_reading", reason="empty", detail="the list of readings is empty")


ADAPTER = EnvelopeAdapter("plain", "Curbstop's own JSON", ("curbstop/v1/+/readings",), recognises, read)
DECODER = DeviceDecoder("plain", "1", "Curbstop's own JSON", None, decode)
