"""The declarative decoder: where in a JSON object the register, its unit, its time and its alarms stand. Pure.

A `JsonMapping` is data. The modules of codecs that publish documented objects hold one each; a utility declares its own
in a device's registry entry (`config.mapping`, decoder `mapping`). A unit comes from the mapping, from the payload or
from the registry; from nowhere else.
"""

import dataclasses
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from adapters import strict, units
from adapters.contracts import (
    ALARM,
    HISTORIC,
    INDEX_RAW,
    VOLUME,
    Decoded,
    DeviceConfig,
    DeviceDecoder,
    Envelope,
    Malformed,
    MeterReading,
    Refused,
    TimeSource,
)

_ABSENT = object()

# What integer registers without a value hold, whole and in thousandths.
SENTINELS = (Decimal("-2147483.648"), Decimal("-32.768"), Decimal(4294967295), Decimal("4294967.295"))


@dataclass(slots=True, frozen=True)
class Field:
    """One register: `path` from the object (or from each element of the list at `each` that matches `where`).

    `unit` None leaves the unit to `unit_path` or the registry; a register without any is kept raw.
    """

    path: str
    register: str = VOLUME
    unit: str | None = None
    unit_path: str | None = None
    time_path: str | None = None
    channel: str | None = None
    each: str | None = None
    where: tuple[str, Any] | None = None


@dataclass(slots=True, frozen=True)
class Alarm:
    """`flag` holds when the value at `path` is true or non-zero, or among `values` when given."""

    path: str
    flag: str
    values: tuple[Any, ...] = ()
    each: str | None = None
    where: tuple[str, Any] | None = None
    outermost: str = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        """Note the member of the message's object that must be there."""
        object.__setattr__(self, "outermost", (self.each or self.path).partition(".")[0])


@dataclass(slots=True, frozen=True)
class JsonMapping:
    """A named layout. `requires` are paths that must all exist for the layout to be recognised; none: by name only."""

    name: str
    title: str
    fields: tuple[Field, ...]
    alarms: tuple[Alarm, ...] = ()
    requires: tuple[str, ...] = ()
    time_path: str | None = None
    version: str = "1"
    sentinels: tuple[Decimal, ...] = SENTINELS


def _at(value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        return _ABSENT
    if "." not in path:
        return value.get(path, _ABSENT)
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            return _ABSENT
        value = value[part]
    return value


def _scopes(fields: Any, each: str | None, where: tuple[str, Any] | None) -> list[Any]:
    """The objects a path starts from: the message itself, or the matching elements of one of its lists."""
    if each is None:
        return [fields]
    found = _at(fields, each)
    if not isinstance(found, list):
        return []
    return [item for item in found[: strict.MAX_ITEMS] if where is None or _at(item, where[0]) == where[1]]


def _raised(fields: Any, alarm: Alarm) -> bool:
    for scope in _scopes(fields, alarm.each, alarm.where):
        value = _at(scope, alarm.path)
        if value is _ABSENT or isinstance(value, dict | list):
            continue
        if (
            (value in alarm.values)
            if alarm.values
            else (value is True or (type(value) in (int, Decimal) and value != 0))
        ):
            return True
    return False


def _time(scope: Any, path: str | None, envelope: Envelope, zone: str | None) -> tuple[datetime | None, TimeSource]:
    if path is not None:
        value = _at(scope, path)
        if value is not _ABSENT and value is not None:
            found = (
                strict.epoch(value, path) if type(value) in (int, Decimal) else strict.instant(value, path, zone=zone)
            )
            return found, "meter"
    return envelope.time, envelope.time_source


def _reading(
    layout: JsonMapping, field: Field, scope: Any, envelope: Envelope, config: DeviceConfig
) -> MeterReading | None:
    value = _at(scope, field.path)
    if value is _ABSENT or value is None:
        return None
    value, said = units.split(value)
    amount = strict.number(value, field.path)
    if amount in layout.sentinels:
        raise Malformed("sentinel", f"{field.path} holds the device's word for 'no value'")
    unit = said or field.unit
    if unit is None and field.unit_path is not None:
        stated = _at(scope, field.unit_path)
        unit = stated.strip() if isinstance(stated, str) and stated.strip() else None
    time_path = field.time_path or (layout.time_path if field.each is None else None)
    at, source = _time(scope, time_path, envelope, config.time_zone)
    register = INDEX_RAW if unit is None and field.register == VOLUME else field.register
    return MeterReading(envelope.device, register, amount, unit, at, source, (), field.channel, None, envelope.counter)


def apply(layout: JsonMapping, envelope: Envelope, config: DeviceConfig) -> Decoded:
    """What `layout` finds in the envelope's object; all but the newest value of a register are marked historic."""
    readings: list[MeterReading] = []
    refused: list[Refused] = []
    for field in layout.fields:
        found: list[MeterReading] = []
        for scope in _scopes(envelope.fields, field.each, field.where):
            try:
                reading = _reading(layout, field, scope, envelope, config)
            except Malformed as error:
                refused.append(Refused(error.reason, error.detail, envelope.device, field.register))
                continue
            if reading is not None:
                found.append(reading)
        readings += past_marked(found)
    alarms = alarms_in(layout, envelope.fields)
    try:
        at, source = _time(envelope.fields, layout.time_path, envelope, config.time_zone)
    except Malformed:
        at, source = envelope.time, envelope.time_source
    return settled(envelope, readings, refused, alarms, at, source)


def alarms_in(layout: JsonMapping, fields: Any) -> tuple[str, ...]:
    """The flags of the layout's alarms that hold in the object."""
    if type(fields) is not dict:
        return ()
    # most layouts know more names than a message has members
    there = [alarm for alarm in layout.alarms if alarm.outermost in fields and _raised(fields, alarm)]
    return tuple(dict.fromkeys([alarm.flag for alarm in there])) if there else ()


def past_marked(readings: list[MeterReading]) -> list[MeterReading]:
    """One register's values, all but the newest marked historic."""
    newest = max((reading.measured_at for reading in readings if reading.measured_at), default=None)
    return [
        reading._replace(flags=(*reading.flags, HISTORIC))
        if newest and reading.measured_at and reading.measured_at < newest and HISTORIC not in reading.flags
        else reading
        for reading in readings
    ]


def settled(
    envelope: Envelope,
    readings: list[MeterReading],
    refused: list[Refused],
    alarms: tuple[str, ...],
    at: datetime | None,
    source: TimeSource,
) -> Decoded:
    """What a message amounts to: registers with the alarms that hold now, alarms alone, refusals, or nothing."""
    if readings:
        if not alarms:
            return Decoded("readings", readings, refused)
        live = [r if HISTORIC in r.flags else r._replace(flags=(*r.flags, *alarms)) for r in readings]
        if all(HISTORIC in reading.flags for reading in live):
            live.append(MeterReading(envelope.device, ALARM, None, None, at, source, alarms))
        return Decoded("readings", live, refused)
    if refused:
        return Decoded("quarantine", [], refused, refused[0].reason, refused[0].detail)
    if alarms:
        return Decoded("event_only", [MeterReading(envelope.device, ALARM, None, None, at, source, alarms)])
    return Decoded("no_reading", reason="no_register", detail="the object holds no register that the decoder knows")


def about(envelope: Envelope, fields: Any) -> Envelope:
    """The same envelope around another object."""
    return replace(envelope, fields=fields)


def fits(layout: JsonMapping, fields: Any) -> bool:
    """Whether the object holds everything that makes the layout known."""
    # asked of every message that no narrower decoder knows: the first path that is missing ends it
    for path in layout.requires:
        if _at(fields, path) is _ABSENT:
            return False
    return bool(layout.requires)


def from_config(options: Any) -> JsonMapping:
    """A utility's own layout from a registry entry. Raises Malformed bad_mapping, naming what does not fit."""
    try:
        fields = tuple(Field(**_spec(item)) for item in options["fields"])
        alarms = tuple(Alarm(**_spec(item)) for item in options.get("alarms", ()))
        return JsonMapping("mapping", "Own mapping", fields, alarms, time_path=options.get("time_path"))
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise Malformed("bad_mapping", f"the device's mapping cannot be used: {error}") from None


def _spec(item: Any) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in dict(item).items()}


def _own(envelope: Envelope, config: DeviceConfig) -> Decoded:
    if not isinstance(envelope.fields, dict):
        raise Malformed("no_object", "the message carries no decoded object")
    return apply(from_config(config.options.get("mapping")), envelope, config)


DECODER = DeviceDecoder("mapping", "1", "The mapping in the device's registry entry", None, _own)
