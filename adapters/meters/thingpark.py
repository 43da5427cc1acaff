"""Actility ThingPark uplinks in JSON. Pure.

`DevEUI_uplink` carries hexadecimal bytes, the vendor driver's object (`payload`) and `points`, to which every driver of
the catalogue normalises its device: name, unit, one record or several with their times, and what kind of value it is.
"""

import re
from decimal import Decimal
from typing import Any

from adapters import strict
from adapters.contracts import (
    INDEX_RAW,
    VOLUME,
    VOLUME_REVERSE,
    Decoded,
    DeviceConfig,
    DeviceDecoder,
    Envelope,
    EnvelopeAdapter,
    Malformed,
    MeterReading,
    Refused,
)
from adapters.meters import mapping

_WRAPPED = re.compile(rb'\s*\{\s*"DevEUI_')
_VOLUME_POINT = re.compile(r"volume(?:[:_]?\d{1,3})?", re.IGNORECASE)
_NUMBERED = re.compile(r".*\d")
_BACKWARD = ("reverse", "backward", "backflow")
_NO_REGISTER = ("delta", "relative", "interval", "increment", "max", "min", "average", "daily", "hourly")
_STATES = (
    ("leak", "leak"),
    ("burst", "burst"),
    ("reverse", "backflow"),
    ("backflow", "backflow"),
    ("magnetic", "tamper"),
    ("removal", "tamper"),
    ("fraud", "tamper"),
    ("tamper", "tamper"),
    ("low battery", "low_battery"),
    ("dry", "dry"),
    ("empty pipe", "dry"),
    ("blocked", "blocked"),
)


def recognises(topic: str, payload: bytes) -> bool:
    """By the wrapping member."""
    return _WRAPPED.match(payload) is not None


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


def _points(envelope: Envelope) -> dict[str, dict[str, Any]]:
    found = envelope.fields.get("points") if isinstance(envelope.fields, dict) else None
    return {name: point for name, point in found.items() if isinstance(point, dict)} if isinstance(found, dict) else {}


def _records(point: dict[str, Any]) -> list[tuple[Any, Any]]:
    """(value, time as sent) of every record of a point."""
    many = point.get("records")
    if isinstance(many, list):
        return [(one.get("value"), one.get("eventTime")) for one in many[: strict.MAX_ITEMS] if isinstance(one, dict)]
    return [(point.get("record"), point.get("eventTime"))]


def recognises_points(envelope: Envelope) -> bool:
    """Whether a point is a volume with a unit."""
    return any(
        _VOLUME_POINT.fullmatch(name) and isinstance(point.get("unitId"), str)
        for name, point in _points(envelope).items()
    )


def _volume(
    envelope: Envelope, name: str, point: dict[str, Any], zone: str | None, refused: list[Refused]
) -> list[MeterReading]:
    nature = str(point.get("nature") or "").lower()
    if any(word in nature for word in _NO_REGISTER):
        return []
    unit = point.get("unitId")
    stated = unit.strip() if isinstance(unit, str) and unit.strip() else None
    backward = any(word in nature for word in _BACKWARD)
    register = VOLUME_REVERSE if backward else VOLUME if stated else INDEX_RAW
    found = []
    for value, stamp in _records(point):
        if value is None:
            continue
        try:
            amount: Decimal = strict.number(value, "volume")
            at = strict.instant(stamp, "eventTime", zone=zone) if stamp else None
        except Malformed as error:
            refused.append(Refused(error.reason, error.detail, envelope.device, register))
            continue
        source = "meter" if at else envelope.time_source
        when, channel = at or envelope.time, name if _NUMBERED.fullmatch(name) else None
        found.append(MeterReading(envelope.device, register, amount, stated, when, source, (), channel))
    return mapping.past_marked(found)


def decode_points(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """Volumes as registers, backward ones apart; states as alarm words by their nature."""
    readings: list[MeterReading] = []
    refused: list[Refused] = []
    alarms: list[str] = []
    for name, point in _points(envelope).items():
        nature = str(point.get("nature") or "").lower()
        if _VOLUME_POINT.fullmatch(name):
            readings += _volume(envelope, name, point, config.time_zone, refused)
        elif name.lower().startswith("status") and any(value is True for value, _ in _records(point)[:1]):
            alarms += [flag for word, flag in _STATES if word in nature][:1]
    at, source = envelope.time, envelope.time_source
    return mapping.settled(envelope, readings, refused, tuple(dict.fromkeys(alarms)), at, source)


ADAPTER = EnvelopeAdapter("thingpark", "Actility ThingPark", ("mqtt/things/+/uplink",), recognises, read)
DECODER = DeviceDecoder(
    "thingpark_points", "2", "ThingPark points, which state their unit", recognises_points, decode_points, wide=True
)
