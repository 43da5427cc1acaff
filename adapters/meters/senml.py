"""SenML packs in JSON (RFC 8428), with LwM2M object 3424 (water meter). Pure.

Base fields carry over; a time below 2^28 is relative to the arrival. A record's name begins with the device (a URN, or
what stands before the first slash, else the last colon); where a pack names the object only (`/3424/0/`), the device is
the value of its resource 0, else the level of the topic behind `lwm2m`. Under `/3424/` resource 1 is the volume, 4 the
pulses, 9 and 10 leak, 11 backflow, 12 blocked, 13 tamper. Elsewhere only a record in a unit of volume is a register. A
pack may be wrapped in `{"pack": …}`, whose own timestamp is that of processing, never of the measurement.
"""

import re
from decimal import Decimal
from typing import Any, NamedTuple

from adapters import strict
from adapters.contracts import (
    HISTORIC,
    PULSE_COUNT,
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
from adapters.meters import mapping, volume_names
from adapters.units import canonical

_RELATIVE = 2**28
_WATER = re.compile(r"(.*?)/?3424/(?:(\d+)/)?(\d+)")
_OBJECT = re.compile(r"urn:oma:lwm2m:ext:3424(?=\d|/)/?")
_URN = re.compile(r"urn:dev:[a-z]+:[^:/]+|urn:(?!dev:|oma:)[a-z]+:[^:/]+")
_ENDPOINT = re.compile(r"(?:.*/)?lwm2m/([^/]+)(?:/.*)?")
_ALARMS = {"9": "leak", "10": "leak", "11": "backflow", "12": "blocked", "13": "tamper"}


class _Record(NamedTuple):
    name: str
    time: Decimal
    unit: str | None
    value: Decimal | None
    boolean: bool | None
    text: str | None = None


def recognises(topic: str, payload: bytes) -> bool:
    """A pack: an array, bare or wrapped, whose records have base or plain names."""
    head = payload.lstrip()[:40]
    return head.startswith((b"[", b'{"pack"')) and (b'"bn"' in payload or b'"n"' in payload)


def read(topic: str, payload: bytes) -> list[Envelope]:
    """One envelope per pack."""
    message = strict.json_value(payload)
    pack = message.get("pack") if isinstance(message, dict) else message
    if not isinstance(pack, list) or len(pack) > strict.MAX_ITEMS:
        raise Malformed("not_a_list", "a SenML pack is an array")
    records = _resolved(pack)
    device = next((found for record in records if (found := _split(record.name)[0])), None) or _said(records)
    endpoint = _ENDPOINT.fullmatch(topic)
    if device is None and endpoint is not None:
        device = endpoint[1]
    return [Envelope("senml", strict.text(device, "bn") if device else None, fields=pack, decoder="senml")]


def _said(records: list[_Record]) -> str | None:
    """The device as the value of the object's resource 0, where older publishers put it."""
    texts = (record.text for record in records if record.text and _split(record.name)[1] == "0")
    return next((text for text in texts if not text.startswith("urn:oma:")), None)


def _resolved(pack: list[Any]) -> list[_Record]:
    """The records with base name, time, unit and value applied (RFC 8428, section 4.6)."""
    base_name, base_time, base_value, base_unit = "", Decimal(0), Decimal(0), None
    found = []
    for item in pack:
        if not isinstance(item, dict):
            raise Malformed("not_an_object", "a SenML record is an object")
        base_name = str(item.get("bn", base_name))
        words = item.get("vs")
        base_time = strict.number(item["bt"], "bt") if "bt" in item else base_time
        base_value = strict.number(item["bv"], "bv") if "bv" in item else base_value
        base_unit = item.get("bu", base_unit)
        unit = item.get("u", base_unit)
        value = strict.number(item["v"], "v") + base_value if "v" in item else None
        moment = base_time + (strict.number(item["t"], "t") if "t" in item else 0)
        stated = item.get("vb")
        found.append(
            _Record(
                base_name + str(item.get("n", "")),
                moment,
                unit if isinstance(unit, str) else None,
                value,
                stated if isinstance(stated, bool) else None,
                words if isinstance(words, str) else None,
            )
        )
    return found


def _split(name: str) -> tuple[str | None, str | None, str | None]:
    """(device, resource of object 3424, channel), each None where not named; a channel is the object's instance there,
    elsewhere what follows the device."""
    name = _OBJECT.sub("/3424/", name, count=1)
    found = _WATER.fullmatch(name)
    if found:
        return found[1].strip("/:") or None, found[3], found[2]
    name = name.strip("/:")
    urn = _URN.match(name)
    device = urn[0] if urn else name.partition("/")[0] if "/" in name else name.rpartition(":")[0] or name
    return device or None, None, name[len(device) :].strip("/:")[:80] or None


def _register(record: _Record, resource: str | None, channel: str | None) -> tuple[str, str] | None:
    """(register, unit) of a record that counts water, else None."""
    if resource == "4":
        return PULSE_COUNT, "count"
    if resource is None and channel is not None and volume_names.says_no_register(channel):
        return None
    unit = canonical(record.unit) if record.unit else "m3" if resource == "1" else None
    return (VOLUME, unit) if unit is not None and resource in (None, "1") else None


def _reading(record: _Record, device: str | None, value: Decimal, register: str, unit: str) -> MeterReading:
    if abs(record.time) >= _RELATIVE:
        return MeterReading(device, register, value, unit, strict.epoch(record.time), "meter")
    if record.time > 0:
        raise Malformed("bad_time", f"the time is {record.time} s after the arrival")
    return MeterReading(device, register, value, unit, None, "receipt", age_s=-record.time if record.time else None)


def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
    """Volumes and pulses as registers, 3424's booleans as alarms."""
    if not isinstance(envelope.fields, list):
        raise Malformed("not_a_list", "a SenML pack is an array")
    found: list[MeterReading] = []
    refused: list[Refused] = []
    alarms: list[str] = []
    for record in _resolved(envelope.fields):
        named, resource, channel = _split(record.name)
        device = named or envelope.device
        if resource in _ALARMS and record.boolean:
            alarms.append(_ALARMS[resource])
        kind = _register(record, resource, channel)
        if record.value is None or kind is None:
            continue
        try:
            found.append(_reading(record, device, record.value, *kind)._replace(channel=channel))
        except Malformed as error:
            refused.append(Refused(error.reason, error.detail, device, kind[0], None, str(record.value)))
    if any(reading.register == VOLUME for reading in found):
        found = [reading for reading in found if reading.register == VOLUME]
    flags = tuple(dict.fromkeys(alarms))
    return mapping.settled(envelope, _past_marked(found), refused, flags, None, "receipt")


def _past_marked(found: list[MeterReading]) -> list[MeterReading]:
    """A pack may hold one register at several times: all but its newest are history."""
    by_device: dict[tuple[str | None, str | None], list[MeterReading]] = {}
    for reading in found:
        by_device.setdefault((reading.device, reading.channel), []).append(reading)
    marked = []
    for readings in by_device.values():
        youngest = min(reading.age_s or Decimal(0) for reading in readings)
        marked += [
            reading._replace(flags=(HISTORIC,))
            if reading.measured_at is None and (reading.age_s or 0) > youngest
            else reading
            for reading in mapping.past_marked(readings)
        ]
    return marked


ADAPTER = EnvelopeAdapter("senml", "SenML, LwM2M 3424", ("lwm2m/+/3424",), recognises, read)
DECODER = DeviceDecoder("senml", "3", "SenML and LwM2M object 3424", None, decode)
