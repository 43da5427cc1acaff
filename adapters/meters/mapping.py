"""The declarative decoder: where in a JSON object the register, its unit, its time and its alarms stand. Pure.

A `JsonMapping` is data. The codecs that publish documented objects are declared in `JSON_MAPPINGS`; a utility declares
its own in a device's registry entry (`config.mapping`, decoder `mapping`). A unit comes from the mapping, from the
payload or from the registry; from nowhere else.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from adapters import strict
from adapters.contracts import (
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
    sentinels: tuple[Decimal, ...] = (
        Decimal("-2147483.648"),
        Decimal("-32.768"),
        Decimal(4294967295),
        Decimal("4294967.295"),
    )


def _at(value: Any, path: str) -> Any:
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
    amount = strict.number(value, field.path)
    if amount in layout.sentinels:
        raise Malformed("sentinel", f"{field.path} holds the device's word for 'no value'")
    unit = field.unit
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
        newest = max((r.measured_at for r in found if r.measured_at), default=None)
        readings += [
            r._replace(flags=("q:historic",)) if newest and r.measured_at and r.measured_at < newest else r
            for r in found
        ]
    alarms = tuple(dict.fromkeys(alarm.flag for alarm in layout.alarms if _raised(envelope.fields, alarm)))
    if alarms and readings:
        readings = [r if "q:historic" in r.flags else r._replace(flags=r.flags + alarms) for r in readings]
    if readings:
        return Decoded("readings", readings, refused)
    if refused:
        return Decoded("quarantine", [], refused, refused[0].reason, refused[0].detail)
    if alarms:
        at, source = _time(envelope.fields, layout.time_path, envelope, config.time_zone)
        return Decoded("event_only", [MeterReading(envelope.device, "alarm", None, None, at, source, alarms)])
    return Decoded("no_reading", reason="no_register", detail="the object holds no register that the mapping knows")


_COMMON_ALARMS = tuple(
    Alarm(path, flag)
    for flag, paths in {
        "leak": ("leak", "leakage", "leak_detected", "leaking"),
        "burst": ("burst",),
        "backflow": ("backflow", "reverse_flow"),
        "tamper": ("tamper", "tampered"),
        "low_battery": ("low_battery", "lowBattery", "battery_low"),
        "dry": ("dry", "pipe_empty", "empty_pipe"),
    }.items()
    for path in paths
)

JSON_MAPPINGS: tuple[JsonMapping, ...] = (
    JsonMapping(
        "kamstrup_lorawan",
        "Kamstrup LoRaWAN meters, list of typed values",
        (Field("Value", unit_path="Unit", time_path="Timestamp", each="values", where=("Type", "Volume")),),
        tuple(
            Alarm("Value", flag, each="values", where=("Type", word))
            for word, flag in {
                "Dry": "dry",
                "Reverse": "backflow",
                "Leak": "leak",
                "Burst": "burst",
                "Tamper": "tamper",
                "Low Battery": "low_battery",
            }.items()
        ),
        requires=("values", "latestVolume"),
    ),
    JsonMapping(
        "innotas_wm",
        "Innotas LoRa water meter (ZS: Zählerstand in m³)",
        (Field("ZS", unit="m3"),),
        (
            Alarm("STATUS.ERROR_LECK", "leak"),
            Alarm("STATUS.ERROR_SABOT", "tamper"),
            Alarm("STATUS.ERROR_BATT", "low_battery"),
        ),
        requires=("ZS", "STATUS.ERROR_LECK"),
    ),
    JsonMapping(
        "quandify_cubicmeter",
        "Quandify CubicMeter (totalVolume in litres)",
        (Field("decoded.totalVolume", unit="l"),),
        (Alarm("decoded.leakState", "leak", values=(2, 3)),),
        requires=("decoded.totalVolume", "decoded.leakState"),
    ),
    JsonMapping(
        "dragino_sw3l",
        "Dragino SW3L flow sensor (Water_flow_value in litres; other frames carry settings)",
        (Field("Water_flow_value", unit="l"), Field("Total_pulse", register="pulse_count", unit="count")),
        requires=("Water_flow_value",),
    ),
    JsonMapping(
        "thingpark_points",
        "ThingPark points, which state their unit",
        (Field("points.volume.record", unit_path="points.volume.unitId"),),
        requires=("points.volume.record", "points.volume.unitId"),
    ),
    JsonMapping(
        "volume_m3",
        "Objects whose member names state the unit, or that carry one beside the value",
        (
            Field("total_volume_m3", unit="m3"),
            Field("current_volume_m3", unit="m3"),
            Field("volume_m3", unit="m3"),
            Field("total_m3", unit="m3"),
            Field("total_volume_l", unit="l"),
            Field("volume_l", unit="l"),
            Field("total_l", unit="l"),
            Field("volume_gal", unit="gal"),
            Field("volume_cf", unit="cf"),
            Field("volume_ccf", unit="ccf"),
            Field("volume", unit_path="unit"),
            Field("totalVolume", unit_path="unit"),
            Field("total_volume", unit_path="unit"),
            Field("reading", unit_path="unit"),
            Field("index", unit_path="unit"),
            Field("pulses", register="pulse_count", unit="count"),
            Field("pulse_count", register="pulse_count", unit="count"),
            Field("pulseCount", register="pulse_count", unit="count"),
            Field("pulseCounter", register="pulse_count", unit="count"),
        ),
        _COMMON_ALARMS,
        time_path="measured_at",
    ),
)


def _first_only(decoded: Decoded) -> Decoded:
    """The widely shared layout lists spellings of one register: the first found is the register."""
    if len(decoded.readings) > 1:
        decoded.readings = decoded.readings[:1]
    return decoded


def _decoder(layout: JsonMapping) -> DeviceDecoder:
    def recognises(envelope: Envelope) -> bool:
        if not isinstance(envelope.fields, dict):
            return False
        if layout.requires:
            return all(_at(envelope.fields, path) is not _ABSENT for path in layout.requires)
        return any(_at(envelope.fields, field.path) is not _ABSENT for field in layout.fields)

    def decode(envelope: Envelope, config: DeviceConfig) -> Decoded:
        if not isinstance(envelope.fields, dict):
            raise Malformed("no_object", "the message carries no decoded object")
        decoded = apply(layout, envelope, config)
        return decoded if layout.requires else _first_only(decoded)

    return DeviceDecoder(layout.name, layout.version, layout.title, recognises, decode)


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


DECODERS: tuple[DeviceDecoder, ...] = (
    *(_decoder(layout) for layout in JSON_MAPPINGS),
    DeviceDecoder("mapping", "1", "The mapping in the device's registry entry", lambda envelope: False, _own),
)
